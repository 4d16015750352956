"""What can be switched on beside the published recipe: each trains, repeats itself, resumes, and is one whole batch."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import run_processes
from PIL import Image
from safetensors.torch import load_file
from test_training_processes import TEN_STEPS, _close, _losses, _same, _train_part
from tiny_training import changed, draw_images, numbers, train

from densessl.errors import InputError
from densessl.training import gradients
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.step import StepResult

LOCAL = {"views": {"num_local": 2, "local_size_px": 32}}

WEIGHTED = {"objective": {"confidence_weighted": True}}

SWAV = {"objective": {"swav_weight": 0.5}, "model": {"num_prototypes": 3}}

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
    "prototypes": SWAV,
    "prototypes, with the bank": {**SWAV, "objective": {"swav_weight": 2.0, "swav_use_bank": True, "mode": "formula"}},
    "prototypes of masks": {
        "objective": {"swav_weight": 1.0, "saliency_weight": 0.0},
        "model": {"num_prototypes": 4, "embedding_of": "masks", "embedding_hidden": 6},
    },
    "background": {"objective": {"background": "negatives"}},
    "background at full resolution, all at once": {
        "views": {"num_local": 1, "local_size_px": 32, "split_instances": True},
        "objective": {
            "background": "negatives",
            "confidence_weighted": True,
            "resolution": "full",
            "mode": "formula",
            "exclude_similar": 0.2,
        },
    },
    "everything with prototypes": {
        "views": {"num_local": 1, "local_size_px": 32},
        "model": {"num_prototypes": 3},
        "objective": {
            "background": "negatives",
            "confidence_weighted": True,
            "swav_weight": 1.0,
            "swav_use_bank": True,
            "exclude_similar": 0.2,
        },
    },
    "local at full resolution": {**LOCAL, "objective": {"resolution": "full", "mode": "formula"}},
}
"""Sections of settings that switch one extension on, or several."""

MIXED = (
    *("local", "confidence of masks", "prototypes of masks"),
    *("background at full resolution, all at once", "everything with prototypes"),
)
"""Those that between them switch everything on."""


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
    step, calls = gradients.training_step, []

    def interrupted(*arguments: Any) -> StepResult:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(gradients, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(root, tmp_path / "parts", settings)
    train(root, tmp_path / "parts", settings, resume=True)
    lines = numbers(tmp_path / "whole")
    assert len(lines) == 4
    assert all(math.isfinite(value) for line in lines for value in line.values())
    changed_by = "loss" if kind.startswith("prototypes") else "contrastive_loss"
    assert lines[0][changed_by] != plain[0][changed_by]  # it is on
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
@pytest.mark.parametrize("kind", MIXED)
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
@pytest.mark.parametrize("kind", MIXED)
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


def test_prototypes_are_learned_and_stay_unit_vectors(root: Path, tmp_path: Path) -> None:
    """They are in the optimiser, in the twin, in the checkpoint and in the final weights."""
    train(root, tmp_path / "run", changed(**SWAV))
    lines = numbers(tmp_path / "run")
    for line in lines:
        total = line["contrastive_loss"] + line["saliency_loss"] + 0.5 * line["swav_loss"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
    first, last = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("initial", "final"))
    assert torch.allclose(first["prototypes.weight"].norm(dim=1), torch.ones(3))
    assert torch.allclose(last["prototypes.weight"].norm(dim=1), torch.ones(3), atol=0.1)  # one step after
    assert not torch.allclose(first["prototypes.weight"], last["prototypes.weight"], atol=1e-3)
    saved = load_checkpoint(list_checkpoints(tmp_path / "run/checkpoints")[-1])
    assert torch.equal(saved["model"]["prototypes.weight"], last["prototypes.weight"])
    assert not torch.equal(saved["twin"]["prototypes.weight"], first["prototypes.weight"])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"objective": {"swav_weight": 1.0}}, r"swav_weight is 1\.0 and model\.num_prototypes 0; they go together"),
        ({"model": {"num_prototypes": 3}}, r"swav_weight is 0\.0 and model\.num_prototypes 3; they go together"),
        ({**SWAV, "objective": {"swav_weight": 1.0, "resolution": "full"}}, r"resolution is full; use grid"),
        ({"objective": {"swav_use_bank": True}}, r"swav_use_bank is true, but objective\.swav_weight is 0\.0"),
        (
            {"objective": {"background": "negatives"}, "model": {"embedding_of": "masks"}},
            r"background is negatives, but model\.embedding_of is masks",
        ),
        ({"objective": {"sinkhorn_epsilon": 0.0}}, r"sinkhorn_epsilon is 0\.0; it must be positive"),
        ({"objective": {"sinkhorn_iterations": 0}}, r"sinkhorn_iterations is 0; it must be 1 or more"),
        ({"objective": {"swav_weight": -1.0}}, r"swav_weight is -1\.0; it must be 0"),
        ({"model": {"num_prototypes": 1}}, r"num_prototypes is 1; it must be 0 \(none\), or 2 or more"),
    ],
)
def test_what_does_not_go_together_is_refused(sections: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        changed(**sections)
