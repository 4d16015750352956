"""k-means on millions of vectors: time and inertia beside scikit-learn's KMeans and MiniBatchKMeans, in one run.

    python -m benchmarks.kmeans --images JPEGImages --weights mobilenet_v2.safetensors --num-vectors 5000000
    python -m benchmarks.kmeans --num-vectors 5000000

With --images the vectors are features of photographs: MobileNetV2 (torchvision's state dict) at a stride of 16 pixels,
over random crops and flips of every image at 320 pixels until there are enough, reduced to 64 dimensions by PCA.
Without, they are drawn from a planted mixture of Gaussians of unequal sizes and widths. All methods get the same
float32 array, one greedy k-means++ start (`fast` takes its own number of starts, on samples, which is its point), and
the default tolerances of scikit-learn, one after the other in one process. Inertia is computed for all by one
function, in float64. One row for each goes to results/kmeans.jsonl.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision  # type: ignore[import-untyped]
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch.nn import functional

from benchmarks.rows import append_row
from densessl.data.images import read_image
from densessl.evaluation.fast_kmeans import fast_kmeans
from densessl.machine import num_cores

DIM = 64
IMAGE_PX = 320
LAYERS = 14
"""Of MobileNetV2's `features`: the last at a stride of 16 pixels, 96 channels."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Vectors = NDArray[np.float32]


def main() -> None:
    """Time every method on the same vectors and append one row for each."""
    arguments = _parse()
    if arguments.images is None:
        data, vectors = "planted Gaussians", planted_vectors(arguments.num_vectors)
    else:
        data, vectors = "photographs, MobileNetV2", _photographs(arguments)
    for num_clusters in arguments.clusters:
        measure(arguments, data, vectors, num_clusters)


def measure(arguments: argparse.Namespace, data: str, vectors: Vectors, num_clusters: int) -> None:
    """Run the methods in turn, `KMeans` last, so that a run that is stopped has the others."""
    seed, threads = arguments.seed, arguments.threads or num_cores()

    def fast() -> tuple[Vectors, int]:
        found = fast_kmeans(vectors, num_clusters, seed, num_threads=threads)
        return found.centroids, found.num_passes

    def minibatch() -> tuple[Vectors, int]:
        found = MiniBatchKMeans(num_clusters, n_init=1, random_state=seed).fit(vectors)
        return found.cluster_centers_, found.n_steps_

    def kmeans() -> tuple[Vectors, int]:
        found = KMeans(num_clusters, n_init=1, random_state=seed).fit(vectors)
        return found.cluster_centers_, found.n_iter_

    methods: dict[str, Callable[[], tuple[Vectors, int]]] = {
        "fast": fast,
        "sklearn MiniBatchKMeans": minibatch,
        "sklearn KMeans": kmeans,
    }
    found: dict[str, dict[str, object]] = {}
    for name, method in methods.items():
        load, started = os.getloadavg()[0], time.perf_counter()
        with threadpool_limits(limits=threads):
            centroids, num_passes = method()
        seconds = time.perf_counter() - started
        found[name] = {"seconds": round(seconds, 2), "inertia": inertia(vectors, centroids), "passes": num_passes}
        found[name] |= {"load_average_before": round(load, 2), "load_average_after": round(os.getloadavg()[0], 2)}
        print(name, json.dumps(found[name]), flush=True)
    slowest = found["sklearn KMeans"]
    for name, values in found.items():
        about = {"benchmark": "kmeans", "data": data, "num_vectors": len(vectors), "dim": vectors.shape[1]}
        about |= {"num_clusters": num_clusters, "seed": seed, "num_threads": threads, "method": name}
        ratios = {
            "times_faster_than_kmeans": round(float(slowest["seconds"]) / float(values["seconds"]), 2),  # type: ignore[arg-type]
            "inertia_over_kmeans": round(float(values["inertia"]) / float(slowest["inertia"]), 6),  # type: ignore[arg-type]
        }
        append_row(arguments.results, {**about, **values, **ratios})


