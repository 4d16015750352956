"""Objects from COCO annotations, VOC object maps and connected regions."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.data.layouts import open_data_set
from densessl.errors import InputError
from densessl.evaluation.image_objects import connected_regions
from densessl.evaluation.saliency_instances import find_instances
from densessl.structures import IGNORE, ImageSet


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def coco_tree(root: Path, segmentations: list[object], crowd: int | None = None) -> ImageSet:
    (root / "val").mkdir(parents=True)
    Image.new("RGB", (10, 6)).save(root / "val" / "a.jpg")
    annotations = [
        {"id": number, "image_id": 1, "category_id": 3, "segmentation": segmentation, "iscrowd": int(number == crowd)}
        for number, segmentation in enumerate(segmentations)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 10}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "thing"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return open_data_set(root, "val")


def voc_tree(root: Path) -> ImageSet:
    (root / "JPEGImages").mkdir(parents=True)
    Image.new("RGB", (7, 2)).save(root / "JPEGImages" / "a.jpg")
    write_label_map(root / "SegmentationClass" / "a.png", np.array([[5, 5, 5, 5, 0, 255, 8], [0, 0, 0, 0, 0, 0, 8]]))
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    return open_data_set(root, "val")


def test_connected_regions_of_each_class() -> None:
    label_map = np.array([[1, 0, 2, 2], [0, 1, 0, 1], [IGNORE, 0, 0, 2]])
    regions = [np.argwhere(region).tolist() for region in connected_regions(label_map)]
    assert regions == [[[0, 0], [1, 1]], [[1, 3]], [[0, 2], [0, 3]], [[2, 3]]]  # diagonal neighbours are connected
    assert connected_regions(np.zeros((3, 4), dtype=np.int64)) == ()


def test_coco_annotations_may_overlap_and_crowds_are_left_out(tmp_path: Path) -> None:
    truth = coco_tree(tmp_path, [rectangle(0, 0, 6, 6), rectangle(2, 2, 5, 5), rectangle(6, 0, 10, 6)], crowd=2)
    source = find_instances(truth, truth.images, IGNORE)
    found = source.read(truth.images[0])
    assert source.description == "COCO annotations of instances_val.json, crowds left out"
    assert [int(mask.sum()) for mask in found.masks] == [36, 9]
    assert not found.ignored.any()


def test_broken_coco_annotation_is_named(tmp_path: Path) -> None:
    truth = coco_tree(tmp_path, [[[0, 0, 1]]])
    with pytest.raises(InputError, match=r"annotation 0 of image a in .*instances_val.json has a polygon of 3 numbers"):
        find_instances(truth, truth.images, IGNORE).read(truth.images[0])


def test_voc_object_maps(tmp_path: Path) -> None:
    truth = voc_tree(tmp_path)
    write_label_map(tmp_path / "SegmentationObject" / "a.png", np.array([[1, 1, 2, 2, 0, 255, 3], [0] * 6 + [3]]))
    source = find_instances(truth, truth.images, IGNORE)
    found = source.read(truth.images[0])
    assert source.description == "VOC object maps (SegmentationObject)"
    assert [int(mask.sum()) for mask in found.masks] == [2, 2, 2]
    assert np.argwhere(found.ignored).tolist() == [[0, 5]]


def test_regions_where_voc_has_no_object_maps(tmp_path: Path) -> None:
    truth = voc_tree(tmp_path)
    source = find_instances(truth, truth.images, IGNORE)
    assert source.description.startswith("connected regions of each class in the label maps; touching objects")
    found = source.read(truth.images[0])
    assert [int(mask.sum()) for mask in found.masks] == [4, 2]
    assert np.argwhere(found.ignored).tolist() == [[0, 5]]
    (tmp_path / "SegmentationObject").mkdir()
    incomplete = find_instances(truth, truth.images, IGNORE)
    assert "(SegmentationObject lacks 1 of 1 images)" in incomplete.description


def test_set_without_labels() -> None:
    with pytest.raises(InputError, match="split bare has no labels, so no objects"):
        find_instances(ImageSet("bare", ()), (), IGNORE)
