"""What can be switched on beside the published recipe: each trains, repeats itself, resumes, and is one whole batch."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import run_processes
from PIL import Image
from safetensors.torch import load_file
from test_training_processes import TEN_STEPS, _close, _losses, _same, _train_part
from tiny_training import changed, draw_images, numbers, train

from densessl.training import pretraining
from densessl.training.step import StepResult

LOCAL = {"views": {"num_local": 2, "local_size_px": 32}}

WEIGHTED = {"objective": {"confidence_weighted": True}}

KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "local": LOCAL,
    "local of masks": {**LOCAL, "model": {"embedding_of": "masks"}},
    "confidence": {"objective": {"confidence_weighted": True, "mode": "formula", "pixels_per_mask": 3}},
    "confidence of masks": {**WEIGHTED, "model": {"embedding_of": "masks"}},
    "confidence of local crops at full resolution": {
        **LOCAL,
        "objective": {"confidence_weighted": True, "resolution": "full"},
        "training": {"cache_gb": 0.1},
    },
    "local at full resolution": {**LOCAL, "objective": {"resolution": "full", "mode": "formula"}},
}
"""Sections of settings that switch one extension on."""


def _draw(root: Path, num: int = 6) -> Path:
    """Draw images and masks, and soft maps that are less sure towards the right."""
    draw_images(root, num)
    (root / "soft").mkdir()
    for path in sorted((root / "masks").iterdir()):
        mask = np.asarray(Image.open(path)) > 0
        sure = np.linspace(1, 0.1, mask.shape[1])[None]
        soft = np.where(mask, 0.5 + sure / 2, 0.5 - sure / 2)
        Image.fromarray(np.rint(soft * 255).astype(np.uint8)).save(root / "soft" / path.name)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _draw(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def plain(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    run = tmp_path_factory.mktemp("plain")
    train(root, run, changed(training={"epochs": 2}))
    return numbers(run)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_and_goes_on_exactly(
    root: Path, plain: list[dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    settings = changed(changed(training={"epochs": 2}), **KINDS[kind])
    train(root, tmp_path / "whole", settings)
    step, calls = pretraining.training_step, []

    def interrupted(*arguments: Any) -> StepResult:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(root, tmp_path / "parts", settings)
    train(root, tmp_path / "parts", settings, resume=True)
    lines = numbers(tmp_path / "whole")
    assert len(lines) == 4
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[0]["contrastive_loss"] != plain[0]["contrastive_loss"]  # it is on
    assert numbers(tmp_path / "parts") == lines
    assert _same(*(load_file(tmp_path / name / "final.safetensors") for name in ("whole", "parts")))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_taken_in_parts(root: Path, tmp_path: Path, kind: str) -> None:
    settings = changed(changed(training={"epochs": 1, "accumulate": 3}), **KINDS[kind])
    train(root, tmp_path / "run", settings)
    assert all(math.isfinite(value) for line in numbers(tmp_path / "run") for value in line.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one(tmp_path: Path, kind: str) -> None:
    root = _draw(tmp_path / "set", 11)
    settings = changed(TEN_STEPS, training={"batch_norm_sync": "sync"}, objective={"negatives": "global"})
    settings = changed(settings, **KINDS[kind])
    if settings.model.embedding_of == "masks":  # embedded in single precision, which batch norm amplifies
        settings = changed(settings, model={"batch_norm": "frozen"})
    settings = changed(settings, objective={"pixels_per_mask": 0})  # drawn by rank
    is_precise = settings.model.embedding_of == "pixels"
    (one,) = run_processes(1, _train_part, root, tmp_path / "one", settings, False, is_precise)
    parts = run_processes(2, _train_part, root, tmp_path / "two", settings, False, is_precise)
    assert len(_losses(tmp_path / "one")) == 10
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "one"), abs=1e-5)
    assert _close(*(load_file(tmp_path / run / "final.safetensors") for run in ("one", "two")))
    assert _close(parts[0]["bank"], one["bank"])
    assert parts[0]["final_loss"] == parts[1]["final_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("further", [{}, {"batch_norm_sync": "shuffle", "recompute_activations": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_with_local_negatives_resume_exactly(tmp_path: Path, kind: str, further: dict[str, Any]) -> None:
    root = _draw(tmp_path / "set", 11)
    settings = changed(changed(TEN_STEPS, training=further), **KINDS[kind])
    whole = run_processes(2, _train_part, root, tmp_path / "run", settings)
    losses, weights = _losses(tmp_path / "run"), load_file(tmp_path / "run/final.safetensors")
    sorted((tmp_path / "run/checkpoints").iterdir())[-1].unlink()
    again = run_processes(2, _train_part, root, tmp_path / "run", settings, True)
    assert _losses(tmp_path / "run") == losses
    assert _same(load_file(tmp_path / "run/final.safetensors"), weights)
    assert all(_same(first["bank"], second["bank"]) for first, second in zip(whole, again, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sharded_training_is_that_of_whole_networks(tmp_path: Path, kind: str) -> None:
    root, settings = _draw(tmp_path / "set", 11), changed(TEN_STEPS, **KINDS[kind])
    is_precise = settings.model.embedding_of == "pixels"
    if not is_precise:
        settings = changed(settings, model={"batch_norm": "frozen"})
    run_processes(2, _train_part, root, tmp_path / "whole", settings, False, is_precise)
    sharded = changed(settings, training={"strategy": "fsdp"})
    run_processes(2, _train_part, root, tmp_path / "parts", sharded, False, is_precise)
    assert _losses(tmp_path / "parts") == pytest.approx(_losses(tmp_path / "whole"), abs=1e-5)
    assert _close(*(load_file(tmp_path / name / "final.safetensors") for name in ("whole", "parts")))
