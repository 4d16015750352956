"""The command `saliency_metrics`: JSON keys, tables, notes, data sets, proposals, and errors a user can act on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_runs import command

from densessl.commands.saliency_metrics import saliency_metrics
from densessl.data.label_maps import write_label_map
from densessl.data.layouts import open_data_set
from densessl.errors import InputError

KEYS = {
    "mae",
    "max_f",
    "mean_f",
    "adaptive_f",
    "weighted_f",
    "s_measure",
    "max_e",
    "mean_e",
    "adaptive_e",
    "iou",
    "standard_error",
    "pooled_iou",
    "max_iou",
    "max_iou_threshold",
    "accuracy",
    "num_images",
    "num_without_foreground",
    "num_ignored_px",
    "num_missing",
    "num_all_ignored",
    "num_predictions_without_label",
    "predictions_read_as",
    "labels_read_as",
    "conventions",
    "proposals",
    "missing",
    "per_image",
}


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * 255).astype(np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three labelled images of 6 x 9 pixels; the maps are the foreground itself."""
    labels = np.zeros((6, 9), dtype=np.int64)
    labels[1:4, 2:6] = 3
    labels[0, 0] = 255
    for stem in ("a", "b", "sub/c"):
        write_label_map(tmp_path / "labels" / f"{stem}.png", labels)
        write_mask(tmp_path / "maps" / f"{stem}.png", labels == 3)
    return tmp_path / "maps", tmp_path / "labels"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_json_and_result_agree(folders: tuple[Path, Path], tmp_path: Path) -> None:
    scores = saliency_metrics(*folders, json=tmp_path / "out" / "scores.json")
    value = read(tmp_path / "out" / "scores.json")
    assert set(value) == KEYS
    assert scores.iou == value["iou"] == 1
    assert value["num_ignored_px"] == 3
    assert value["conventions"]["normalize"] is True
    assert value["predictions_read_as"].endswith("read as binary 0/255 (judged by 3 files)")
    assert value["labels_read_as"] == "class ids (palette labels)"
    assert [image["stem"] for image in value["per_image"]] == ["a", "b", "sub/c"]
    assert value["proposals"] is None


