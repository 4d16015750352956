"""AP and AR of connected regions: by hand, the rule for ignored pixels, where objects come from."""

from collections.abc import Sequence

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.coco_evaluation import CocoImage
from densessl.evaluation.image_objects import Instances, framed_instances
from densessl.evaluation.instance_scores import InstanceScores, score_instances
from densessl.evaluation.named_maps import name_maps, names_of_classes
from densessl.evaluation.named_objects import MAX_REGIONS, objects_of_maps

CLASSES = (0, 1, 2)
Box = tuple[int, int, int, int, int]


def drawn(*boxes: Box, size: tuple[int, int] = (12, 20)) -> np.ndarray:
    """Draw boxes (value, top, left, bottom, right) on background."""
    label_map = np.zeros(size, dtype=np.int64)
    for value, top, left, bottom, right in boxes:
        label_map[top:bottom, left:right] = value
    return label_map


def image_of(labels: np.ndarray, prediction: np.ndarray, truth: Instances | None = None) -> CocoImage:
    maps = name_maps(labels, prediction, names_of_classes(CLASSES, 256, 256))
    return objects_of_maps(maps, CLASSES, truth, "a")


def scored(images: Sequence[CocoImage]) -> InstanceScores:
    return score_instances(images, CLASSES, "drawn")


def test_equal_to_a_case_computed_by_hand() -> None:
    # Class 1: one object found whole (16 pixels), one half (4 of 8 pixels, IoU 0.5), and a region where nothing is
    # (6 pixels). By area: right, wrong, right at IoU 0.50 alone. Of 101 recalls, 51 are at most 1/2.
    first = image_of(
        drawn((1, 0, 0, 4, 4), (1, 6, 0, 8, 4)), drawn((1, 0, 0, 4, 4), (1, 6, 0, 7, 4), (1, 6, 10, 8, 13))
    )
    second = image_of(drawn((2, 2, 2, 6, 6)), drawn((2, 2, 10, 6, 16)))  # class 2: one object, missed
    found = scored([first, second])
    at_50, above = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert found.ap_per_class == pytest.approx(((at_50 + 9 * above) / 10, 0.0))
    assert found.ar_per_class == pytest.approx(((1 + 9 * 0.5) / 10, 0.0))
    assert (found.ap_50, found.ap_75) == pytest.approx((at_50 / 2, above / 2))
    assert (found.ap, found.ar_100) == pytest.approx(((at_50 + 9 * above) / 20, 0.275))
    assert (found.classes, found.num_objects, found.num_regions) == ((1, 2), 3, 4)


def test_a_class_without_objects_is_left_out_and_classes_do_not_mix() -> None:
    labels = drawn((1, 0, 0, 4, 4))
    assert scored([image_of(labels, labels)]).ap == pytest.approx(1.0)
    found = scored([image_of(labels, np.where(labels, 2, 0))])
    assert (found.ap, found.ar_100, found.classes) == (0.0, 0.0, (1,))
    assert scored([image_of(labels, labels), image_of(drawn(), drawn((2, 0, 0, 4, 4)))]).ap == pytest.approx(1.0)


def test_nothing_predicted_scores_nothing() -> None:
    found = scored([image_of(drawn((1, 0, 0, 4, 4)), drawn())])
    assert (found.ap, found.ar_100, found.num_regions) == (0.0, 0.0, 0)


def test_dividing_lines_of_the_labels_do_not_part_a_prediction() -> None:
    labels = drawn((1, 0, 0, 4, 4), (255, 0, 4, 4, 5), (1, 0, 5, 4, 9))
    image = image_of(labels, drawn((1, 0, 0, 4, 9)))
    assert (len(image.objects), len(image.found)) == (2, 1)
    assert image.found[0].score == pytest.approx(32 / 240)  # without the ignored column
    assert scored([image]).ap_50 == pytest.approx(51 / 101)  # one object at IoU 0.5, the other missed
    assert image_of(labels, drawn((1, 0, 4, 4, 5))).found == ()  # only where labels are ignored


def test_annotated_objects_may_touch() -> None:
    labels = drawn((1, 0, 0, 4, 8))
    halves = tuple(drawn((1, 0, left, 4, left + 4)) > 0 for left in (0, 4))
    nothing = np.zeros(labels.shape, dtype=bool)
    assert scored([image_of(labels, labels)]).ap == pytest.approx(1.0)
    image = image_of(labels, labels, Instances(halves, nothing))
    assert [mask.category for mask in image.objects] == [2, 2]  # places in the list of classes, from 1
    assert scored([image]).ap_50 == pytest.approx(51 / 101)
    told = image_of(labels, labels, Instances(halves, nothing, (1, 2)))
    assert [mask.category for mask in told.objects] == [2, 3]
    elsewhere = image_of(labels, labels, Instances((drawn((1, 8, 0, 9, 3)) > 0,), nothing))
    assert elsewhere.objects == ()  # on background
    covered = Instances(halves, halves[1])
    image = image_of(labels, labels, covered)
    assert (len(image.objects), image.found[0].score) == (1, pytest.approx(16 / 240))


def test_the_largest_regions_count() -> None:
    specks = np.zeros((40, 40), dtype=np.int64)
    specks[::2, ::2] = 1  # 400 of them
    specks[20:24, 20:24] = 1
    image = image_of(drawn((1, 20, 20, 24, 24), size=(40, 40)), specks)
    assert len(image.found) == MAX_REGIONS
    assert image.found[0].score == max(mask.score for mask in image.found)


def test_splinters_of_the_labels_are_ignored() -> None:
    size = (50, 60)  # 3 pixels are 0.1 %
    labels = drawn((1, 0, 0, 20, 20), (1, 30, 30, 31, 32), (2, 40, 0, 41, 3), size=size)
    image = image_of(labels, drawn((1, 0, 0, 20, 20), (1, 30, 28, 31, 32), size=size))
    assert [mask.category for mask in image.objects] == [2, 3]
    assert [mask.score for mask in image.found] == pytest.approx([400 / 3000, 2 / 3000])  # 2 of its 4 pixels ignored
    alone = image_of(labels, drawn((1, 30, 30, 31, 32), size=size))
    assert alone.found == ()
    tiny = Instances((labels == 1,), np.zeros(size, dtype=bool))  # annotated objects have any size
    assert image_of(labels, labels, tiny).objects[0].category == 2
    assert len(image_of(labels, labels, tiny).found) == 3


def test_objects_in_another_frame() -> None:
    found = framed_instances(
        Instances((drawn((1, 0, 0, 12, 6)) > 0,), drawn((1, 0, 18, 12, 20)) > 0, (2,)), lambda values: values[::2, :10]
    )
    assert found.masks[0].shape == found.ignored.shape == (6, 10)
    assert (int(found.masks[0].sum()), int(found.ignored.sum()), found.labels) == (36, 0, (2,))


def test_faults() -> None:
    with pytest.raises(InputError, match=r"no image has an object of the classes \[1, 2\]"):
        scored([image_of(drawn(), drawn((1, 0, 0, 4, 4)))])
    with pytest.raises(InputError, match="objects of image 'a' are 4x5, its labels 12x20"):
        image_of(drawn(), drawn(), Instances((), np.zeros((4, 5), dtype=bool)))
