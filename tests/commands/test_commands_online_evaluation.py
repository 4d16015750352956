"""Evaluation while `pretrain` runs: what the log and the record say, that it costs training nothing, refusals."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY, DrawnFolder, command, draw_folder

from densessl.commands.online_evaluation import spread_evenly
from densessl.training.run_folder import load_run_model

EVERY = ("--training.epochs", "2", "--training.evaluate_every", "1")


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_stability_is_logged_and_training_is_the_same(drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = command("pretrain", "--out", tmp_path / "with", *drawn.flags(), *TINY, *EVERY)
    assert outcome.status == 0, outcome.err
    plain = command("pretrain", "--out", tmp_path / "without", *drawn.flags(), *TINY, *EVERY[:2])
    assert plain.status == 0, plain.err
    lines = metrics(tmp_path / "with")
    assert ["cluster_stability" in line for line in lines] == [False, True, False, True]
    assert all(-1 <= line["cluster_stability"] <= 1 for line in lines if "cluster_stability" in line)
    assert not any("kmeans_miou_with_labels" in line for line in lines)
    assert "step 2  evaluation: agreement of clusterings" in outcome.err
    assert "evaluation" not in plain.err
    assert [line["loss"] for line in lines] == [line["loss"] for line in metrics(tmp_path / "without")]
    weights = [load_run_model(tmp_path / name)[0].state_dict() for name in ("with", "without")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert json.loads((tmp_path / "with" / "run.json").read_text())["provenance"]["notes"] == []


def test_labels_are_named_wherever_they_were_read(tree: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ("--data", tree, "--split", "train", *TINY, *EVERY, "--training.evaluate_with_labels", "true")
    outcome = command("pretrain", "--out", run, *flags)
    assert outcome.status == 0, outcome.err
    scored = [line for line in metrics(run) if "kmeans_miou_with_labels" in line]
    assert len(scored) == 2
    assert all(0 < line["kmeans_miou_with_labels"] <= 1 for line in scored)
    assert "(labels used, for monitoring only)" in outcome.err
    (note,) = json.loads((run / "run.json").read_text())["provenance"]["notes"]
    assert "were read during training to log kmeans_miou_with_labels, for monitoring only" in note


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--training.evaluate_with_labels", "true"), "has no labels; give --data with a labelled split"),
        (("--training.evaluate_every", "-1"), "training.evaluate_every is -1; it must be at least 0"),
        (
            ("--training.evaluate_every", "0", "--training.evaluate_with_labels", "true"),
            "training.evaluate_every is 0, so nothing is evaluated; set training.evaluate_every",
        ),
    ],
)
def test_refusals(drawn: DrawnFolder, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    outcome = command("pretrain", "--out", tmp_path / "run", *drawn.flags(), *TINY, *EVERY, *flags)
    assert outcome.status in {1, 2}
    assert message in outcome.err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_too_few_images(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "few", 5)
    outcome = command("pretrain", "--out", tmp_path / "run", *folder.flags(), *TINY, *EVERY)
    assert outcome.status == 1
    assert "training.evaluate_every is 1, but 5 images are too few to cluster; give 8 or more" in outcome.err


def test_an_even_spread() -> None:
    assert spread_evenly("abcdef", 3) == ["a", "c", "e"]
    assert spread_evenly("ab", 3) == ["a", "b"]
