"""Folders of label maps: pairing by stem, growing clusters, errors that name the image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.boundary import boundary_confusion
from densessl.evaluation.confusion import accumulate_confusion
from densessl.evaluation.label_map_folders import (
    ScoredFolders,
    boundary_confusion_of_folders,
    confusion_of_folders,
    label_map_paths,
    read_stems,
)
from densessl.evaluation.scores import scores_from_confusion


def write_maps(folder: Path, maps: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for stem, values in maps.items():
        write_label_map(folder / f"{stem}.png", values)
    return folder


def random_maps(seed: int, stems: tuple[str, ...], num_values: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {stem: rng.integers(0, num_values, (5 + i, 7)) for i, stem in enumerate(stems)}


def test_sums_over_images_in_subfolders(tmp_path: Path) -> None:
    stems = ("a", "cats/0001", "cats.v2/0001.x")
    truth, guess = random_maps(0, stems, 4), random_maps(1, stems, 4)
    predictions, labels = write_maps(tmp_path / "p", guess), write_maps(tmp_path / "l", truth)
    result = confusion_of_folders(predictions, labels, 4)
    assert set(result.stems) == set(stems)
    assert np.array_equal(result.confusion, accumulate_confusion([(truth[s], guess[s]) for s in stems], 4, 4))
    assert result.labels_without_prediction == result.predictions_without_label == ()


def test_clusters_may_be_more_than_classes(tmp_path: Path) -> None:
    labels = write_maps(tmp_path / "l", {"a": np.array([[0, 1]]), "b": np.array([[1, 255]])})
    predictions = write_maps(tmp_path / "p", {"a": np.array([[1, 0]]), "b": np.array([[5, 255]])})
    result = confusion_of_folders(predictions, labels, 2, are_clusters=True)
    assert result.confusion.tolist() == [[0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1]]


def test_counts_of_each_image_are_kept_on_request(tmp_path: Path) -> None:
    stems = ("a", "b", "c")
    truth, guess = random_maps(0, stems, 4), random_maps(1, stems, 6)
    predictions, labels = write_maps(tmp_path / "p", guess), write_maps(tmp_path / "l", truth)
    result = confusion_of_folders(predictions, labels, 4, are_clusters=True, keep_images=True)
    for stem, image in zip(stems, result.images, strict=True):
        matrix = np.zeros((4, 6), dtype=np.int64)
        matrix[image.labels, image.predictions] = image.pixels
        assert np.array_equal(matrix, accumulate_confusion([(truth[stem], guess[stem])], 4, 6))
    assert confusion_of_folders(predictions, labels, 4, are_clusters=True).images == ()


def test_boundary_counts_leave_out_ignored_labels_and_other_classes(tmp_path: Path) -> None:
    truth = np.zeros((9, 9), dtype=int)
    truth[4:, :5], truth[:2, :2], truth[7:, 7:] = 1, 255, 2
    guess = np.where(truth == 255, 7, (truth + 1) % 3)
    predictions, labels = write_maps(tmp_path / "p", {"a": guess}), write_maps(tmp_path / "l", {"a": truth})
    found = confusion_of_folders(predictions, labels, 3, are_clusters=True)
    scores = scores_from_confusion(found.confusion, 1, "hungarian", (1, 0))
    counts = boundary_confusion_of_folders(ScoredFolders(predictions, labels, found, scores))
    rows = np.array([1, 0, 2])  # class 1 first, class 2 is not scored
    expected = np.where(truth == 255, 2, rows[np.where(truth == 255, 0, truth)])
    assert np.array_equal(counts, boundary_confusion(expected, expected, 2))


def test_partners_that_are_missing_are_named(tmp_path: Path) -> None:
    one = np.array([[0, 1]])
    labels = write_maps(tmp_path / "l", {"a": one, "b": one, "c": one})
    predictions = write_maps(tmp_path / "p", {"b": one, "d": one})
    result = confusion_of_folders(predictions, labels, 2)
    assert result.stems == ("b",)
    assert result.labels_without_prediction == ("a", "c")
    assert result.predictions_without_label == ("d",)


def test_listed_stems_need_both(tmp_path: Path) -> None:
    one = np.array([[0, 1]])
    labels = write_maps(tmp_path / "l", dict.fromkeys("abcdef", one))
    predictions = write_maps(tmp_path / "p", {"b": one, "z": one})
    assert confusion_of_folders(predictions, labels, 2, stems=["b"]).stems == ("b",)
    with pytest.raises(InputError, match=r"5 of the 6 listed images have no prediction in .*p \(a, c, d, \.\.\.\)"):
        confusion_of_folders(predictions, labels, 2, stems=list("abcdef"))
    with pytest.raises(InputError, match=r"1 of the 2 listed images have no label in .*l \(z\)"):
        confusion_of_folders(predictions, labels, 2, stems=["b", "z"])


def test_errors_name_the_image(tmp_path: Path) -> None:
    labels = write_maps(tmp_path / "l", {"cats/1": np.zeros((2, 3), dtype=int), "x": np.array([[27, 0]])})
    predictions = write_maps(tmp_path / "p", {"cats/1": np.zeros((3, 2), dtype=int), "x": np.array([[0, 255]])})
    with pytest.raises(InputError, match=r"image cats/1: the prediction is 3x2 and the label 2x3 .*resize"):
        confusion_of_folders(predictions, labels, 21, stems=["cats/1"])
    with pytest.raises(InputError, match=r"image x: label 27 .*above the number of classes 21"):
        confusion_of_folders(predictions, labels, 21, stems=["x"])
    with pytest.raises(InputError, match=r"image x: prediction 255 .*above the number of predicted classes 30"):
        confusion_of_folders(predictions, labels, 30, stems=["x"])
    with pytest.raises(InputError, match="image x: prediction 255 is the ignore index"):
        confusion_of_folders(predictions, labels, 30, are_clusters=True, stems=["x"])


def test_absurd_cluster_ids_are_refused(tmp_path: Path) -> None:
    labels = write_maps(tmp_path / "l", {"a": np.array([[0, 1]])})
    (tmp_path / "p").mkdir()
    image = Image.fromarray(np.array([[0, 10**8]], dtype=np.int32))
    image.save(tmp_path / "p" / "a.png", format="TIFF")  # 32-bit, under the name of a PNG
    with pytest.raises(InputError, match="image a: prediction 100000000 is above the highest cluster id 65535"):
        confusion_of_folders(tmp_path / "p", labels, 2, are_clusters=True)


def test_folders_without_use(tmp_path: Path) -> None:
    one = np.array([[0, 1]])
    labels = write_maps(tmp_path / "l", {"a": one})
    with pytest.raises(MissingInputError, match=r"no folder .*nowhere; expected one PNG"):
        confusion_of_folders(tmp_path / "nowhere", labels, 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".partial-a.png").write_bytes(b"")
    with pytest.raises(MissingInputError, match="no PNG file below"):
        confusion_of_folders(tmp_path / "empty", labels, 2)
    with pytest.raises(MissingInputError, match=r"no image has both .*b.*a"):
        confusion_of_folders(write_maps(tmp_path / "p", {"b": one}), labels, 2)


def test_same_stem_twice(tmp_path: Path) -> None:
    folder = write_maps(tmp_path / "l", {"a": np.array([[0]])})
    (folder / "a.PNG").write_bytes((folder / "a.png").read_bytes())
    if len(list(folder.iterdir())) == 1:
        pytest.skip("this file system does not tell a.png from a.PNG")
    with pytest.raises(InputError, match="same stem a"):
        label_map_paths(folder)


def test_split_file(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("b\n\n cats/0001 \n")
    assert read_stems(path) == ("b", "cats/0001")
    path.write_text("b\na\nb\n")
    with pytest.raises(InputError, match="lists b more than once"):
        read_stems(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="lists no image"):
        read_stems(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_stems(path)
    with pytest.raises(MissingInputError, match="no split file"):
        read_stems(tmp_path / "none.txt")
