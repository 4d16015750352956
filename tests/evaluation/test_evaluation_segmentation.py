"""Painting: masks by hand, sizes, ids that cannot be painted, and pixels against upsampled features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from densessl.errors import InputError
from densessl.evaluation.clustering import assign, cluster_pixels
from densessl.evaluation.protocols import NATIVE
from densessl.evaluation.segmentation import NO_CLUSTER, paint, resize_nearest, segment_pixels


def test_paint_by_hand() -> None:
    instances = np.array([[0, 1, 2], [3, 3, 0]])
    label_map = paint(instances, [5, 0, NO_CLUSTER])
    assert label_map.tolist() == [[0, 6, 1], [0, 0, 0]]
    assert label_map.dtype == np.int64
    assert paint(np.array([[True, False]]), [19]).tolist() == [[20, 0]]
    assert paint(np.zeros((2, 2), dtype=np.int64), []).tolist() == [[0, 0], [0, 0]]


def test_paint_at_native_size() -> None:
    instances = np.array([[0, 1], [2, 0]])
    label_map = paint(instances, [4, 7], size=(4, 6))
    assert label_map.shape == (4, 6)
    assert label_map[:2, 3:].tolist() == [[5, 5, 5], [5, 5, 5]]
    assert label_map[2:, :3].tolist() == [[8, 8, 8], [8, 8, 8]]


@pytest.mark.parametrize("size", [(3, 8), (7, 2), (5, 5), (11, 13), (1, 1)])
def test_nearest_equals_torch(size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 9, (5, 7))
    theirs = functional.interpolate(torch.from_numpy(values)[None, None].double(), size=size, mode="nearest-exact")
    assert np.array_equal(resize_nearest(values, size), theirs[0, 0].numpy())


def test_paint_errors() -> None:
    with pytest.raises(InputError, match="mask 2 but only 1 cluster ids"):
        paint(np.array([[2]]), [0])
    with pytest.raises(InputError, match="cluster 254 cannot be painted; clusters are 0-253"):
        paint(np.array([[1]]), [254])
    with pytest.raises(InputError, match="cluster -2 cannot be painted"):
        paint(np.array([[1]]), [-2])
    with pytest.raises(InputError, match="instance -1 is negative"):
        paint(np.array([[-1]]), [0])


def test_pixels_equal_clusters_of_upsampled_features() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 5, 7, generator=generator)
    protocol = replace(NATIVE, is_input_normalised=False, is_projection_normalised=False, pca_dim=6)
    clustering = cluster_pixels(features.flatten(1).T.numpy(), 4, protocol, seed=0)
    upsampled = functional.interpolate(features[None], size=(15, 20), mode="bilinear")[0]
    expected = assign(upsampled.flatten(1).T.numpy(), clustering).reshape(15, 20)
    assert np.mean(segment_pixels(features, clustering, (15, 20)) == expected) > 0.99
    assert np.array_equal(segment_pixels(features, clustering, (5, 7)), clustering.assignments.reshape(5, 7))


def test_pixels_of_clusters_with_several_centroids() -> None:
    features = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0))
    protocol = replace(NATIVE, algorithm="agglomerative", pca_dim=None)
    clustering = cluster_pixels(features.flatten(1).T.numpy(), 3, protocol, seed=0)
    assert clustering.groups is not None
    assert np.array_equal(segment_pixels(features, clustering, (5, 7)), clustering.assignments.reshape(5, 7))
    assert set(np.unique(segment_pixels(features, clustering, (15, 20)))) <= {0, 1, 2}
