"""Tests of synthetic scenes: exact labels, and that only outline and pattern tell the classes apart."""

import cv2
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from densessl.data.synthetic import render_synthetic_image
from densessl.data.synthetic_placement import OBJECT_CLASSES
from densessl.data.synthetic_scenes import Scene, border_width_px, render_scene
from densessl.errors import InputError
from densessl.structures import IGNORE

NUM_CLASSES = len(OBJECT_CLASSES)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_synthetic_image(index, 48, seed=7) for index in range(240)]


def main_class(scene: Scene) -> int:
    return int(np.bincount(scene.classes[scene.instances == 1]).argmax())


def test_every_class_is_the_main_one_in_every_block(scenes: list[Scene]) -> None:
    classes = [main_class(scene) for scene in scenes]
    for start in range(0, 240, NUM_CLASSES):
        assert sorted(classes[start : start + NUM_CLASSES]) == list(range(1, NUM_CLASSES + 1))
    assert classes[:NUM_CLASSES] != classes[NUM_CLASSES : 2 * NUM_CLASSES]


def test_labels_hold_known_values_and_agree(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert set(np.unique(scene.classes)) <= {*range(NUM_CLASSES + 1), IGNORE}
        assert set(np.unique(scene.instances)) <= {0, 1, 2, 3, IGNORE}
        np.testing.assert_array_equal(scene.classes == IGNORE, scene.instances == IGNORE)
        np.testing.assert_array_equal(scene.classes == 0, scene.instances == 0)
        for instance in set(np.unique(scene.instances)) - {0, IGNORE}:
            assert np.unique(scene.classes[scene.instances == instance]).size == 1


def test_further_objects_are_there_and_mostly_of_the_same_class(scenes: list[Scene]) -> None:
    num_objects = [np.setdiff1d(scene.instances, [0, IGNORE]).size for scene in scenes]
    is_mixed = [np.setdiff1d(scene.classes, [0, IGNORE]).size > 1 for scene in scenes]
    assert set(num_objects) == {1, 2, 3}
    assert 0.25 < np.mean(np.array(num_objects) > 1) < 0.55
    assert 0 < np.mean(is_mixed) < 0.5 * np.mean(np.array(num_objects) > 1)


def test_the_main_object_covers_its_share(scenes: list[Scene]) -> None:
    shares = [np.mean(scene.instances == 1) for scene in scenes]
    assert min(shares) >= 0.08
    assert max(shares) <= 0.45
    assert max(shares) - min(shares) > 0.2


@pytest.mark.parametrize(("size_px", "width_px"), [(32, 1), (128, 1), (224, 2), (500, 5)])
def test_border_width_grows_with_the_image(size_px: int, width_px: int) -> None:
    assert border_width_px(size_px) == width_px


@pytest.mark.parametrize("size_px", [48, 224])
def test_every_object_is_separated_by_a_thin_ignored_border(size_px: int) -> None:
    for index in range(6):
        scene = render_synthetic_image(index, size_px, seed=2)
        is_void = scene.classes == IGNORE
        for instance in set(np.unique(scene.instances)) - {0, IGNORE}:
            grown = cv2.dilate(
                (scene.instances == instance).astype(np.uint8),
                np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8),
            )
            assert np.isin(scene.instances[grown > 0], [instance, IGNORE]).all()
        # two objects that touch have a border each, so the band is at most twice as wide, and an edge between
        depth = cv2.distanceTransform(np.pad(is_void, 1).astype(np.uint8), cv2.DIST_L2, 5)
        assert 1 <= depth.max() <= 2 * border_width_px(size_px) + 1
        assert 0.01 < is_void.mean() < 0.25


def test_a_third_of_the_images_is_not_square(scenes: list[Scene]) -> None:
    shapes = [scene.image.shape for scene in scenes]
    assert set(shapes) == {(48, 48, 3), (36, 48, 3), (48, 36, 3)}
    assert 0.2 < np.mean([height != width for height, width, _ in shapes]) < 0.45
    for scene in scenes:
        assert scene.classes.shape == scene.instances.shape == scene.image.shape[:2]
        assert scene.image.dtype == np.uint8


def test_mean_colour_says_nothing_about_the_class(scenes: list[Scene]) -> None:
    colours = np.array([scene.image[scene.instances == 1].mean(axis=0) for scene in scenes])
    classes = np.array([main_class(scene) for scene in scenes])
    for classifier in (LinearDiscriminantAnalysis(), KNeighborsClassifier(1)):
        accuracy = cross_val_score(classifier, colours, classes, cv=5).mean()
        assert accuracy < 0.21  # chance 0.125, four deviations of 240 draws above it


def test_the_object_is_not_simply_the_brighter_part(scenes: list[Scene]) -> None:
    is_brighter = [
        scene.image[scene.instances == 1].mean() > scene.image[scene.instances == 0].mean() for scene in scenes
    ]
    assert 0.3 < np.mean(is_brighter) < 0.7


def test_masks_lie_on_the_objects() -> None:
    """The strongest colour steps of a clean part of the picture fall on the mask's border, not beside it."""
    on_border, everywhere = [], []
    for index in range(24):
        scene = render_synthetic_image(index, 128, seed=0)
        grey = scene.image.mean(axis=2)
        step = np.hypot(*np.gradient(grey))
        border = scene.classes == IGNORE
        background = scene.classes == 0
        on_border.append(step[border].mean())
        everywhere.append(step[background].mean())
    assert np.mean(on_border) > 2 * np.mean(everywhere)


@pytest.mark.parametrize("size_px", [32, 1030])
def test_extreme_sizes_render(size_px: int) -> None:
    scene = render_scene(1, size_px, np.random.default_rng(0))
    assert max(scene.image.shape) == size_px
    assert 0.08 <= np.mean(scene.instances == 1) <= 0.45


@pytest.mark.parametrize("class_index", [0, NUM_CLASSES + 1])
def test_classes_that_there_are_not_are_refused(class_index: int) -> None:
    with pytest.raises(InputError, match=f"class_index is {class_index}, .* class 1-6"):
        render_scene(class_index, 32, np.random.default_rng(0))
