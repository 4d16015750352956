"""Judge runs without any label, to choose between recipes: do clusters respect the neighbourhoods of raw features?

    python -m benchmarks.label_free --runs RUN [RUN ...] --data ROOT --masks DIR --num_clusters 7

For each run, prototypes of the training images are clustered (protocol `native`) and two numbers are appended to
results/label_free.jsonl: the modularity (Newman 2006, PNAS 103:8577, equation 1, for a directed graph with the same
number of edges at each node) of the clusters on the graph of ten nearest neighbours by the encoder's features before
training, and the silhouette. Both read images and masks of the training split alone.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rows import append_row
from densessl.data.layouts import open_images
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.evaluation.clustering import cluster_prototypes, silhouette, stability
from densessl.evaluation.extraction import EmbeddedImage, embed_images
from densessl.evaluation.neighbours import nearest_neighbours
from densessl.evaluation.network_features import FeatureMap, NetworkFeatures
from densessl.evaluation.protocols import protocol_by_name
from densessl.models.precision import on_device
from densessl.structures import ImageRef
from densessl.training.run_folder import load_run_model

NUM_NEIGHBOURS = 10
COMBINATIONS: tuple[tuple[str, FeatureMap], ...] = (
    ("initial", "encoder"),
    ("final", "encoder"),
    ("final", "embedding"),
)


def main() -> None:
    """Judge every run."""
    arguments = _parse()
    images = open_images(None, arguments.data, arguments.split).images[:: arguments.every]
    masks = open_mask_folder(arguments.masks, images)
    for run in arguments.runs:
        graph = None
        for weights, features in COMBINATIONS:
            vectors = _embed(run, weights, features, images, masks, arguments.image_size)
            if graph is None:
                graph = nearest_neighbours(vectors, NUM_NEIGHBOURS)
            protocol = protocol_by_name("native", arguments.image_size)
            found = [cluster_prototypes(vectors, arguments.num_clusters - 1, protocol, seed) for seed in range(3)]
            values = [modularity(item.assignments, graph) for item in found]
            row = append_row(
                arguments.results,
                {
                    "benchmark": "label_free",
                    "run": run.name,
                    "weights": weights,
                    "features": features,
                    "num_images": len(images),
                    "modularity": round(statistics.mean(values), 4),
                    "modularity_std": round(statistics.stdev(values), 4),
                    "silhouette": round(silhouette(vectors, found[0]) or 0.0, 4),
                    "stability": round(stability([item.assignments for item in found]), 3),
                },
            )
            print(json.dumps({key: row[key] for key in ("run", *list(row)[2:8])}), flush=True)


def modularity(clusters: NDArray[np.int64], neighbours: NDArray[np.int64]) -> float:
    """Return the share of edges within clusters less the share expected if edges ended at random.

    Args:
        clusters: (num,), cluster of each node.
        neighbours: (num, num_neighbours), the nodes each node points to.
    """
    num_clusters = int(clusters.max()) + 1
    edges = np.zeros((num_clusters, num_clusters))
    np.add.at(edges, (np.repeat(clusters, neighbours.shape[1]), clusters[neighbours].ravel()), 1)
    edges /= edges.sum()
    return float(np.trace(edges) - (edges.sum(0) * edges.sum(1)).sum())


def _embed(
    run: Path, weights: str, features: FeatureMap, images: tuple[ImageRef, ...], masks: MaskFolder, size: int | None
) -> NDArray[np.float32]:
    model, _ = load_run_model(run, "initial" if weights == "initial" else "final")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encode = NetworkFeatures(on_device(model, device), features)
    protocol = protocol_by_name("native", size)
    embedded = embed_images(images, encode, protocol, "masks", masks, num_workers=2, device=device)
    return np.stack([item.vectors.sum(axis=0) for item in embedded if isinstance(item, EmbeddedImage)])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="train_aug")
    parser.add_argument("--masks", type=Path, required=True, help="masks of the split, such as RUN/proposals")
    parser.add_argument("--num_clusters", type=int, default=7, help="background included")
    parser.add_argument("--every", type=int, default=3, help="use every so many images")
    parser.add_argument("--image_size", type=int, default=None)
    parser.add_argument("--results", type=Path, default=Path("results/label_free.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
