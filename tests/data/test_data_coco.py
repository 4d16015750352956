"""The COCO layout: polygons, run lengths, crowds, painting order, and parity with pycocotools' own reader."""

import contextlib
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from densessl.data.coco import CocoLabels, coco_splits, image_ids, open_coco, read_instances, result_category
from densessl.data.coco_segments import SegmentError, segment_to_mask
from densessl.errors import InputError, MissingInputError
from densessl.structures import ImageSet

BIG = [[0, 0, 6, 0, 6, 4, 0, 4]]  # rows 0-3, columns 0-5
SMALL = [[1, 1, 3, 1, 3, 3, 1, 3]]  # rows 1-2, columns 1-2
RIGHT_COLUMN = {"size": [5, 8], "counts": [35, 5]}


def annotation(number: int, category: int, segmentation: Any, iscrowd: int = 0) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": iscrowd,
        "area": 1,
    }


def write_tree(root: Path, annotations: list[dict[str, Any]], name: str = "val2017", **changes: Any) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 5, "width": 8}],
        "annotations": annotations,
        "categories": [{"id": 44, "name": "cup"}, {"id": 3, "name": "car"}],
        **changes,
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    (root / name).mkdir(exist_ok=True)
    Image.new("RGB", (8, 5)).save(root / name / "a.jpg")
    return root


def labels_of(image_set: ImageSet) -> np.ndarray:
    assert image_set.labels is not None
    return image_set.labels(image_set.images[0])


def test_ids_of_images_and_categories_are_kept(tmp_path: Path) -> None:
    size = {"height": 5, "width": 8}
    images = [{"id": 70, "file_name": "b/a.jpg", **size}, {"id": 9, "file_name": "a.jpg", **size}]
    tree = write_tree(tmp_path, [], images=images)
    image_set = open_coco(tree, "val")
    assert [ref.file_name for ref in image_set.images] == ["a.jpg", "b/a.jpg"]
    assert image_ids(image_set) == (9, 70)
    assert image_ids(replace(image_set, images=image_set.images[1:])) == (70,)
    assert image_ids(ImageSet("folder", image_set.images)) == (1, 2)
    assert result_category(image_set) == 3
    assert result_category(ImageSet("folder", image_set.images)) == 1
    write_tree(tmp_path, [], categories=[{"id": 0, "name": "all"}, {"id": 1, "name": "cup"}], images=images)
    assert result_category(open_coco(tree, "val")) == 1
    images[1]["id"] = 70
    write_tree(tmp_path, [], images=images)
    with pytest.raises(InputError, match=r"gives the images b/a and a the id 70; ids must differ"):
        open_coco(tree, "val")


def test_smaller_over_larger_crowd_is_ignored(tmp_path: Path) -> None:
    annotations = [annotation(1, 44, SMALL), annotation(2, 3, BIG), annotation(3, 3, RIGHT_COLUMN, iscrowd=1)]
    image_set = open_coco(write_tree(tmp_path, annotations), "val")
    expected = np.zeros((5, 8), dtype=np.int64)
    expected[:4, :6] = 1  # car, id 3
    expected[1:3, 1:3] = 2  # cup, id 44
    expected[:, 7] = 255
    np.testing.assert_array_equal(labels_of(image_set), expected)
    assert image_set.class_names == ("background", "car", "cup")
    instances = np.zeros((5, 8), dtype=np.int64)
    instances[:4, :6] = 2
    instances[1:3, 1:3] = 1
    np.testing.assert_array_equal(read_instances(image_set, image_set.images[0]), instances)


def test_hidden_objects_leave_no_gap_in_the_numbers(tmp_path: Path) -> None:
    annotations = [annotation(1, 3, SMALL), annotation(2, 44, SMALL), annotation(3, 3, BIG)]
    image_set = open_coco(write_tree(tmp_path, annotations), "val2017")
    assert np.unique(read_instances(image_set, image_set.images[0])).tolist() == [0, 1, 2]


def test_image_without_annotations_is_background(tmp_path: Path) -> None:
    image_set = open_coco(write_tree(tmp_path, []), "val2017")
    assert not labels_of(image_set).any()
    assert not read_instances(image_set, image_set.images[0]).any()


def test_reader_survives_pickling(tmp_path: Path) -> None:
    image_set = open_coco(write_tree(tmp_path, [annotation(1, 3, BIG)]), "val2017")
    np.testing.assert_array_equal(labels_of(pickle.loads(pickle.dumps(image_set))), labels_of(image_set))


def test_split_names(tmp_path: Path) -> None:
    write_tree(tmp_path, [])
    write_tree(tmp_path, [], name="train2017")
    assert coco_splits(tmp_path) == ("train2017", "val2017")
    assert open_coco(tmp_path, "val").name == "val2017"
    write_tree(tmp_path, [], name="val2014")
    with pytest.raises(MissingInputError, match=r"more than one \(val2014, val2017\) split val"):
        open_coco(tmp_path, "val")
    with pytest.raises(MissingInputError, match="no split test"):
        open_coco(tmp_path, "test")


