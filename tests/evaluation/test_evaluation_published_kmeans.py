"""The published k-means evaluation (arXiv:2102.06191), re-derived as one slow script, against the library."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from densessl.evaluation.clustering import cluster_prototypes
from densessl.evaluation.confusion import accumulate_confusion
from densessl.evaluation.protocols import MASKCONTRAST
from densessl.evaluation.prototypes import DenseFeatures, pool_prototypes, saliency_masks
from densessl.evaluation.scores import scores_from_confusion
from densessl.evaluation.segmentation import paint

NUM_CLASSES = 7
SIZE = (24, 24)  # where the logits live; label maps have other sizes


def make_dense_set(seed: int, num_images: int = 60) -> tuple[Tensor, Tensor, list[NDArray[np.int64]]]:
    """Embeddings (32-d, at full size), saliency logits, and label maps of other sizes, of noisy classes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(NUM_CLASSES, 32))
    features, logits, labels = [], [], []
    for i in range(num_images):
        present = 1 + i % (NUM_CLASSES - 1)
        top, left = rng.integers(2, 8, 2)
        inside = np.zeros(SIZE, dtype=bool)
        inside[top : top + 12, left : left + 10] = True
        logits.append(np.where(inside, 3.0, -3.0) + 1.5 * rng.normal(size=SIZE))
        features.append(centres[present][:, None, None] * inside + 1.5 * rng.normal(size=(32, *SIZE)))
        height, width = 30 + i % 3, 40
        rows, columns = np.arange(height) * 24 // height, np.arange(width) * 24 // width
        label = np.where(inside[np.ix_(rows, columns)], present, 0)
        label[rng.random(label.shape) < 0.05] = 255
        labels.append(label.astype(np.int64))
    return (
        torch.tensor(np.stack(features), dtype=torch.float32),
        torch.tensor(np.stack(logits), dtype=torch.float32),
        labels,
    )


def slow_published_miou(
    features: Tensor, logits: Tensor, labels: list[NDArray[np.int64]], num_clusters: int, seed: int
) -> float:
    """One number the published way: a pass over all pixels for every pair of class and cluster."""
    prototypes, painted = [], []
    for f, s in zip(features, logits, strict=True):
        foreground = (s > 0.5).reshape(-1)
        weighted = (s[None] * f).reshape(32, -1)[:, foreground]
        prototypes.append(functional.normalize(weighted.sum(1), dim=0).numpy())
    with threadpool_limits(limits=1):
        reduced = PCA(32, whiten=True, random_state=seed).fit_transform(np.stack(prototypes))
        kmeans = MiniBatchKMeans(num_clusters, batch_size=1000, n_init=3, random_state=seed)
        clusters = kmeans.fit_predict(reduced)
    for s, label, cluster in zip(logits, labels, clusters, strict=True):
        small = torch.where(s > 0.5, int(cluster) + 1, 0)
        resized = functional.interpolate(small[None, None].double(), size=label.shape, mode="nearest-exact")
        painted.append(resized[0, 0].long().numpy())
    truth, guess = np.concatenate([x.ravel() for x in labels]), np.concatenate([x.ravel() for x in painted])
    truth, guess = truth[truth != 255], guess[truth != 255]
    iou = np.zeros((num_clusters + 1, NUM_CLASSES))
    for cluster in range(num_clusters + 1):
        for k in range(NUM_CLASSES):
            tp = np.sum((guess == cluster) & (truth == k))
            fp = np.sum((guess == cluster) & (truth != k))
            fn = np.sum((guess != cluster) & (truth == k))
            iou[cluster, k] = tp / max(float(tp + fp + fn), 1e-8)
    if num_clusters + 1 == NUM_CLASSES:
        rows, columns = linear_sum_assignment(1 - iou)
        renamed = dict(zip(rows, columns, strict=True))
    else:
        renamed = {cluster: int(iou[cluster].argmax()) for cluster in range(num_clusters + 1)}
    final = np.array([renamed[g] for g in guess])
    per_class = []
    for k in range(NUM_CLASSES):
        tp = np.sum((final == k) & (truth == k))
        per_class.append(tp / max(float(np.sum((final == k) | (truth == k))), 1e-8))
    return float(np.mean(per_class))


def library_miou(
    features: Tensor, logits: Tensor, labels: list[NDArray[np.int64]], num_clusters: int, seed: int
) -> float:
    prototypes, masks = [], []
    for start in range(0, len(labels), 7):
        dense = DenseFeatures(features[start : start + 7], logits[start : start + 7])
        foreground = saliency_masks(dense)
        masks += foreground
        prototypes += [p.vectors[0] for p in pool_prototypes(dense, foreground, MASKCONTRAST.weighting)]
    clustering = cluster_prototypes(torch.stack(prototypes).numpy(), num_clusters, MASKCONTRAST, seed)
    maps = [
        paint(mask[0].numpy(), [int(cluster)], label.shape)
        for mask, cluster, label in zip(masks, clustering.assignments, labels, strict=True)
    ]
    confusion = accumulate_confusion(zip(labels, maps, strict=True), NUM_CLASSES, num_clusters + 1)
    rule = "hungarian" if num_clusters + 1 == NUM_CLASSES else "highest_iou"
    return scores_from_confusion(confusion, len(labels), rule).miou


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_clusters", [NUM_CLASSES - 1, 12])
def test_equals_published_evaluation(num_clusters: int, seed: int) -> None:
    dense_set = make_dense_set(seed)
    published = slow_published_miou(*dense_set, num_clusters, seed)
    assert 0.2 < published < 0.95
    assert library_miou(*dense_set, num_clusters, seed) == pytest.approx(published, abs=1e-6)
