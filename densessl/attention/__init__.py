"""What a vision transformer looks at: attention maps, rollout, principal components and similarity of patches."""
