"""Ground truth of saliency: how files are read, and what is foreground."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.saliency_truth import foreground_of, only_classes, open_truth_folder
from densessl.structures import IGNORE, ImageSet


def write_grey(path: Path, values: object, depth: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype=depth)).save(path)


def masks_of(truth: ImageSet, ignore_index: int = IGNORE) -> list[tuple[list, list]]:
    if truth.labels is None:
        pytest.fail("the set has no labels")
    pairs = [foreground_of(truth.labels(ref), ignore_index) for ref in truth.images]
    return [(foreground.astype(int).tolist(), valid.astype(int).tolist()) for foreground, valid in pairs]


@pytest.mark.parametrize(
    ("values", "foreground", "valid"),
    [
        ([[0, 1, 1]], [[0, 1, 1]], [[1, 1, 1]]),
        ([[0, 255, 255]], [[0, 1, 1]], [[1, 1, 1]]),  # a mask, so 255 is no void
        ([[0, 1, 255]], [[0, 1, 0]], [[1, 1, 0]]),  # ids, so it is
        ([[0, 12, 255]], [[0, 1, 0]], [[1, 1, 0]]),
        ([[3, 0, 7]], [[1, 0, 1]], [[1, 1, 1]]),
        ([[0, 128, 129, 200, 255]], [[0, 0, 1, 1, 1]], [[1] * 5]),  # a mask with grey edges
    ],
)
def test_grey_files(values: list, foreground: list, valid: list, tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", values)
    assert masks_of(open_truth_folder(tmp_path, IGNORE)) == [(foreground, valid)]


def test_files_are_judged_together(tmp_path: Path) -> None:
    write_label_map(tmp_path / "sub" / "a.png", np.array([[0, 255]]))
    write_label_map(tmp_path / "b.png", np.array([[0, 5]]))
    truth = open_truth_folder(tmp_path, IGNORE)
    assert [ref.stem for ref in truth.images] == ["b", "sub/a"]
    assert masks_of(truth) == [([[0, 1]], [[1, 1]]), ([[0, 0]], [[1, 0]])]
    assert str(truth.labels) == "class ids (palette labels)"


def test_another_ignore_index(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.png", np.array([[0, 3, 7, 255]]))
    truth = open_truth_folder(tmp_path, 7)
    assert masks_of(truth, 7) == [([[0, 1, 0, 1]], [[1, 1, 0, 1]])]


@pytest.mark.parametrize("values", [[0, 1, 1], [0, 255, 255], [0, 100, 255]])
def test_masks_ignore_nothing_where_1_is_ignored(values: list, tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", [values])
    ((foreground, valid),) = masks_of(open_truth_folder(tmp_path, 1), 1)
    assert foreground == [[0, int(values[1] > 200 or values[2] == 1), 1]]
    assert valid == [[1, 1, 1]]


def test_trimap_with_its_middle_ignored(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", [[0, 128, 255]])
    assert masks_of(open_truth_folder(tmp_path, 128), 128) == [([[0, 0, 1]], [[1, 0, 1]])]


def test_many_grey_classes_need_to_be_called_ids(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", [[0, 3, 90, 255]])
    assert masks_of(open_truth_folder(tmp_path, IGNORE)) == [([[0, 0, 0, 1]], [[1, 1, 1, 1]])]
    assert masks_of(open_truth_folder(tmp_path, IGNORE, "ids")) == [([[0, 1, 1, 0]], [[1, 1, 1, 0]])]


def test_16_bit_masks(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", [[0, 255, 30000, 65535]], np.uint16)
    assert masks_of(open_truth_folder(tmp_path, IGNORE)) == [([[0, 0, 0, 1]], [[1, 1, 1, 1]])]


def test_stems_choose(tmp_path: Path) -> None:
    for stem in "abc":
        write_grey(tmp_path / f"{stem}.png", [[0, 1]])
    truth = open_truth_folder(tmp_path, IGNORE, stems=["c", "a", "z"])
    assert [ref.stem for ref in truth.images] == ["a", "c"]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no folder .*nowhere"):
        open_truth_folder(tmp_path / "nowhere", IGNORE)
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        open_truth_folder(tmp_path, IGNORE)
    write_grey(tmp_path / "b.png", [[0, 1]])  # the broken file is met again when it is read
    assert len(open_truth_folder(tmp_path, IGNORE)) == 2


def test_only_some_classes_count(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.png", np.array([[0, 3, 7, 255]]))
    truth = open_truth_folder(tmp_path, IGNORE)
    assert masks_of(only_classes(truth, (3,), IGNORE)) == [([[0, 1, 0, 0]], [[1, 1, 0, 0]])]
    assert masks_of(only_classes(truth, (0, 7, 3), IGNORE)) == masks_of(truth)
    assert str(only_classes(truth, (3, 7), IGNORE).labels).endswith(
        ", of which 3, 7 are foreground and others but 0 ignored"
    )


@pytest.mark.parametrize("index", [-1, 255])
def test_classes_that_cannot_count(tmp_path: Path, index: int) -> None:
    write_label_map(tmp_path / "a.png", np.array([[0, 3]]))
    with pytest.raises(InputError, match=f"class {index} cannot be scored.*take it off the list"):
        only_classes(open_truth_folder(tmp_path, IGNORE), (3, index), IGNORE)


def test_a_set_without_labels_has_no_classes() -> None:
    with pytest.raises(InputError, match="photos has no labels"):
        only_classes(ImageSet("photos", ()), (3,), IGNORE)


def test_masks_have_no_classes_to_choose(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 15]], dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"is read as masks \(.*\), which have no classes.*--label_kind ids"):
        only_classes(open_truth_folder(tmp_path, IGNORE), (15,), IGNORE)
    truth = only_classes(open_truth_folder(tmp_path, IGNORE, "ids"), (15,), IGNORE)
    assert masks_of(truth) == [([[0, 1]], [[1, 1]])]


def test_a_class_that_the_set_does_not_have() -> None:
    truth = ImageSet(
        "photos", (), class_names=("background", "cat"), labels=lambda ref: np.zeros((1, 1), dtype=np.int64)
    )
    with pytest.raises(InputError, match="class 2 is not one of the 2 classes"):
        only_classes(truth, (2,), IGNORE)
