"""The command `evaluate`: JSON, table, notes, and errors a user can act on."""

import json
from pathlib import Path

import numpy as np
import pytest

from densessl.commands.evaluate import evaluate
from densessl.commands.evaluate_output import print_scores
from densessl.data.label_maps import write_label_map
from densessl.errors import InputError
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.scores import scores_from_confusion


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three labelled images of 3 classes, predictions with classes 1 and 2 swapped."""
    rng = np.random.default_rng(0)
    for stem in ("a", "b", "sub/c"):
        labels = rng.integers(0, 3, (6, 9))
        write_label_map(tmp_path / "predictions" / f"{stem}.png", np.array([0, 2, 1])[labels])
        labels[0, 0] = 255
        write_label_map(tmp_path / "labels" / f"{stem}.png", labels)
    return tmp_path / "predictions", tmp_path / "labels"


def test_json_and_result_agree(folders: tuple[Path, Path], tmp_path: Path) -> None:
    scores = evaluate(*folders, num_classes=3, json=tmp_path / "out" / "scores.json", match="hungarian")
    value = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores.miou == value["miou"] == 1.0
    assert value["iou"] == [1.0, 1.0, 1.0]
    assert value["assignment"] == [0, 2, 1]
    assert value["num_images"] == 3
    assert value["match"] == "hungarian"
    assert value["classes"] == [0, 1, 2]
    assert np.sum(value["confusion"]) == 3 * 53
    assert value["num_labels_without_prediction"] == value["num_predictions_without_label"] == 0


@pytest.mark.parametrize("match", ["hungarian", "hungarian_counts", "majority", "highest_iou"])
def test_every_rule_of_matching_is_offered(folders: tuple[Path, Path], match: MatchRule) -> None:
    scores = evaluate(*folders, num_classes=3, match=match)
    assert (scores.miou, scores.match, scores.assignment) == (1.0, match, (0, 2, 1))


def test_without_matching_swapped_classes_score_zero(folders: tuple[Path, Path]) -> None:
    scores = evaluate(*folders, num_classes=3)
    assert scores.iou == pytest.approx((1.0, 0.0, 0.0))
    assert evaluate(*folders, num_classes=4).iou[3] is None


def test_prints_table_and_what_labels_touched(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(*folders, num_classes=4, match="majority")
    printed = capsys.readouterr().out
    assert "matching used the labels (majority)" in printed
    assert "mIoU 100.00 % over 3 of 4 classes" in printed
    assert "absent" in printed
    evaluate(*folders, num_classes=3)
    assert "scoring only (no matching)" in capsys.readouterr().out


def test_table_shows_class_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores(scores_from_confusion(np.eye(3, dtype=np.int64), 1, classes=[0, 2]), ("back", "cat", "[dog]"))
    printed = capsys.readouterr().out
    assert "0 back" in printed
    assert "2 [dog]" in printed
    assert "cat" not in printed


def test_classes_given(folders: tuple[Path, Path]) -> None:
    scores = evaluate(*folders, num_classes=3, classes=[0, 2])
    assert scores.classes == (0, 2)
    assert scores.iou == pytest.approx((1.0, 0.0))
    assert scores.confusion.shape == (2, 3)  # predictions of class 1 are misses of class 2
    assert scores.confusion[1, 2] > 0


def test_subset_is_said_and_recorded(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, labels = folders
    (predictions / "a.png").unlink()
    write_label_map(predictions / "extra.png", np.zeros((2, 2), dtype=int))
    scores = evaluate(predictions, labels, num_classes=3, json=tmp_path / "scores.json")
    assert scores.num_images == 2
    said = capsys.readouterr().err
    assert "2 of 3 labelled images have a prediction; only those are scored" in said
    assert "1 predictions have no label" in said
    value = json.loads((tmp_path / "scores.json").read_text())
    assert value["num_labels_without_prediction"] == 1
    assert value["num_predictions_without_label"] == 1


def test_split_file_requires_every_image(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, labels = folders
    (predictions / "a.png").unlink()
    split = tmp_path / "val.txt"
    split.write_text("b\nsub/c\n")
    assert evaluate(predictions, labels, num_classes=3, split_file=split).num_images == 2
    split.write_text("a\nb\n")
    with pytest.raises(InputError, match=r"1 of the 2 listed images have no prediction .*\(a\)"):
        evaluate(predictions, labels, num_classes=3, split_file=split)


def test_nothing_is_written_on_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image a: label 2 .*above the number of classes 2"):
        evaluate(*folders, num_classes=2, json=tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()


def test_settings_are_checked_first(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(InputError, match="num_classes is 0"):
        evaluate(nowhere, nowhere, num_classes=0)
    with pytest.raises(InputError, match="class 9 is not one of the 3 classes"):
        evaluate(nowhere, nowhere, num_classes=3, classes=[0, 9])
    with pytest.raises(InputError, match="class 0 is to be scored but is the ignore index"):
        evaluate(nowhere, nowhere, num_classes=3, classes=[0, 1], ignore_index=0)


def test_bootstrap_and_comparison_are_recorded_and_said(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, labels = folders
    rng = np.random.default_rng(1)
    for stem in ("a", "b", "sub/c"):
        write_label_map(tmp_path / "worse" / f"{stem}.png", rng.integers(0, 3, (6, 9)))
    path = tmp_path / "scores.json"
    scores = evaluate(
        predictions, labels, 3, json=path, match="hungarian", bootstrap=100, compare=tmp_path / "worse", seed=2
    )
    value = json.loads(path.read_text())
    assert value["bootstrap"]["miou_interval"] == [1.0, 1.0]
    assert value["bootstrap"]["num_resamples"] == 100
    assert value["comparison"]["share_of_resamples_better"] == scores.comparison.better == 1.0
    other = evaluate(tmp_path / "worse", labels, 3, match="hungarian")
    assert value["comparison"]["miou"] == pytest.approx(other.miou)
    assert value["comparison"]["difference"] == pytest.approx(1 - other.miou)
    said = " ".join(capsys.readouterr().out.split())
    assert "mIoU 100.00 to 100.00 % in 95 % of 100 resamples of 3 images, matching fixed" in said
    assert "in 100.0 % of the same resamples (equal in 0.0 %)" in said


def test_comparison_needs_every_image(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_label_map(tmp_path / "other" / "a.png", np.zeros((6, 9), dtype=int))
    with pytest.raises(InputError, match=r"2 of the 3 listed images have no prediction in .*other"):
        evaluate(*folders, num_classes=3, bootstrap=100, compare=tmp_path / "other")


def test_boundary_is_that_of_the_matched_classes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    scores = evaluate(*folders, num_classes=4, json=path, match="hungarian", boundary=True)
    assert scores.boundary.iou == (1.0, 1.0, 1.0, None)
    assert json.loads(path.read_text())["mean_boundary_iou"] == 1.0
    assert evaluate(*folders, num_classes=3, boundary=True).boundary.iou == pytest.approx((1.0, 0.0, 0.0))


def test_boundary_of_clusters_that_share_a_class_is_that_of_their_union(tmp_path: Path) -> None:
    labels = np.zeros((40, 40), dtype=int)
    labels[:, 20:] = 1
    clusters = labels + 2 * (np.indices(labels.shape)[0] >= 20)  # four quarters
    labels[0, :3] = 9  # ignored, whatever is predicted there
    clusters[0, 0] = 77
    write_label_map(tmp_path / "l" / "a.png", labels)
    write_label_map(tmp_path / "p" / "a.png", clusters)
    scores = evaluate(tmp_path / "p", tmp_path / "l", 2, match="majority", boundary=True, ignore_index=9)
    assert scores.boundary.iou == (1.0, 1.0)


def test_instances_are_regions_of_the_matched_classes_or_given_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((8, 12), dtype=np.int64)
    labels[1:4, 1:9], labels[6:, 2:5] = 1, 2
    write_label_map(tmp_path / "l" / "a.png", labels)
    write_label_map(tmp_path / "p" / "a.png", np.array([0, 2, 1])[labels])
    objects = np.where(labels == 2, 9, labels)
    objects[1:4, 5:9] = 3  # touches object 1, of the same class
    write_label_map(tmp_path / "o" / "a.png", objects)
    path = tmp_path / "scores.json"
    folders = (tmp_path / "p", tmp_path / "l")
    scores = evaluate(*folders, 3, json=path, match="hungarian", instances=True)
    assert scores.instances.ap == pytest.approx(1.0)
    assert json.loads(path.read_text())["instances"]["objects_from"].startswith("connected regions")
    assert "instances: AP 100.00 %" in capsys.readouterr().out
    scores = evaluate(*folders, 3, match="hungarian", instances=True, objects=tmp_path / "o")
    assert scores.instances.num_objects == 3
    assert scores.instances.ap_50 == pytest.approx((1 + 51 / 101) / 2)  # half of the region of class 1 at IoU 0.5
    assert evaluate(*folders, 3, instances=True).instances.ap == 0.0
    assert evaluate(*folders, 3).instances is None
    with pytest.raises(InputError, match="objects x are only used with --instances true"):
        evaluate(*folders, 3, objects=Path("x"))
    with pytest.raises(InputError, match=r"no folder .*nowhere; expected one PNG of object numbers"):
        evaluate(*folders, 3, instances=True, objects=tmp_path / "nowhere")


def test_plot_and_table_have_names(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "class_names.txt"
    names.write_text("background\ncat\ndog\n")
    evaluate(*folders, num_classes=3, class_names=names, plot=tmp_path / "out" / "confusion.png")
    assert (tmp_path / "out" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "2 dog" in capsys.readouterr().out
    with pytest.raises(InputError, match="expected a text file with one class name a line"):
        evaluate(*folders, num_classes=3, class_names=tmp_path / "none.txt")


def test_extras_are_checked_first(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(InputError, match=r"bootstrap is 5; it must be 0 .* or at least 100"):
        evaluate(nowhere, nowhere, num_classes=3, bootstrap=5)
    with pytest.raises(InputError, match=r"--compare needs .* add --bootstrap 1000"):
        evaluate(nowhere, nowhere, num_classes=3, compare=nowhere)
    with pytest.raises(InputError, match="seed is -1"):
        evaluate(nowhere, nowhere, num_classes=3, bootstrap=100, seed=-1)
    with pytest.raises(InputError, match=r"must be a PNG file; give it the suffix \.png"):
        evaluate(nowhere, nowhere, num_classes=3, plot=tmp_path / "plot.pdf")
