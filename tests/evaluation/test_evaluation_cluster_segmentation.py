"""Clusters to label maps and scores: order of prototypes, painting, labels checked, matching chosen."""

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.cluster_segmentation import (
    PIXELS_PER_IMAGE,
    cluster_ids,
    cluster_repeatedly,
    fitted_vectors,
    label_map_of,
    nearest_members,
    prototype_stems,
    read_label,
    score_clusterings,
)
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.extraction import EmbeddedImage, Extraction
from densessl.evaluation.projection import project
from densessl.evaluation.protocols import NATIVE
from densessl.structures import ImageRef, ImageSet, LabelMap

PROTOCOL = dataclasses.replace(NATIVE, pca_dim=None, num_initialisations=3)
SIZE = (8, 12)
DIRECTIONS = np.eye(4, dtype=np.float32)


def _masks() -> NDArray[np.int64]:
    instances = np.zeros(SIZE, dtype=np.int64)
    instances[1:5, 1:5], instances[4:8, 7:11] = 1, 2
    return instances


def _image(index: int, kinds: tuple[int, int]) -> EmbeddedImage:
    """An image with two masks whose prototypes point near two directions; a negative kind has none."""
    noise = np.random.default_rng(index).normal(0, 0.02, (2, 4))
    vectors = (DIRECTIONS[list(kinds)] + noise).astype(np.float32)
    has_prototype = np.array([kind >= 0 for kind in kinds])
    vectors[~has_prototype] = 0
    encoded = cv2.imencode(".png", _masks().astype(np.uint8))[1].tobytes()
    return EmbeddedImage(f"{index:02}", vectors, has_prototype, encoded, None, SIZE)


KINDS = [(0, 1), (1, 0), (0, -1), (1, 1), (0, 0)]


def _extraction() -> Extraction:
    return Extraction(tuple(_image(index, kinds) for index, kinds in enumerate(KINDS)), ())


def _labels(kinds: tuple[int, int]) -> LabelMap:
    return np.concatenate([[0], np.array(kinds) + 1])[_masks()]


def _image_set(wrong: int | None = None, num_classes: int = 3) -> ImageSet:
    refs = tuple(ImageRef(f"{index:02}", __file__) for index in range(len(KINDS)))  # type: ignore[arg-type]

    def read(ref: ImageRef) -> LabelMap:
        label_map = _labels(KINDS[int(ref.stem)])
        if wrong is not None:
            label_map[0, 0] = wrong
        return label_map

    return ImageSet("drawn", refs, tuple("abcdef"[:num_classes]), read)


def _clustered(num_clusters: int = 2) -> tuple[Clustering, ...]:
    return cluster_repeatedly(_extraction(), num_clusters, PROTOCOL, range(3))


def test_clusters_go_back_to_their_own_masks() -> None:
    extraction = _extraction()
    assert fitted_vectors(extraction).shape == (9, 4)
    assert prototype_stems(extraction) == ["00", "00", "01", "01", "02", "03", "03", "04", "04"]
    for found in _clustered():
        ids = cluster_ids(extraction, found)
        names = {0: ids[0][0], 1: ids[0][1], -1: -1}
        assert names[0] != names[1]
        assert [own.tolist() for own in ids] == [[names[first], names[second]] for first, second in KINDS]


def test_label_maps_show_the_clusters() -> None:
    extraction, (found, *_) = _extraction(), _clustered()
    ids = cluster_ids(extraction, found)
    painted = label_map_of(extraction.images[2], ids[2], found)
    assert painted[_masks() == 1].tolist() == [ids[2][0] + 1] * 16
    assert painted[_masks() != 1].max() == 0  # the second mask has no prototype and is background


def test_perfect_clusters_score_one_and_are_matched_one_to_one() -> None:
    scores = score_clusterings(_image_set(), _extraction(), _clustered(), (0, 1, 2))
    assert scores.miou == pytest.approx(1.0)
    assert len(scores.per_seed) == 3
    assert scores.miou_std == pytest.approx(0.0)
    assert scores.to_json()["match"] == "hungarian"


