"""The VOC layout, as published: splits, palette labels with void borders, and SBD's MATLAB files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from densessl.data.label_maps import write_label_map
from densessl.data.sbd import find_sbd, read_sbd_label_map
from densessl.data.voc import VOC_CLASS_NAMES, find_voc_tree, open_voc, open_voc_tree, voc_splits
from densessl.errors import InputError, MissingInputError
from densessl.structures import ImageRef

TRAIN = ("2007_000032", "2007_000039")
VAL = ("2007_000033",)
SBD_TRAIN = ("2008_000002", "2007_000032", "2007_000033")  # SBD's lists overlap VOC's train and val
SBD_VAL = ("2008_000007",)


def bordered(class_index: int) -> np.ndarray:
    """A (10, 14) map: a box of one class with a void border."""
    labels = np.zeros((10, 14), dtype=np.uint8)
    labels[2:8, 3:11] = 255
    labels[3:7, 4:10] = class_index
    return labels


def save_mat(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"Segmentation": labels, "Boundaries": np.zeros((20, 1)), "CategoriesPresent": np.array([[1]])}
    savemat(path, {"GTcls": content}, do_compression=True)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """`VOCdevkit/VOC2012` as published, and SBD's `benchmark_RELEASE` beside `VOCdevkit`."""
    tree = tmp_path / "VOCdevkit" / "VOC2012"
    lists = tree / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (tree / "JPEGImages").mkdir()
    for name, stems in (("train", TRAIN), ("val", VAL), ("trainval", TRAIN + VAL), ("test", ("2008_000001",))):
        (lists / f"{name}.txt").write_text("\n".join(stems) + "\n")
    for stem in {*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL, "2008_000001"}:
        Image.new("RGB", (14, 10), (9, 99, 9)).save(tree / "JPEGImages" / f"{stem}.jpg")
    for number, stem in enumerate(TRAIN + VAL):
        write_label_map(tree / "SegmentationClass" / f"{stem}.png", bordered(8 + number))
    sbd = tmp_path / "benchmark_RELEASE" / "dataset"
    for number, stem in enumerate(sorted({*SBD_TRAIN, *SBD_VAL})):
        save_mat(sbd / "cls" / f"{stem}.mat", np.where(bordered(15 + number) == 255, 0, bordered(15 + number)))
    (sbd / "train.txt").write_text("\n".join(SBD_TRAIN))
    (sbd / "val.txt").write_text("\n".join(SBD_VAL))
    return tmp_path


@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_val_from_any_level(published: Path, place: str) -> None:
    image_set = open_voc(published / place, "val")
    assert image_set.class_names == VOC_CLASS_NAMES
    assert len(VOC_CLASS_NAMES) == 21
    assert [ref.stem for ref in image_set.images] == list(VAL)
    assert image_set.labels is not None
    np.testing.assert_array_equal(image_set.labels(image_set.images[0]), bordered(10))


def test_train_aug_is_made_of_train_and_sbd_without_val(published: Path) -> None:
    image_set = open_voc(published, "train_aug")
    stems = [ref.stem for ref in image_set.images]
    assert stems == ["2007_000032", "2007_000039", "2008_000002", "2008_000007"]
    assert image_set.labels is not None
    assert image_set.labels(image_set.images[0]).max() == 255  # VOC's own map, with its void border
    sbd_map = image_set.labels(image_set.images[2])
    assert sbd_map.dtype == np.int64
    assert np.unique(sbd_map).tolist() == [0, 17]
    assert voc_splits(open_voc_tree(published)) == ("test", "train", "train_aug", "trainval", "val")


def test_train_aug_prefers_its_own_folder_and_list(published: Path) -> None:
    tree = published / "VOCdevkit" / "VOC2012"
    (tree / "ImageSets" / "Segmentation" / "train_aug.txt").write_text(
        "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\n"
    )
    write_label_map(tree / "SegmentationClassAug" / "2007_000032.png", bordered(3))
    image_set = open_voc(published, "train_aug")
    assert image_set.labels is not None
    assert 3 in image_set.labels(image_set.images[0])
    train = open_voc(published, "train")
    assert train.labels is not None
    assert 3 not in train.labels(train.images[0])


def test_train_aug_without_sbd_says_what_to_get(published: Path) -> None:
    (published / "benchmark_RELEASE" / "dataset" / "val.txt").unlink()
    with pytest.raises(MissingInputError, match=r"without .*dataset.val\.txt; put SBD"):
        open_voc(published, "train_aug")
    (published / "benchmark_RELEASE").rename(published / "elsewhere")
    with pytest.raises(MissingInputError, match="without SBD"):
        open_voc(published, "train_aug")


def test_sbd_inside_the_tree(published: Path) -> None:
    (published / "benchmark_RELEASE" / "dataset").rename(published / "VOCdevkit" / "VOC2012" / "SBD")
    assert len(open_voc(published, "train_aug")) == 4
    assert find_sbd([published / "none"]) is None


