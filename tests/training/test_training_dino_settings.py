"""Settings of DINO: the published schedule as a function of the step, and what is refused."""

import math
from typing import Any

import pytest

from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.models.mask_contrast_model import ModelSettings
from densessl.objectives.self_distillation import SelfDistillationSettings
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.dino_schedule import DinoRates, along_cosine, dino_rates
from densessl.training.dino_settings import DinoRun, DinoScheduleSettings, DinoSettings, check_unused
from densessl.training.settings import TrainingSettings

RUN = DinoRun(DinoSettings(), TrainingSettings(epochs=100, batch_size=1024))


def _rates(step: int, run: DinoRun = RUN) -> DinoRates:
    return dino_rates(run, step, steps_per_epoch=20, images_per_step=1024)


def test_published_schedule() -> None:
    """Values of arXiv:2104.14294 at a batch of 1024: rate 0.002 after 10 epochs, temperature 0.07 after 30."""
    assert _rates(0) == pytest.approx(DinoRates(0.002 / 200, 0.04, 0.996, 0.04))
    assert _rates(99).learning_rate == pytest.approx(0.001)
    assert _rates(199).learning_rate == pytest.approx(0.002)
    assert _rates(200).learning_rate == pytest.approx(0.002)
    middle = 1e-6 + (0.002 - 1e-6) / 2
    assert _rates(200 + 900).learning_rate == pytest.approx(middle)
    assert _rates(1000).weight_decay == pytest.approx(0.22)
    assert _rates(1000).teacher_momentum == pytest.approx(0.998)
    last = _rates(1999)
    assert last == pytest.approx(DinoRates(1e-6, 0.4, 1.0, 0.07), rel=5e-2)
    for step in range(1999):
        now, then = _rates(step), _rates(step + 1)
        assert then.weight_decay > now.weight_decay
        assert then.teacher_momentum > now.teacher_momentum
        assert step < 199 or then.learning_rate <= now.learning_rate


def test_temperature_of_the_teacher_rises_from_epoch_to_epoch() -> None:
    found = [_rates(20 * epoch).teacher_temperature for epoch in range(40)]
    assert found[:30] == pytest.approx([0.04 + 0.03 * epoch / 29 for epoch in range(30)])
    assert found[29:] == pytest.approx([0.07] * 11)
    assert _rates(19).teacher_temperature == 0.04
    for num_epochs, first in ((0, 0.07), (1, 0.04)):
        settings = DinoSettings(distillation=SelfDistillationSettings(teacher_warmup_epochs=num_epochs))
        run = DinoRun(settings, RUN.training)
        assert [_rates(step, run).teacher_temperature for step in (0, 20)] == pytest.approx([first, 0.07])


def test_along_cosine() -> None:
    assert along_cosine(2.0, 1.0, 0, 8) == 2.0
    assert along_cosine(2.0, 1.0, 8, 8) == pytest.approx(1.0)
    assert along_cosine(2.0, 1.0, 2, 8) == pytest.approx(1 + (1 + math.sqrt(0.5)) / 2)


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(InputError, match=r"dino.schedule.warmup_epochs is 10, but training.epochs is 5; lower"):
        DinoRun(DinoSettings(), TrainingSettings(epochs=5))
    with pytest.raises(InputError, match=r"dino.distillation.teacher_warmup_epochs is 30, but training.epochs is 20"):
        DinoRun(DinoSettings(), TrainingSettings(epochs=20))


def test_a_batch_size_to_be_found_is_refused() -> None:
    with pytest.raises(InputError, match=r"training.batch_size is 0 \(find what fits\)"):
        DinoRun(DinoSettings(), TrainingSettings(batch_size=0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"drop_path": 1.0}, "dino.schedule.drop_path is 1.0; a rate below 1"),
        ({"learning_rate": -1.0}, "dino.schedule.learning_rate is -1.0; it must be 0 or more"),
        ({"max_grad_norm": math.nan}, "dino.schedule.max_grad_norm is nan"),
    ],
)
def test_schedule_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DinoScheduleSettings(**values)


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        (
            "model",
            {"decoder": "none"},
            "model.decoder is none, but objective.method dino does not use it; leave",
        ),
        ("views", {"size_px": 96}, "views.size_px is 96, .*; set dino.crops.global_size_px"),
        ("objective", {"momentum": 0.9}, "objective.momentum is 0.9, .*; set dino.distillation.teacher_momentum"),
        ("training", {"learning_rate": 0.1}, "training.learning_rate is 0.1, .*; set dino.schedule.learning_rate"),
        ("training", {"strategy": "fsdp"}, "training.strategy is fsdp, .*; leave it out"),
    ],
)
def test_settings_that_dino_would_pass_over_are_refused(group: str, values: dict[str, Any], message: str) -> None:
    kinds = {
        "model": ModelSettings,
        "views": ViewSettings,
        "objective": ObjectiveSettings,
        "training": TrainingSettings,
    }
    given = {name: kind(**(values if name == group else {})) for name, kind in kinds.items()}
    with pytest.raises(InputError, match=message):
        check_unused(**given)


def test_settings_that_dino_uses_are_accepted() -> None:
    training = TrainingSettings(
        epochs=1, batch_size=2, precision="fp32", num_workers=0, checkpoint_every=1, keep_checkpoints=1, log_every=1
    )
    check_unused(ModelSettings("vit_tiny_patch16_224"), ViewSettings(), ObjectiveSettings(method="dino"), training)