def test_images_folder_below_images(tmp_path: Path) -> None:
    write_tree(tmp_path, [])
    (tmp_path / "images").mkdir()
    (tmp_path / "val2017").rename(tmp_path / "images" / "val2017")
    assert len(open_coco(tmp_path, "val")) == 1
    (tmp_path / "images" / "val2017" / "a.jpg").unlink()
    with pytest.raises(MissingInputError, match="none of the 1 images"):
        open_coco(tmp_path, "val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "lists no image"),
        ({"images": [{"id": 1, "file_name": "../a.jpg", "height": 5, "width": 8}]}, r"file_name '\.\./a\.jpg'"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "height": 0, "width": 8}]}, "height 0"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}]}, "not in the COCO instances format .KeyError: 'height'"),
        ({"images": [{"id": i, "file_name": "a.jpg", "height": 5, "width": 8} for i in (1, 2)]}, "a twice"),
        ({"categories": [{"id": 1, "name": "x"}]}, "category_id 3, which is not among"),
        ({"categories": [{"id": 3, "name": "x"}, {"id": 3, "name": "y"}]}, "ids must differ"),
        ({"images": 7}, "not in the COCO instances format"),
    ],
)
def test_bad_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_tree(tmp_path, [annotation(1, 3, BIG)], **changes)
    with pytest.raises(InputError, match=message):
        open_coco(tmp_path, "val2017")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "NoneType instead of polygons"),
        ([], "empty list"),
        ([[0, 0, 5, 5]], "a polygon of 4 numbers"),
        ([[0, 0, 5, 5, 1]], "a polygon of 5 numbers"),
        ([["a"] * 6], "something else than numbers"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "leaves the 5 x 8 image"),
        ([[float("nan")] * 6], "leaves the 5 x 8 image"),
        ({"size": [8, 5], "counts": [40]}, r"size \[8, 5\] in an image of \[5, 8\]"),
        ({"size": [5, 8], "counts": [39]}, "add up to 39 instead of 40"),
        ({"size": [5, 8], "counts": [-1, 41]}, "add up to 40"),
        ({"size": [5, 8], "counts": "12"}, "add up to 3 instead of 40"),
        ({"size": [5, 8], "counts": "o"}, "middle of a number"),
        ({"size": [5, 8], "counts": "\x07"}, "character"),
        ({"size": [5, 8], "counts": 4}, "neither a string nor"),
    ],
)
def test_bad_segments(tmp_path: Path, segmentation: Any, message: str) -> None:
    with pytest.raises(SegmentError, match=message):
        segment_to_mask(segmentation, 5, 8)
    image_set = open_coco(write_tree(tmp_path, [annotation(77, 3, segmentation)]), "val2017")
    with pytest.raises(InputError, match=r"annotation 77 of image a in .*correct or remove it"):
        labels_of(image_set)


def test_compressed_runs_of_random_masks() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (5, 8), (300, 217)):
        mask = rng.random((height, width)) < rng.random()
        runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        text = {"size": [height, width], "counts": runs["counts"].decode("ascii")}
        np.testing.assert_array_equal(segment_to_mask(text, height, width), mask)


def test_stray_annotations_are_counted(tmp_path: Path) -> None:
    stray = {**annotation(1, 3, BIG), "image_id": 99}
    labels = open_coco(write_tree(tmp_path, [stray]), "val2017").labels
    assert isinstance(labels, CocoLabels)
    assert labels.num_stray_annotations == 1


def test_errors_of_the_readers(tmp_path: Path) -> None:
    image_set = open_coco(write_tree(tmp_path, []), "val2017")
    with pytest.raises(InputError, match="has no instances"):
        read_instances(ImageSet("x", image_set.images), image_set.images[0])
    other = type(image_set.images[0])("b", tmp_path / "b.jpg")
    with pytest.raises(MissingInputError, match="image b is not listed"):
        read_instances(image_set, other)


@pytest.mark.real_data
def test_parity_with_pycocotools(real_data: Path) -> None:
    image_set = open_coco(real_data / "tiny_coco", "val")
    assert isinstance(image_set.labels, CocoLabels)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(image_set.labels.source)
    label_of = {identifier: label for label, identifier in enumerate(sorted(reference.getCatIds()), start=1)}
    for ref in image_set.images[:15]:
        annotations = reference.loadAnns(reference.getAnnIds(int(ref.stem)))
        painted = sorted(annotations, key=lambda entry: (-entry["iscrowd"], -int(reference.annToMask(entry).sum())))
        info = reference.imgs[int(ref.stem)]
        expected = np.zeros((info["height"], info["width"]), dtype=np.int64)
        for entry in painted:
            mask = reference.annToMask(entry) > 0
            expected[mask] = 255 if entry["iscrowd"] else label_of[entry["category_id"]]
        np.testing.assert_array_equal(image_set.labels(ref), expected)
