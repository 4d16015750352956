"""DINO pretraining in miniature: it learns, resumes to the same bits, and several processes train as one."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_processes
from safetensors.torch import load_file
from tiny_dino import RUN, build, changed, train, train_part
from tiny_training import draw_images, numbers

from densessl.errors import InputError
from densessl.objectives.self_distillation import SelfDistillation
from densessl.training import dino_steps
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.dino_state import build_dino_optimizer, new_dino_state
from densessl.training.dino_steps import clip_each_gradient


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("dino") / "set")


def _checkpoint(run: Path, step: int) -> dict[str, Any]:
    return load_checkpoint(run / f"checkpoints/step-{step:09d}.pt", "densessl-dino-1")


def test_training_moves_student_and_teacher_and_lowers_the_loss(root: Path, tmp_path: Path) -> None:
    run = changed(
        training={"epochs": 20, "checkpoint_every": 20}, distillation={"teacher_momentum": 0.9, "center_momentum": 0.5}
    )
    result = train(root, tmp_path, run)
    lines = numbers(tmp_path)
    assert result.num_steps == 40
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert all(math.isfinite(value) for line in lines for value in line.values())
    for line in lines:
        assert line["loss"] == pytest.approx(line["teacher_entropy"] + line["kl_divergence"], abs=1e-4)
    first, last = (sum(line["kl_divergence"] for line in part) / 10 for part in (lines[:10], lines[-10:]))
    assert last < first
    initial, final = (load_file(tmp_path / f"{name}.safetensors") for name in ("initial", "final"))
    assert initial.keys() == final.keys()
    assert all(name.startswith("encoder.backbone.") for name in final)
    teacher = _checkpoint(tmp_path, 40)["teacher"]
    name = "encoder.backbone.blocks.0.mlp.fc1.weight"
    assert torch.equal(final[name], teacher[name])
    assert not torch.equal(final[name], initial[name])


def test_a_step_by_hand(root: Path, tmp_path: Path) -> None:
    """The teacher is the running mean of the students, and the centre that of the teacher's scores."""
    run = changed(training={"checkpoint_every": 1, "keep_checkpoints": 9}, distillation={"teacher_momentum": 0.5})
    train(root, tmp_path, run)
    teacher = build(run).state_dict()
    for step in range(1, 7):
        found, momentum = _checkpoint(tmp_path, step), numbers(tmp_path)[step - 1]["teacher_momentum"]
        assert momentum == pytest.approx(1 - 0.5 * 0.5 * (1 + math.cos(math.pi * (step - 1) / 6)))
        teacher = {name: momentum * value + (1 - momentum) * found["model"][name] for name, value in teacher.items()}
        for name, value in teacher.items():
            torch.testing.assert_close(found["teacher"][name], value, rtol=1e-5, atol=1e-6)
    assert found["center"].abs().sum() > 0


def test_the_last_layer_rests_in_the_first_epoch(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path, changed(training={"checkpoint_every": 1, "keep_checkpoints": 9}))
    name = "head.last_layer.direction"
    start = build().state_dict()[name]
    assert torch.equal(_checkpoint(tmp_path, 2)["model"][name], start)
    assert not torch.equal(_checkpoint(tmp_path, 3)["model"][name], start)
    assert (_checkpoint(tmp_path, 6)["model"]["head.last_layer.length"] == 1).all()


class _PowerCutError(Exception):
    """Ends a run in the middle of a step."""


def test_an_interrupted_run_repeats_every_bit(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next twenty losses are those that the run would have had."""
    run = changed(training={"epochs": 13})
    train(root, tmp_path / "whole", run)
    take, counted = dino_steps.DinoSteps.take_step, []

    def cut(steps: dino_steps.DinoSteps, batch: Any) -> float:
        counted.append(1)
        if len(counted) == 6:
            raise _PowerCutError
        return take(steps, batch)

    monkeypatch.setattr(dino_steps.DinoSteps, "take_step", cut)
    with pytest.raises(_PowerCutError):
        train(root, tmp_path / "cut", run)
    monkeypatch.undo()
    assert load_checkpoint(list_checkpoints(tmp_path / "cut/checkpoints")[-1], "densessl-dino-1")["step"] == 4
    train(root, tmp_path / "cut", run, resume=True)
    assert len(numbers(tmp_path / "cut")) == 26
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")
    resumed, whole = (load_file(tmp_path / run_name / "final.safetensors") for run_name in ("cut", "whole"))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_a_checkpoint_of_another_kind_or_architecture_is_refused(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path, changed(training={"epochs": 1}))
    with pytest.raises(InputError, match="is not a checkpoint of densessl pretraining"):
        load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1])
    with pytest.raises(InputError, match="belongs to another architecture"):
        train(root, tmp_path, changed(training={"epochs": 2}, head={"num_outputs": 9}), resume=True)


def test_a_loss_that_is_no_number_ends_the_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> SelfDistillation:
        found = compute(*arguments)
        return found._replace(loss=found.loss * math.nan)

    compute = dino_steps.self_distillation_loss
    monkeypatch.setattr(dino_steps, "self_distillation_loss", broken)
    message = r"loss became nan at step 1 .*Lower dino.schedule.learning_rate \(now 0.05\), lower dino.schedule"
    with pytest.raises(InputError, match=message):
        train(root, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_train_as_one(root: Path, tmp_path: Path) -> None:
    """Gradients are averaged and the centre is shared; rounding differs."""
    run = changed(training={"batch_size": 6, "epochs": 4}, schedule={"drop_path": 0.0, "learning_rate": 0.001})
    run_processes(2, train_part, root, tmp_path / "two", run)
    train(root, tmp_path / "one", run)
    two, one = numbers(tmp_path / "two"), numbers(tmp_path / "one")
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    torch.testing.assert_close(
        _checkpoint(tmp_path / "two", 4)["center"], _checkpoint(tmp_path / "one", 4)["center"], rtol=1e-3, atol=1e-5
    )


def test_vectors_do_not_decay() -> None:
    student = build()
    decaying, others = build_dino_optimizer(student, RUN.dino.schedule).param_groups
    assert (decaying["decays"], others["decays"]) == (True, False)
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    assert all(parameter.ndim == 1 for parameter in others["params"])
    assert {names[id(parameter)].rpartition(".")[2] for parameter in others["params"]} == {"weight", "bias"}
    known = {id(parameter) for group in (decaying, others) for parameter in group["params"]}
    assert {name for key, name in names.items() if key not in known} == {"head.last_layer.length"}


def test_the_teacher_begins_as_the_student_and_leaves_no_branch_out() -> None:
    state = new_dino_state(build(changed(schedule={"drop_path": 0.9})), RUN.dino.schedule)
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(state.teacher(images), state.student.eval()(images))
    assert not any(parameter.requires_grad for parameter in state.teacher.parameters())


def test_each_gradient_is_clipped_by_itself() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.6, 0.8])
    assert float(clip_each_gradient(parameters, 2.5)) == pytest.approx(math.sqrt(26))
    torch.testing.assert_close(parameters[0].grad, torch.tensor([1.5, 2.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.6, 0.8]))
    clip_each_gradient(parameters, 0)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([1.5, 2.0]))