def inertia(vectors: Vectors, centroids: NDArray[np.floating], rows: int = 65536) -> float:
    """Return the sum of squared distances to the nearest centroid."""
    centres, total = centroids.astype(np.float32), 0.0
    for start in range(0, len(vectors), rows):
        block = vectors[start : start + rows]
        nearest = ((centres**2).sum(axis=1) - 2 * block @ centres.T).argmin(axis=1)
        total += float(((block - centres[nearest]).astype(np.float64) ** 2).sum())
    return total


def planted_vectors(num_vectors: int, num_parts: int = 60) -> Vectors:
    """Draw from Gaussians of unequal sizes and widths, which overlap."""
    rng = np.random.default_rng(0)
    centres, widths = rng.normal(size=(num_parts, DIM)), rng.uniform(0.4, 1.2, (num_parts, DIM))
    parts = rng.choice(num_parts, num_vectors, p=rng.dirichlet(np.full(num_parts, 2.0)))
    vectors = rng.standard_normal((num_vectors, DIM), dtype=np.float32)
    for start in range(0, num_vectors, 65536):
        block = slice(start, start + 65536)
        vectors[block] = centres[parts[block]] + widths[parts[block]] * vectors[block]
    return vectors


def _photographs(arguments: argparse.Namespace) -> Vectors:
    """Return the features of photographs, from the cache where there is one of that many vectors."""
    cache: Path | None = arguments.cache
    if cache is not None and cache.is_file():
        stored: Vectors = np.load(cache)
        if len(stored) >= arguments.num_vectors:
            return stored[: arguments.num_vectors]
    vectors = photograph_vectors(arguments.images, arguments.weights, arguments.num_vectors)
    if cache is not None:
        np.save(cache, vectors)
    return vectors


@torch.no_grad()
def photograph_vectors(images: Path, weights: Path, num_vectors: int) -> Vectors:
    """Return dense features of random crops of photographs, projected by a PCA of the first ones."""
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict({name: values.float() for name, values in load_file(weights).items()})
    body = network.features[:LAYERS].eval().to(memory_format=torch.channels_last)
    paths, rng = sorted(images.rglob("*.jpg")), np.random.default_rng(0)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    filled, vectors, first, pca = 0, np.empty((num_vectors, DIM), dtype=np.float32), [], None
    for path in _forever(paths, rng):
        image = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None].float()
        view = functional.interpolate(_crop(image, rng), size=(IMAGE_PX, IMAGE_PX), mode="bilinear", antialias=True)
        prepared = ((view / 255 - mean) / deviation).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = body(prepared)
        pixels = features[0].float().flatten(1).T.numpy()
        if pca is None:
            first.append(pixels)
            if len(first) < min(400, 1 + num_vectors // len(pixels)):
                continue
            pca, pixels = PCA(DIM).fit(np.concatenate(first)), np.concatenate(first)
        projected = pca.transform(pixels)[: num_vectors - filled]
        vectors[filled : filled + len(projected)] = projected
        filled += len(projected)
        if filled == num_vectors:
            break
    return vectors


def _forever(paths: list[Path], rng: np.random.Generator) -> Iterator[Path]:
    if not paths:
        raise SystemExit("no .jpg below --images")
    while True:
        for index in rng.permutation(len(paths)):
            yield paths[index]


def _crop(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return a random half to whole of the image, mirrored half of the time."""
    height, width = image.shape[2:]
    side = float(np.sqrt(rng.uniform(0.3, 1.0)))
    rows, columns = int(side * height), int(side * width)
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    crop = image[:, :, top : top + rows, left : left + columns]
    return crop.flip(3) if rng.random() < 0.5 else crop


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of JPEGs; without it vectors are drawn from Gaussians")
    parser.add_argument("--weights", type=Path, help="torchvision's MobileNetV2 as safetensors, with --images")
    parser.add_argument("--cache", type=Path, help="a .npy file that keeps the features of the photographs")
    parser.add_argument("--num-vectors", type=int, default=500_000)
    parser.add_argument("--clusters", nargs="+", type=int, default=[21, 100])
    parser.add_argument("--threads", type=int, default=0, help="0 takes the processors there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("results/kmeans.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