def test_prints_a_table_and_how_files_were_read(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    saliency_metrics(*folders, threshold=0.25, normalize=False)
    printed = capsys.readouterr()
    assert "3 images, maps as they are" in printed.out
    assert "S-measure" in printed.out
    assert "map > 0.25" in printed.out
    assert "± 0.0000 (standard error)" in printed.out
    assert "labels read as class ids (palette labels)" in printed.err


def test_classes_of_a_data_set(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A class that does not count is no foreground, and what a map says of it is no mistake."""
    labels = np.zeros((6, 9), dtype=np.int64)
    labels[1:4, 2:6] = 3
    labels[5] = 4
    for stem in ("a", "b", "sub/c"):
        write_label_map(folders[1] / f"{stem}.png", labels)
    saliency_metrics(*folders, classes="3", json=tmp_path / "scores.json")
    value = read(tmp_path / "scores.json")
    assert value["iou"] == 1
    assert value["num_ignored_px"] == 3 * 9
    assert value["labels_read_as"].endswith("of which 3 are foreground and others but 0 ignored")
    assert saliency_metrics(*folders).iou == pytest.approx(12 / 21)
    proposals = tmp_path / "proposals.json"
    with pytest.raises(InputError, match=r"proposals .* are scored against whole objects"):
        saliency_metrics(*folders, classes="3", proposals=proposals)
    with pytest.raises(InputError, match=r"no pixel of any of \d+ images is of classes 42"):
        saliency_metrics(*folders, classes="42", json=tmp_path / "nothing.json")
    assert not (tmp_path / "nothing.json").exists()


def test_data_set_and_proposals(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = open_data_set(tree, "val")
    if truth.labels is None:
        pytest.fail("the tree has no labels")
    for ref in truth.images:
        labels = truth.labels(ref)
        write_mask(tmp_path / "maps" / f"{ref.stem}.png", (labels != 0) & (labels != 255))
    proposals = tmp_path / "proposals"
    done = command("saliency", "--data", tree, "--split", "val", "--out", proposals, "--num_workers", "0")
    assert done.status == 0, done.err
    saliency_metrics(
        tmp_path / "maps", data=tree, proposals=proposals / "proposals.json", json=tmp_path / "scores.json"
    )
    value = read(tmp_path / "scores.json")
    assert value["iou"] == 1
    assert value["num_images"] == len(truth)
    assert value["labels_read_as"] == "class ids of split val"
    assert value["proposals"]["num_images"] == len(truth)
    assert 0 <= value["proposals"]["ar_1"] <= value["proposals"]["ar_100"] <= value["proposals"]["best_overlap"] <= 1
    assert value["proposals"]["objects_from"] in " ".join(capsys.readouterr().out.split())
    # the folder of `saliency` itself; what it rejected counts as empty
    masks = saliency_metrics(proposals, data=tree, missing="empty")
    assert masks.num_images == len(truth)
    assert 0 < masks.iou < 1


def test_missing_maps(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders[0] / "b.png").unlink()
    with pytest.raises(InputError, match="1 of the 3 labelled images have no map"):
        saliency_metrics(*folders)
    saliency_metrics(*folders, missing="empty", json=tmp_path / "scores.json")
    assert "1 images without a map are scored as empty maps: b" in capsys.readouterr().err
    value = read(tmp_path / "scores.json")
    assert (value["num_missing"], value["missing"], value["num_images"]) == (1, ["b"], 3)
    assert value["iou"] == pytest.approx(2 / 3)
    saliency_metrics(*folders, missing="skip", json=tmp_path / "scores.json")
    assert "are not scored: b" in capsys.readouterr().err
    assert read(tmp_path / "scores.json")["num_images"] == 2


def test_left_out_images_are_said(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write_mask(folders[0] / "extra.png", np.ones((2, 2)))
    write_label_map(folders[1] / "a.png", np.full((6, 9), 255))
    assert saliency_metrics(*folders).num_images == 2
    said = capsys.readouterr().err
    assert "1 maps belong to no labelled image and are not scored" in said
    assert "1 images have ignored pixels only and are not scored: a" in said


def test_faults_are_all_reported_and_nothing_is_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_mask(folders[0] / "a.png", np.ones((9, 6)))
    (folders[0] / "sub" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    path = tmp_path / "scores.json"
    done = command("saliency_metrics", "--predictions", folders[0], "--labels", folders[1], "--json", path)
    assert done.status == 1
    said = " ".join(done.err.split())
    assert "Unusable: a: image a: the map is 9x6 and the label 6x9 (height x width)" in said
    assert "Unusable: sub/c: mask" in said
    assert "2 of 3 images cannot be scored (a, sub/c), so no scores are given; the first: image a" in said
    assert "Traceback" not in said
    assert not path.exists()


def test_all_pixels_ignored(folders: tuple[Path, Path]) -> None:
    for stem in ("a", "b", "sub/c"):
        write_label_map(folders[1] / f"{stem}.png", np.full((6, 9), 255))
    with pytest.raises(InputError, match="all pixels of all 3 images are ignored"):
        saliency_metrics(*folders)


def test_settings_are_checked_first(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(InputError, match="got neither: give --labels DIR"):
        saliency_metrics(nowhere)
    with pytest.raises(InputError, match="got both"):
        saliency_metrics(nowhere, nowhere, nowhere)
    with pytest.raises(InputError, match="threshold -1 lies outside"):
        saliency_metrics(nowhere, nowhere, threshold=-1)
    with pytest.raises(InputError, match="label_kind ids is of --labels"):
        saliency_metrics(nowhere, data=nowhere, label_kind="ids")