def test_without_the_background_among_the_classes_it_stands_for_none() -> None:
    scores = score_clusterings(_image_set(), _extraction(), _clustered(), (1, 2))
    first = scores.per_seed[0]
    assert first.match == "hungarian"  # two clusters, two classes
    assert first.assignment is not None
    assert first.assignment[0] is None
    assert sorted(first.assignment[1:]) == [1, 2]
    assert scores.miou == pytest.approx(1.0)


def test_more_clusters_than_classes_take_the_best_class() -> None:
    scores = score_clusterings(_image_set(), _extraction(), _clustered(4), (0, 1, 2))
    assert scores.to_json()["match"] == "highest_iou"
    assert scores.miou == pytest.approx(1.0)


def test_labels_out_of_range_and_no_labels_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"image '00' has label 7, but the data set has 3 classes \(0-2, ignored 255\)"
    ):
        score_clusterings(_image_set(wrong=7), _extraction(), _clustered(), (0, 1, 2))
    read_label(_image_set(wrong=255), _image_set().images[0])
    unlabelled = dataclasses.replace(_image_set(), labels=None)
    with pytest.raises(InputError, match=r"data set drawn has no labels to score against"):
        score_clusterings(unlabelled, _extraction(), _clustered(), (0, 1, 2))


def test_fewer_prototypes_than_clusters_are_refused() -> None:
    with pytest.raises(InputError, match=r"9 prototypes"):
        cluster_repeatedly(_extraction(), 20, PROTOCOL, range(1))


def test_nothing_embedded_is_refused() -> None:
    with pytest.raises(InputError, match=r"no image was embedded"):
        cluster_repeatedly(Extraction((), ()), 2, PROTOCOL, range(1))


def test_nearest_members_are_sorted_and_their_own() -> None:
    extraction, (found, *_) = _extraction(), _clustered()
    members = nearest_members(extraction, found, limit=3)
    assert [len(own) for own in members] == [3, 3]
    vectors = project(fitted_vectors(extraction), found.projection)
    for cluster, own in enumerate(members):
        distances = [distance for _, distance in own]
        assert distances == sorted(distances)
        everyone = np.linalg.norm(vectors[found.assignments == cluster] - found.centroids[cluster], axis=1)
        assert distances == pytest.approx(sorted(everyone)[:3], abs=1e-6)


def _pixel_image(index: int, grid: tuple[int, int] = (20, 15)) -> EmbeddedImage:
    """The left half points one way, the right half another."""
    features = np.random.default_rng(index).normal(0, 0.02, (4, *grid)).astype(np.float32)
    features[0, :, : grid[1] // 3] += 1
    features[1, :, grid[1] // 3 :] += 1
    nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=bool)
    return EmbeddedImage(f"{index:02}", *nothing, b"", features.astype(np.float16), (40, 30))


def test_pixels_are_clustered_where_there_are_no_masks() -> None:
    extraction = Extraction(tuple(_pixel_image(index) for index in range(3)), ())
    assert fitted_vectors(extraction).shape == (3 * PIXELS_PER_IMAGE, 4)
    assert np.array_equal(fitted_vectors(extraction), fitted_vectors(extraction))
    found = cluster_repeatedly(extraction, 2, PROTOCOL, range(2))
    truth = np.repeat([[0] * 10 + [1] * 20], 40, axis=0)
    refs = tuple(ImageRef(f"{index:02}", __file__) for index in range(3))  # type: ignore[arg-type]
    images = ImageSet("drawn", refs, ("left", "right"), lambda ref: truth)
    scores = score_clusterings(images, extraction, found, (0, 1))
    assert scores.miou > 0.97
    assert scores.to_json()["match"] == "hungarian"  # no background is set apart: two clusters, two classes
    painted = label_map_of(extraction.images[0], np.zeros(0, dtype=np.int64), found[0])
    assert painted.shape == (40, 30)
    assert set(np.unique(painted)) == {0, 1}
    assert nearest_members(extraction, found[0], 3) == [[], []]
