"""The command `demo`: it passes where pretraining gains enough, fails where it does not, and says by how much."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_runs import command

import densessl.commands.demo as stage
from densessl.data.view_settings import ViewSettings
from densessl.models.mask_contrast_model import ModelSettings
from densessl.training.settings import TrainingSettings

Faked = Callable[[float | None, float | None], list[dict[str, Any]]]


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> Faked:
    """Make the demo small, and `run` return these mIoU values; returns the list of calls it will get."""

    def patch(before: float | None, after: float | None) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def clusters(miou: float | None) -> SimpleNamespace:
            return SimpleNamespace(scores=None if miou is None else SimpleNamespace(miou=miou))

        def run(out: Path, **settings: Any) -> SimpleNamespace:
            calls.append({"out": out, **settings})
            return SimpleNamespace(initial_clusters=clusters(before), clusters=clusters(after))

        monkeypatch.setattr(stage, "run", run)
        monkeypatch.setattr(stage, "NUM_IMAGES", 4)
        monkeypatch.setattr(stage, "SIZE_PX", 32)
        return calls

    return patch


def test_passes_on_a_large_gain(fake_run: Faked, tmp_path: Path) -> None:
    calls = fake_run(0.30, 0.62)
    outcome = command("demo", "--out", tmp_path / "demo", "--seed", "3")
    assert outcome.status == 0
    assert "demo passed: pretraining raised the mIoU by 32.0 points" in outcome.out
    (call,) = calls
    assert (call["out"], call["data"], call["seed"]) == (tmp_path / "demo", tmp_path / "demo" / "data", 3)
    assert (call["split"], call["eval_split"], call["resume"]) == ("train", "val", False)
    assert call["model"].weights is None  # from random weights, nothing downloaded
    assert not call["model"].pretrained
    settings = json.loads((tmp_path / "demo" / "data" / "synth.json").read_text())["settings"]
    assert (settings["num_images"], settings["size_px"], settings["seed"]) == (4, 32, 3)


@pytest.mark.parametrize(("after", "change"), [(0.45, "+15.0"), (0.30, "+0.0"), (0.20, "-10.0")])
def test_fails_on_a_small_gain(after: float, change: str, fake_run: Faked, tmp_path: Path) -> None:
    fake_run(0.30, after)
    outcome = command("demo", "--out", tmp_path / "demo")
    assert outcome.status == 1
    said = " ".join(outcome.out.split())
    assert f"demo failed: pretraining changed the mIoU by {change} points; 20 were expected" in said


@pytest.mark.parametrize(("before", "after"), [(None, 0.5), (0.5, None)])
def test_fails_without_scores_to_compare(
    before: float | None, after: float | None, fake_run: Faked, tmp_path: Path
) -> None:
    fake_run(before, after)
    outcome = command("demo", "--out", tmp_path / "demo")
    assert outcome.status == 1
    assert "demo failed: there are no scores to compare" in outcome.err


def test_resumes_on_the_same_data(fake_run: Faked, tmp_path: Path) -> None:
    calls = fake_run(0.1, 0.9)
    assert command("demo", "--out", tmp_path / "demo").status == 0
    photograph = next((tmp_path / "demo" / "data" / "JPEGImages").iterdir())
    written = photograph.stat().st_mtime_ns
    assert command("demo", "--out", tmp_path / "demo", "--resume", "true").status == 0
    assert [call["resume"] for call in calls] == [False, True]
    assert photograph.stat().st_mtime_ns == written
    outcome = command("demo", "--out", tmp_path / "demo", "--seed", "1")
    assert outcome.status == 1
    assert "pass the same settings or another output folder" in " ".join(outcome.err.split())


def test_whole_demo_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "NUM_IMAGES", 16)
    monkeypatch.setattr(stage, "SIZE_PX", 48)
    monkeypatch.setattr(stage, "WANTED_GAIN", 2.0)
    monkeypatch.setattr(
        stage,
        "MODEL",
        ModelSettings("resnet10t", output_stride=16, separable_decoder=True, decoder_channels=16),
    )
    monkeypatch.setattr(stage, "VIEWS", ViewSettings(size_px=32))
    monkeypatch.setattr(stage, "TRAINING", TrainingSettings(epochs=1, batch_size=6, num_workers=0, precision="fp32"))
    outcome = command("demo", "--out", tmp_path / "demo")
    assert outcome.status == 1  # no training gains 200 points
    assert "demo failed: pretraining changed the mIoU by" in outcome.out
    assert "mIoU before pretraining" in outcome.out
    assert (tmp_path / "demo" / "report" / "index.html").is_file()
