"""From embeddings to scores: prototypes, clustering, matching, confusion. Draws nothing."""
