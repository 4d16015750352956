"""Protocols over all pixels: planted scenes, equality with plain loops written from the published evaluations."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from densessl.errors import InputError
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.pixel_clusters import confusions_of_pixels, fit_pixels, predict_pixels, scored_labels
from densessl.evaluation.pixel_protocols import LEOPART, STEGO320, LeopartSettings, over_clustered
from densessl.evaluation.projection import project
from densessl.evaluation.scores import scores_from_confusion

STEGO = replace(STEGO320, label_size_px=(32, 32))
OVER = replace(LEOPART, num_clusters=12, label_size_px=(10, 10))
BOTH = pytest.mark.parametrize("protocol", [STEGO, OVER], ids=lambda p: p.name)


def scenes(num: int = 6, num_classes: int = 4, dim: int = 8) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Features on an 8x8 grid of classes in quadrants, and label maps 8 times as large with a void row."""
    rng = np.random.default_rng(0)
    directions = 3 * np.eye(dim)[:num_classes]
    made = []
    for _ in range(num):
        grid = np.kron(rng.integers(0, num_classes, (2, 2)), np.ones((4, 4), dtype=np.int64))
        features = directions[grid].transpose(2, 0, 1) + 0.2 * rng.normal(size=(dim, 8, 8))
        labels = np.kron(grid, np.ones((8, 8), dtype=np.int64))
        labels[32] = 255
        made.append((features.astype(np.float32), labels))
    return made


def features_of(made: list[tuple[NDArray, NDArray]]) -> Iterator[NDArray]:
    return (features for features, _ in made)


@BOTH
def test_planted_scenes_are_found_without_labels(protocol: object) -> None:
    assert isinstance(protocol, type(STEGO))
    made = scenes()
    number = protocol.number_of_clusters(4)
    found = fit_pixels(lambda: features_of(made), number, protocol, range(2))
    assert [clustering.seed for clustering in found] == [0, 1]
    confusions = confusions_of_pixels(made, found, protocol, 4)
    for clustering, confusion in zip(found, confusions, strict=True):
        assert clustering.num_clusters == number
        assert confusion.shape == (4, number)
        scores = scores_from_confusion(confusion, len(made), protocol.match_rule(number, 4))
        assert scores.miou > 0.97
    again = fit_pixels(lambda: features_of(made), number, protocol, [1])[0]
    assert np.array_equal(again.centroids, found[1].centroids)


def test_numbers_and_rules() -> None:
    assert STEGO320.number_of_clusters(27) == 27
    assert LEOPART.number_of_clusters(21) == 500
    assert LEOPART.number_of_clusters(21, 21) == 21
    assert (STEGO320.match_rule(21, 21), STEGO320.match_rule(27, 21)) == ("hungarian_counts", "hungarian_counts")
    assert (LEOPART.match_rule(500, 21), LEOPART.match_rule(21, 21)) == ("majority", "hungarian")
    with pytest.raises(InputError, match="num_clusters is 1"):
        STEGO320.number_of_clusters(1)


def test_any_number_of_clusters_is_asked_for() -> None:
    assert over_clustered(LeopartSettings()) == LEOPART
    asked = over_clustered(LeopartSettings(21))
    assert (asked.number_of_clusters(21), asked.match_rule(21, 21)) == (21, "hungarian")
    with pytest.raises(InputError, match=r"leopart.num_clusters is 1; .* at least 2"):
        LeopartSettings(1)


def test_similarities_equal_cosines_of_upsampled_features() -> None:
    made = scenes()
    found = fit_pixels(lambda: features_of(made), 4, STEGO, [0])[0]
    assert np.linalg.norm(found.centroids, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    features = torch.from_numpy(made[0][0])
    upsampled = functional.interpolate(features[None], size=(32, 32), mode="bilinear")[0]
    cosines = torch.einsum("dhw,kd->khw", functional.normalize(upsampled, dim=0), torch.from_numpy(found.centroids))
    assert np.mean(predict_pixels(made[0][0], found, STEGO) == cosines.argmax(dim=0).numpy()) > 0.999


def test_labels_of_clusters_are_resized_as_published() -> None:
    made = scenes()
    found = fit_pixels(lambda: features_of(made), 12, OVER, [0])[0]
    vectors = made[0][0].reshape(8, -1).T
    squared = ((project(vectors, found.projection)[:, None] - found.centroids[None]) ** 2).sum(-1)
    grid = torch.from_numpy(squared.argmin(1).reshape(1, 1, 8, 8)).float()
    expected = functional.interpolate(grid, size=(10, 10), mode="nearest")[0, 0].long().numpy()
    assert np.array_equal(predict_pixels(made[0][0], found, OVER), expected)
    masks = torch.from_numpy(made[0][1])[None, None].float()
    expected = functional.interpolate(masks, size=(10, 10), mode="nearest")[0, 0].long().numpy()
    assert np.array_equal(scored_labels(made[0][1], OVER), expected)
    assert scored_labels(expected, OVER) is expected


def test_leopart_projection_standardises_and_keeps_fifty() -> None:
    made = scenes(dim=8)
    found = fit_pixels(lambda: features_of(made), 12, OVER, [0])[0]
    vectors = np.concatenate([features.reshape(8, -1).T for features in features_of(made)])
    projected = project(vectors, found.projection)
    assert projected.shape[1] == 8
    assert "8 dimensions instead of 50" in found.notes[0]
    assert projected.mean(axis=0) == pytest.approx(np.zeros(8), abs=1e-4)
    assert projected.var(axis=0).sum() == pytest.approx(8, rel=1e-4)  # each dimension had variance 1
    squared = ((projected[:, None] - found.centroids[None]) ** 2).sum(-1).min(1)
    assert found.inertia == pytest.approx(squared.sum(), rel=1e-3)  # all vectors are in the sample


@BOTH
def test_errors(protocol: object) -> None:
    assert isinstance(protocol, type(STEGO))
    made = scenes(1)
    with pytest.raises(InputError, match=r"64 (pixels|vectors) cannot form 65 clusters"):
        fit_pixels(lambda: features_of(made), 65, protocol, [0])
    broken = made[0][0].copy()
    broken[3, 1, 1] = np.nan
    with pytest.raises(InputError, match="1 of 64 features of image 1 are NaN"):
        fit_pixels(lambda: [made[0][0], broken], 2, protocol, [0])
    with pytest.raises(InputError, match=r"image 0 have shape \(8, 8\)"):
        fit_pixels(lambda: [made[0][0][0]], 2, protocol, [0])


def test_a_clustering_of_pixels_is_an_ordinary_one() -> None:
    made = scenes()
    assert all(isinstance(item, Clustering) for item in fit_pixels(lambda: features_of(made), 4, STEGO, range(2)))
