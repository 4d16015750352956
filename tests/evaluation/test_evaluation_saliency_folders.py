"""A folder of maps against labels: depths, missing and broken files, sizes, ignored pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.saliency_folders import FolderScores, ScoringSettings, score_folder
from densessl.evaluation.saliency_scores import SaliencyScores
from densessl.evaluation.saliency_truth import open_truth_folder
from densessl.structures import IGNORE, ImageSet


def write_map(path: Path, values: object, depth: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype=depth)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three labelled images with a map each: perfect, perfect, half."""
    labels = np.array([[0, 4, 4], [0, 0, IGNORE]])
    for stem in ("a", "b", "sub/c"):
        write_label_map(tmp_path / "labels" / f"{stem}.png", labels)
        write_map(tmp_path / "maps" / f"{stem}.png", [[0, 255, 0 if stem == "sub/c" else 250], [0, 9, 255]])
    return tmp_path


def score(folder: Path, **settings: object) -> FolderScores:
    truth = open_truth_folder(folder / "labels", IGNORE)
    return score_folder(folder / "maps", truth, ScoringSettings(**settings))  # type: ignore[arg-type]


def scores_of(found: FolderScores) -> SaliencyScores:
    if found.scores is None:
        pytest.fail("nothing was scored")
    return found.scores


def test_scores_of_every_image(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    truth = open_truth_folder(folder / "labels", IGNORE)
    found = score_folder(folder / "maps", truth, ScoringSettings(), lambda *counts: seen.append(counts))
    scores = scores_of(found)
    assert [image.stem for image in scores.per_image] == ["a", "b", "sub/c"]
    assert [image.iou for image in scores.per_image] == [1, 1, 0.5]
    assert [image.num_ignored_px for image in scores.per_image] == [1, 1, 1]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (found.faults, found.missing, found.num_predictions_without_label) == ((), (), 0)
    assert "read as soft 8-bit" in found.predictions_read_as


def test_16_bit_maps_are_read_in_full(folder: Path) -> None:
    for stem in ("a", "b", "sub/c"):
        write_map(folder / "maps" / f"{stem}.png", [[0, 65535, 32768], [0, 1500, 0]], np.uint16)
    assert scores_of(score(folder)).mae == pytest.approx((32767 + 1500) / 65535 / 5, abs=1e-12)


def test_missing_maps(folder: Path) -> None:
    (folder / "maps" / "a.png").unlink()
    with pytest.raises(MissingInputError, match=r"1 of the 3 labelled images have no map .* \(a\); .*--missing empty"):
        score(folder)
    empty = score(folder, missing="empty")
    assert [image.iou for image in scores_of(empty).per_image] == [0, 1, 0.5]
    assert empty.missing == ("a",)
    skipped = score(folder, missing="skip")
    assert [image.stem for image in scores_of(skipped).per_image] == ["b", "sub/c"]
    assert skipped.missing == ("a",)


@pytest.mark.parametrize("num_masks", [0, 1])
def test_a_folder_of_saliency_that_rejected_all(folder: Path, num_masks: int) -> None:
    for path in (folder / "maps").rglob("*.png"):
        path.unlink()
    (folder / "maps" / "saliency.json").write_text(json.dumps({"counts": {"images": 3, "masks": num_masks}}))
    if num_masks:
        with pytest.raises(InputError, match="none of the 3 images"):
            score(folder, missing="empty")
        return
    empty = score(folder, missing="empty")
    assert empty.missing == ("a", "b", "sub/c")
    assert len(scores_of(empty).per_image) == 3
    with pytest.raises(InputError, match="none of the 3 images"):
        score(folder, missing="error")


def test_faults_do_not_stop_the_rest(folder: Path) -> None:
    write_map(folder / "maps" / "a.png", np.zeros((3, 2)))
    (folder / "maps" / "b.png").write_bytes((folder / "maps" / "b.png").read_bytes()[:40])
    found = score(folder)
    assert [image.stem for image in scores_of(found).per_image] == ["sub/c"]
    assert [fault.stem for fault in found.faults] == ["a", "b"]
    assert "the map is 3x2 and the label 2x3 (height x width); resize the map" in found.faults[0].reason
    assert "b.png cannot be read" in found.faults[1].reason


def test_image_that_is_all_ignored_is_left_out(folder: Path) -> None:
    write_label_map(folder / "labels" / "a.png", np.full((2, 3), IGNORE))
    found = score(folder)
    assert found.all_ignored == ("a",)
    assert scores_of(found).num_images == 2


def test_output_folder_of_saliency_and_unused_maps(folder: Path) -> None:
    (folder / "maps").rename(folder / "masks")
    (folder / "maps").mkdir()
    (folder / "masks").rename(folder / "maps" / "masks")
    write_map(folder / "maps" / "masks" / "extra.png", [[0, 255]])
    write_map(folder / "maps" / "soft" / "a.png", [[0, 255]])
    found = score(folder)
    assert scores_of(found).num_images == 3
    assert found.num_predictions_without_label == 1


def test_labels_against_themselves(folder: Path) -> None:
    found = score_folder(folder / "labels", open_truth_folder(folder / "labels", IGNORE), ScoringSettings())
    assert scores_of(found).iou == 1


def test_normalisation_is_a_choice(folder: Path) -> None:
    for stem in ("a", "b", "sub/c"):
        write_map(folder / "maps" / f"{stem}.png", [[10, 110, 110], [10, 10, 10]])
    write_map(folder / "maps" / "a.png", [[70, 100, 100], [70, 80, 90]])
    assert scores_of(score(folder)).iou == 1
    assert scores_of(score(folder, normalize=False)).iou == 0


def test_errors(folder: Path) -> None:
    with pytest.raises(InputError, match=r"threshold 1.5 lies outside \[0, 1\); 0.5 is usual"):
        ScoringSettings(threshold=1.5)
    with pytest.raises(InputError, match="ignore_index is 0, the background"):
        ScoringSettings(ignore_index=0)
    with pytest.raises(InputError, match="split bare has no labels to score against; give --labels"):
        score_folder(folder / "maps", ImageSet("bare", ()), ScoringSettings())
