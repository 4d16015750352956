"""Finding the layout of a data set, and the report on its faults."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.data.layouts import check_data_set, open_data_set, open_images
from densessl.errors import InputError, MissingInputError


def make_voc(root: Path, **splits: str) -> Path:
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for split, stems in splits.items():
        (lists / f"{split}.txt").write_text("\n".join(stems.split()))
        for stem in stems.split():
            Image.new("RGB", (8, 5)).save(root / "JPEGImages" / f"{stem}.jpg")
            write_label_map(root / "SegmentationClass" / f"{stem}.png", np.full((5, 8), 15))
    return root


def make_coco(root: Path) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    square = [[1, 1, 4, 1, 4, 4, 1, 4]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 5, "width": 8}],
        "annotations": [{"id": 9, "image_id": 1, "category_id": 2, "segmentation": square, "iscrowd": 0}],
        "categories": [{"id": 2, "name": "cup"}],
    }
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    Image.new("RGB", (8, 5)).save(root / "val2017" / "a.jpg")
    return root


def test_layouts_are_found(tmp_path: Path) -> None:
    assert open_data_set(make_voc(tmp_path / "voc", val="a b"), "val").class_names[15] == "person"
    assert open_data_set(make_coco(tmp_path / "coco"), "val").class_names == ("background", "cup")


def test_no_layout_describes_both(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"SegmentationClass.*annotations/instances_<split>\.json"):
        open_data_set(tmp_path, "val")
    with pytest.raises(MissingInputError, match="no data folder"):
        open_data_set(tmp_path / "none", "val")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        open_data_set(tmp_path / "file", "val")


def test_exactly_one_source(tmp_path: Path) -> None:
    root = make_voc(tmp_path, val="a")
    assert open_images(root / "JPEGImages", None, "val").labels is None
    assert open_images(None, root, "val").labels is not None
    with pytest.raises(InputError, match="got neither"):
        open_images(None, None, "val")
    with pytest.raises(InputError, match="got both"):
        open_images(root, root, "val")


def test_clean_voc_tree(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = check_data_set(
        make_voc(tmp_path, train_aug="a b", val="c"), lambda done, total: calls.append((done, total))
    )
    assert [(count.name, count.num_images, count.num_labels) for count in report.splits] == [
        ("train_aug", 2, 2),
        ("val", 1, 1),
    ]
    assert (report.faults, report.notes) == ((), ())
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_images_shared_by_splits_are_checked_once(tmp_path: Path) -> None:
    root = make_voc(tmp_path, train="a", val="b", trainval="a b")
    (root / "JPEGImages" / "a.jpg").write_bytes(b"x")
    report = check_data_set(root)
    assert len([fault for fault in report.faults if "a.jpg" in fault]) == 1
    assert "trainval and val share 1 images (b), as the name says: fit to one, and the other is no test" in report.notes


def test_every_voc_fault_is_listed(tmp_path: Path) -> None:
    root = make_voc(tmp_path, train="ok big colour turned broken gone nolabel ok", val="ok", other="")
    labels, images = root / "SegmentationClass", root / "JPEGImages"
    write_label_map(labels / "big.png", np.full((5, 8), 21))
    Image.new("RGB", (8, 5), (128, 0, 0)).save(labels / "colour.png")
    write_label_map(labels / "turned.png", np.zeros((8, 5), dtype=np.int64))
    (images / "broken.jpg").write_bytes((images / "ok.jpg").read_bytes()[:200])
    (images / "gone.jpg").unlink()
    (labels / "nolabel.png").unlink()
    report = check_data_set(root)
    wanted = [
        "other: the list is empty",
        "train: 1 images are listed twice (ok)",
        f"train: 1 of 7 images have no image file in {images} (gone)",
        f"train: 1 of 7 images have no label map in {labels} (nolabel)",
        "holds the value 21",
        "has mode RGB",
        "train: label map of turned is 8 x 5, its image 5 x 8",
        "broken.jpg cannot be read",
    ]
    for text in wanted:
        assert len([fault for fault in report.faults if text in fault]) == 1, text
    assert len(report.faults) == len(wanted)
    notes = "\n".join(report.notes)
    assert "train and val share 1 images (ok)" in notes
    assert "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/" in notes
    assert "http://home.bharathh.info/pubs/codes/SBD/download.html" in notes
    assert "November 2025" in notes


@pytest.mark.parametrize("place", ["", "VOCdevkit/VOC2012"])
def test_incomplete_voc_tree(tmp_path: Path, place: str) -> None:
    (tmp_path / place / "JPEGImages").mkdir(parents=True)
    report = check_data_set(tmp_path)
    assert f"no folder {tmp_path / place / 'SegmentationClass'}" in report.faults
    assert f"no folder {tmp_path / place / 'ImageSets' / 'Segmentation'}" in report.faults
    assert any("host.robots.ox.ac.uk" in note for note in report.notes)


def test_own_tree_gets_no_addresses(tmp_path: Path) -> None:
    root = make_voc(tmp_path, train="a", val="b")
    (root / "class_names.txt").write_text("\n".join(f"class {number}" for number in range(16)))
    report = check_data_set(root)
    assert report.faults == ()
    assert report.notes == ("16 class names from class_names.txt",)


def test_coco_faults(tmp_path: Path) -> None:
    root = make_coco(tmp_path)
    assert check_data_set(root).faults == ()
    Image.new("RGB", (5, 8)).save(root / "val2017" / "a.jpg")
    assert "is 5 x 8, its image 8 x 5" in check_data_set(root).faults[0]
    (root / "train2017").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text("{}")
    assert any("not in the COCO instances format" in fault for fault in check_data_set(root).faults)
    (root / "val2017" / "a.jpg").unlink()
    assert any("none of the 1 images" in fault for fault in check_data_set(root).faults)
    for path in (root / "annotations").iterdir():
        path.unlink()
    assert "no instances file" in check_data_set(root).faults[0]


def test_plain_folder(tmp_path: Path) -> None:
    Image.new("RGB", (8, 5)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").touch()
    report = check_data_set(tmp_path)
    assert report.splits[0].num_images == 2
    assert len(report.faults) == 1
    assert "b.jpg is empty" in report.faults[0]