def test_labels_of_one_image_missing(published: Path) -> None:
    tree = published / "VOCdevkit" / "VOC2012"
    (tree / "SegmentationClass" / f"{TRAIN[0]}.png").unlink()
    image_set = open_voc(published, "train")
    assert image_set.labels is not None
    with pytest.raises(MissingInputError, match=rf"no label of image {TRAIN[0]} in .*SegmentationClass"):
        image_set.labels(image_set.images[0])
    assert image_set.labels(image_set.images[1]).max() == 255


def test_split_without_any_label_has_none(published: Path) -> None:
    assert open_voc(published, "test").labels is None
    (published / "VOCdevkit" / "VOC2012" / "SegmentationClass").rename(published / "gone")
    assert open_voc(published, "val").labels is None


def test_reader_survives_pickling(published: Path) -> None:
    image_set = pickle.loads(pickle.dumps(open_voc(published, "val")))
    assert image_set.labels(image_set.images[0]).shape == (10, 14)


def test_absent_images(published: Path) -> None:
    images = published / "VOCdevkit" / "VOC2012" / "JPEGImages"
    (images / f"{TRAIN[0]}.jpg").unlink()
    assert open_voc(published, "train").images[0].path == images / f"{TRAIN[0]}.jpg"
    (images / f"{TRAIN[1]}.jpg").unlink()
    with pytest.raises(MissingInputError, match="none of the 2 images of split train"):
        open_voc(published, "train")


def test_value_above_the_classes(published: Path) -> None:
    write_label_map(published / "VOCdevkit/VOC2012/SegmentationClass" / f"{VAL[0]}.png", bordered(21))
    image_set = open_voc(published, "val")
    assert image_set.labels is not None
    with pytest.raises(InputError, match=r"holds the value 21; values must be 0-20 or 255"):
        image_set.labels(image_set.images[0])


def test_own_class_names_and_suffixes(published: Path) -> None:
    tree = published / "VOCdevkit" / "VOC2012"
    (tree / "class_names.txt").write_text("background\nsquare\n\n")
    (tree / "JPEGImages" / f"{VAL[0]}.jpg").unlink()
    Image.new("RGB", (14, 10)).save(tree / "JPEGImages" / f"{VAL[0]}.PNG")
    image_set = open_voc(tree, "val")
    assert image_set.class_names == ("background", "square")
    assert image_set.images[0].path.suffix == ".PNG"
    assert image_set.labels is not None
    with pytest.raises(InputError, match="holds the value 10; values must be 0-1"):
        image_set.labels(image_set.images[0])
    (tree / "class_names.txt").write_text("a\na\n")
    with pytest.raises(InputError, match="holds 2 names, 1 of them different"):
        open_voc(tree, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a\nb\na\n", "names image a twice"),
        ("../../etc/passwd\n", "a line is an image name below JPEGImages"),
        ("/etc/passwd\n", "a line is an image name below JPEGImages"),
    ],
)
def test_bad_lists(published: Path, text: str, message: str) -> None:
    (published / "VOCdevkit/VOC2012/ImageSets/Segmentation/own.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        open_voc(published, "own")


def test_unknown_split_lists_the_known(published: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="splits there: test, train, train_aug, trainval, val"):
        open_voc(published, "validation")
    with pytest.raises(MissingInputError, match=r"no VOC tree at .*JPEGImages"):
        open_voc(tmp_path / "nothing", "val")


def test_two_trees(published: Path) -> None:
    (published / "VOCdevkit" / "VOC2007" / "ImageSets" / "Segmentation").mkdir(parents=True)
    assert find_voc_tree(published) == published / "VOCdevkit" / "VOC2012"
    (published / "VOCdevkit" / "VOC2012").rename(published / "VOCdevkit" / "VOC2010")
    with pytest.raises(InputError, match="holds several VOC trees"):
        find_voc_tree(published)


def test_broken_mat_files(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with pytest.raises(MissingInputError, match="GTcls"):
        read_sbd_label_map(path)
    savemat(path, {"other": np.zeros((2, 2))})
    with pytest.raises(InputError, match="expected a struct GTcls"):
        read_sbd_label_map(path)
    savemat(path, {"GTcls": {"Segmentation": np.array([["text"]], dtype=object)}})
    with pytest.raises(InputError, match="expected a struct GTcls"):
        read_sbd_label_map(path)
    save_mat(path, bordered(4))
    np.testing.assert_array_equal(read_sbd_label_map(path), bordered(4))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 50, 130, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match="cannot be read"):
            read_sbd_label_map(path)
    for _ in range(40):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] = int(rng.integers(256))
        path.write_bytes(bytes(damaged))
        try:
            read_sbd_label_map(path)
        except InputError:
            continue


@pytest.mark.real_data
def test_real_tree(real_data: Path) -> None:
    image_set = open_voc(real_data / "voc_animals", "val")
    assert len(image_set) == 222
    assert image_set.labels is not None
    assert image_set.labels(ImageRef(image_set.images[0].stem, image_set.images[0].path)).max() == 255
