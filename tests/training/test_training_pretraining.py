"""Pretraining end to end: it runs, repeats itself, resumes exactly, and stops where the loss is no number."""

import gc
import itertools
import math
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_training import SETTINGS, changed, draw_images, numbers, train

from densessl.errors import InputError
from densessl.training import gradients, pretraining, throughput, training_loop
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.diagnostics import effective_rank, embedding_spread
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.run_log import read_metrics
from densessl.training.step import StepResult


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def reference(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with checkpoints after steps 2, 4 and 6."""
    run = tmp_path_factory.mktemp("reference") / "run"
    train(root, run)
    return run


def _interrupt(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
    """Let training raise in the step that follows `after` steps."""
    original, calls = gradients.training_step, []

    def interrupted(*arguments: Any) -> StepResult:
        calls.append(1)
        if len(calls) > after:
            raise error
        return original(*arguments)

    monkeypatch.setattr(gradients, "training_step", interrupted)


def _same_tensors(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same_tensors(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same_tensors, first, second))
    return bool(first == second)


def _without_time(path: Path) -> dict[str, Any]:
    return {key: value for key, value in load_checkpoint(path).items() if key != "seconds"}


def test_a_run_writes_what_it_promises(root: Path, reference: Path) -> None:
    lines = numbers(reference)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines] == [0, 0, 1, 1, 2, 2]
    for line in lines:
        assert all(math.isfinite(value) for value in line.values())
        assert line["loss"] == pytest.approx(line["contrastive_loss"] + line["saliency_loss"], rel=1e-5)
        assert 1 <= line["effective_rank"] <= 4
        assert (line["masks_used"], line["masks_skipped"], line["replaced_share"]) == (3, 0, 0)
        assert 0 <= line["false_negative_share"] <= 1
        assert 0.01 <= line["foreground_share"] <= 0.99
    assert [line["queue_age"] for line in lines] == [1, 1.4, 1.4, 1.4, 1.4, 1.4]  # five rows, three a step
    assert all(line["memory_mib"] > 0 for line in read_metrics(reference) if "memory_mib" in line)
    assert not (reference / "alarms.jsonl").exists()
    rates = [0.05 * factor**0.9 for factor in (1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3)]
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates)
    assert [path.name for path in list_checkpoints(reference / "checkpoints")] == [
        "step-000000002.pt",
        "step-000000004.pt",
        "step-000000006.pt",
    ]
    final, initial = (load_file(reference / f"{name}.safetensors") for name in ("final", "initial"))
    assert final.keys() == initial.keys()
    assert not torch.equal(final["embedding_head.weight"], initial["embedding_head.weight"])
    assert _same_tensors(final, load_checkpoint(reference / "checkpoints" / "step-000000006.pt")["model"])
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_seed_gives_the_same_run(root: Path, reference: Path, tmp_path: Path, num_workers: int) -> None:
    result = train(root, tmp_path / "run", changed(training={"num_workers": num_workers}))
    assert numbers(tmp_path / "run") == numbers(reference)
    assert _same_tensors(load_file(tmp_path / "run/final.safetensors"), load_file(reference / "final.safetensors"))
    assert (result.num_steps, result.num_replaced) == (6, 0)
    assert result.final_loss == numbers(reference)[-1]["loss"]
    assert result.seconds > 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_cache_changes_nothing_and_goes_with_the_run(
    root: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    """Interrupted, the cache of the run folder stays; at the end it goes. One elsewhere stays."""
    settings = changed(training={"cache_gb": 1.0, "num_workers": num_workers})
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        _interrupt(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train(root, run, settings)
    assert len(list((run / "cache").iterdir())) == 1
    train(root, run, settings, resume=True)
    assert not (run / "cache").exists()
    train(root, tmp_path / "own", changed(settings, training={"cache": tmp_path / "elsewhere"}))
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    for found in (run, tmp_path / "own"):
        assert numbers(found) == numbers(reference)
        assert _same_tensors(load_file(found / "final.safetensors"), load_file(reference / "final.safetensors"))


def test_another_seed_gives_another_run(root: Path, reference: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "run", PretrainSettings(**{**vars(changed(training={"epochs": 1})), "seed": 1}))
    assert numbers(tmp_path / "run")[0]["loss"] != numbers(reference)[0]["loss"]


@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_run_goes_on_exactly(
    root: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """After 1 step there is no checkpoint yet, after 3 one step is lost, after 4 none."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        _interrupt(patch, after, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train(root, run)
    assert [line["step"] for line in numbers(run)] == list(range(1, after + 1))
    assert not (run / "final.safetensors").exists()
    train(root, run, resume=True)
    assert numbers(run) == numbers(reference)
    assert _same_tensors(load_file(run / "final.safetensors"), load_file(reference / "final.safetensors"))
    last = "checkpoints/step-000000006.pt"
    assert _same_tensors(_without_time(run / last), _without_time(reference / last))


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"optimizer": "adamw", "schedule": "cosine", "warmup_steps": 3, "max_grad_norm": 0.5}},
        {"objective": {"pixels_per_mask": 2, "mode": "formula", "resolution": "full"}, "model": {"dropout": 0.5}},
        {"training": {"memory_format": "contiguous"}, "objective": {"queue_length": 0}},
        pytest.param(
            {"training": {"precision": "bf16"}, "model": {"encoder": "test_vit", "decoder": "none"}},
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="fused attention does not repeat itself there"),
        ),
        {"model": {"embedding_of": "masks", "embedding_hidden": 6}, "objective": {"exclude_similar": 0.3}},
    ],
)
def test_every_kind_of_run_goes_on_exactly(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, dict[str, Any]]
) -> None:
    settings = changed(changed(training={"epochs": 2}), **sections)
    train(root, tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        _interrupt(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train(root, tmp_path / "parts", settings)
    train(root, tmp_path / "parts", settings, resume=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = (load_file(tmp_path / name / "final.safetensors") for name in ("whole", "parts"))
    assert _same_tensors(parts, whole)


class _Rude:
    """An evaluation that does what could disturb training: it draws numbers, predicts, and leaves modes changed."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, model: torch.nn.Module) -> dict[str, float]:
        self.num_calls += 1
        assert not model.training
        assert not torch.is_grad_enabled()
        model.eval()(torch.randn(2, 3, 32, 32, device=next(model.parameters()).device))
        torch.manual_seed(5)
        np.random.default_rng().random(3)
        return {"cluster_stability": 0.5}


def test_evaluation_does_not_disturb_training(root: Path, reference: Path, tmp_path: Path) -> None:
    rude, settings = _Rude(), changed(training={"evaluate_every": 2})
    train(root, tmp_path / "run", settings, evaluate=rude)
    lines = numbers(tmp_path / "run")
    assert rude.num_calls == 2
    assert [line["step"] for line in lines if "cluster_stability" in line] == [4, 6]  # after 2 epochs, and at the end
    without = [{key: value for key, value in line.items() if key != "cluster_stability"} for line in lines]
    assert without == numbers(reference)
    last = "checkpoints/step-000000006.pt"
    assert _same_tensors(_without_time(tmp_path / "run" / last), _without_time(reference / last))


@pytest.mark.parametrize("after", [3, 5])
def test_an_evaluated_run_goes_on_exactly(
    root: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    settings = changed(training={"evaluate_every": 1, "log_every": 3})
    train(root, tmp_path / "whole", settings, evaluate=_Rude())
    with monkeypatch.context() as patch:
        _interrupt(patch, after, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train(root, tmp_path / "parts", settings, evaluate=_Rude())
    train(root, tmp_path / "parts", settings, evaluate=_Rude(), resume=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert [line["step"] for line in numbers(tmp_path / "parts")] == [2, 3, 4, 6]
    last = "checkpoints/step-000000006.pt"
    assert _same_tensors(_without_time(tmp_path / "parts" / last), _without_time(reference / last))


def test_resuming_a_finished_run_changes_nothing(root: Path, reference: Path, tmp_path: Path) -> None:
    settings = changed(training={"epochs": 1})
    train(root, tmp_path / "run", settings)
    lines, weights = numbers(tmp_path / "run"), load_file(tmp_path / "run/final.safetensors")
    result = train(root, tmp_path / "run", settings, resume=True)
    assert result.num_steps == 2
    assert result.final_loss == lines[-1]["loss"]
    assert numbers(tmp_path / "run") == lines
    assert _same_tensors(load_file(tmp_path / "run/final.safetensors"), weights)


def test_no_epoch_leaves_the_initial_weights(root: Path, tmp_path: Path) -> None:
    result = train(root, tmp_path / "run", changed(training={"epochs": 0}))
    assert result.num_steps == 0
    assert math.isnan(result.final_loss)
    initial, final = (load_file(tmp_path / f"run/{name}.safetensors") for name in ("initial", "final"))
    assert _same_tensors(initial, final)


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_any_batch_size(root: Path, tmp_path: Path, batch_size: int) -> None:
    settings = changed(training={"batch_size": batch_size, "epochs": 1, "checkpoint_every": 0})
    result = train(root, tmp_path / "run", settings)
    assert result.num_steps == {1: 6, 4: 1, 50: 1}[batch_size]
    bank = load_checkpoint(list_checkpoints(tmp_path / "run/checkpoints")[-1])["bank"]
    assert int(bank["num_enqueued"]) == {1: 6, 4: 4, 50: 6}[batch_size]


def test_images_per_second_are_those_of_the_images_there_are(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves by one second a look: a step takes as many seconds however large the batch may be."""
    rates = {}
    for batch_size in (6, 600):
        monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
        train(root, tmp_path / str(batch_size), changed(training={"batch_size": batch_size, "epochs": 2}))
        rates[batch_size] = [line["images_per_second"] for line in read_metrics(tmp_path / str(batch_size))]
    assert rates[600] == rates[6]


def test_writing_checkpoints_is_no_waiting_for_data(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, save = SimpleNamespace(now=0.0), training_loop.save_checkpoint

    def save_slowly(*arguments: Any) -> Path:
        clock.now += 100.0
        return save(*arguments)

    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(training_loop, "save_checkpoint", save_slowly)
    train(root, tmp_path / "run", changed(training={"checkpoint_every": 1}))
    lines = read_metrics(tmp_path / "run")
    assert [line["data_wait"] for line in lines] == [0.0] * 6
    assert lines[-1]["images_per_second"] == pytest.approx(3 / 100)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    root: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = gradients.training_step, []

    def broken(*arguments: Any) -> StepResult:
        result = original(*arguments)
        calls.append(1)
        return _with_loss(result, is_broken=len(calls) == 5)

    monkeypatch.setattr(gradients, "training_step", broken)
    message = r"loss became nan at step 5 .*last good checkpoint is kept. Lower training.learning_rate \(now 0.05\)"
    with pytest.raises(InputError, match=message):
        train(root, tmp_path / "run")
    last = list_checkpoints(tmp_path / "run/checkpoints")[-1]
    assert last.name == "step-000000004.pt"
    assert _same_tensors(_without_time(last), _without_time(reference / "checkpoints" / last.name))
    assert not (tmp_path / "run/final.safetensors").exists()


def _with_loss(result: StepResult, is_broken: bool) -> StepResult:
    loss = result.loss * math.nan if is_broken else result.loss
    return StepResult(loss, result.saliency_loss, result.term)


def test_a_learning_rate_far_too_high_stops_before_a_bad_checkpoint(root: Path, tmp_path: Path) -> None:
    settings = changed(training={"learning_rate": 1e30, "checkpoint_every": 1})
    with pytest.raises(InputError, match=r"at step \d.*Lower training.learning_rate \(now 1e\+30\)"):
        train(root, tmp_path / "run", settings)
    for path in list_checkpoints(tmp_path / "run/checkpoints"):
        assert all(torch.isfinite(value).all() for value in load_checkpoint(path)["model"].values())


def test_broken_gradients_are_found_before_they_are_saved(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the step is a number, the weights after it are not."""
    monkeypatch.setattr(gradients, "training_step", _with_broken_gradients(step=2))
    settings = changed(training={"checkpoint_every": 1})
    with pytest.raises(InputError, match=r"not finite after step 2.*Lower training.learning_rate"):
        train(root, tmp_path / "run", settings)
    assert [path.name for path in list_checkpoints(tmp_path / "run/checkpoints")] == ["step-000000001.pt"]


def test_broken_gradients_cannot_be_clipped(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "training_step", _with_broken_gradients(step=2))
    settings = changed(training={"checkpoint_every": 1, "max_grad_norm": 1.0})
    message = r"the norm of the gradient became nan at step 2; .*lower training.max_grad_norm \(now 1.0\)"
    with pytest.raises(InputError, match=message):
        train(root, tmp_path / "run", settings)
    assert [path.name for path in list_checkpoints(tmp_path / "run/checkpoints")] == ["step-000000001.pt"]


def _with_broken_gradients(step: int) -> Callable[..., StepResult]:
    original, calls = gradients.training_step, []

    def broken(fabric: Any, model: torch.nn.Module, *arguments: Any) -> StepResult:
        result = original(fabric, model, *arguments)
        calls.append(1)
        if len(calls) != step:
            return result
        weight = next(parameter for parameter in model.parameters() if parameter.requires_grad)
        return StepResult(result.loss + torch.sqrt(weight.sum() * 0), result.saliency_loss, result.term)

    return broken


def test_frozen_parts_stay_as_they_were(root: Path, tmp_path: Path) -> None:
    parts = ("conv1", "bn1", "layer1")
    train(root, tmp_path / "run", changed(training={"epochs": 1}, model={"frozen": parts}))
    initial, final = (load_file(tmp_path / f"run/{name}.safetensors") for name in ("initial", "final"))
    moved = {name for name in initial if not torch.equal(initial[name], final[name])}
    is_frozen = {name: name.startswith(tuple(f"encoder.backbone.{part}." for part in parts)) for name in initial}
    assert any(is_frozen.values())
    assert not any(is_frozen[name] for name in moved)
    assert any(name.startswith("encoder.backbone.layer2.") for name in moved)


def test_an_encoder_frozen_whole_still_trains_the_heads(root: Path, tmp_path: Path) -> None:
    parts = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    train(root, tmp_path / "run", changed(training={"epochs": 1}, model={"frozen": parts}))
    initial, final = (load_file(tmp_path / f"run/{name}.safetensors") for name in ("initial", "final"))
    moved = {name.split(".")[0] for name in initial if not torch.equal(initial[name], final[name])}
    assert moved == {"decoder", "embedding_head", "saliency_head"}


def test_frozen_batch_norm_keeps_its_statistics(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "run", changed(training={"epochs": 1}, model={"batch_norm": "frozen"}))
    initial, final = (load_file(tmp_path / f"run/{name}.safetensors") for name in ("initial", "final"))
    statistics = [name for name in initial if name.startswith("encoder.") and "running_" in name]
    assert statistics
    assert all(torch.equal(initial[name], final[name]) for name in statistics)
    twin = load_checkpoint(list_checkpoints(tmp_path / "run/checkpoints")[-1])["twin"]
    assert all(torch.equal(initial[name], twin[name]) for name in statistics)


def test_the_twin_follows_before_each_step_with_its_own_buffers(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "run", changed(training={"epochs": 1, "checkpoint_every": 1}))
    initial = load_file(tmp_path / "run/initial.safetensors")
    first, second = (load_checkpoint(path) for path in list_checkpoints(tmp_path / "run/checkpoints"))
    for name, value in first["twin"].items():
        if "running_" in name or "num_batches" in name:
            continue
        assert torch.equal(value, initial[name]), name  # before the first step the network had not moved
        expected = 0.9 * initial[name] + 0.1 * first["model"][name]
        assert torch.allclose(second["twin"][name], expected, atol=1e-6), name
    buffer = "encoder.backbone.bn1.running_mean"
    assert not torch.equal(second["twin"][buffer], initial[buffer])
    assert not torch.equal(second["twin"][buffer], second["model"][buffer])
    assert int(second["twin"]["encoder.backbone.bn1.num_batches_tracked"]) == 2


def test_the_encoder_learns_at_its_own_rate(root: Path, tmp_path: Path) -> None:
    training = {"epochs": 1, "encoder_lr_scale": 0.0}
    train(root, tmp_path / "run", changed(training=training))
    initial, final = (load_file(tmp_path / f"run/{name}.safetensors") for name in ("initial", "final"))
    weight = "encoder.backbone.layer2.0.conv1.weight"
    assert torch.equal(initial[weight], final[weight])
    assert not torch.equal(initial["embedding_head.weight"], final["embedding_head.weight"])
    groups = load_checkpoint(list_checkpoints(tmp_path / "run/checkpoints")[-1])["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [0.0, 0.05]


def test_the_saliency_weight_is_that_of_the_sum(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "run", changed(training={"epochs": 1}, objective={"saliency_weight": 3.0}))
    for line in numbers(tmp_path / "run"):
        assert line["loss"] == pytest.approx(line["contrastive_loss"] + 3 * line["saliency_loss"], rel=1e-5)


def test_the_logged_spread_knows_no_random_vector_of_the_bank(root: Path, tmp_path: Path) -> None:
    """The bank holds 5 rows: after step 1 three are real, which are the batch's prototypes, after step 2 all."""
    train(root, tmp_path / "run", changed(training={"epochs": 1, "checkpoint_every": 1}))
    first, second = (load_checkpoint(path)["bank"] for path in list_checkpoints(tmp_path / "run/checkpoints"))
    assert [int(bank["num_enqueued"]) for bank in (first, second)] == [3, 6]
    for line, real in zip(numbers(tmp_path / "run"), (first["prototypes"][:3], second["prototypes"]), strict=True):
        assert line["embedding_spread"] == pytest.approx(embedding_spread(real), rel=1e-5)
        assert line["effective_rank"] == pytest.approx(effective_rank(real), rel=1e-5)


@pytest.mark.parametrize(("num_images", "batch_size"), [(1, 4), (3, 1)])
def test_a_batch_of_one_mask_needs_a_memory_bank(tmp_path: Path, num_images: int, batch_size: int) -> None:
    root = draw_images(tmp_path / "set", num_images)
    settings = changed(training={"batch_size": batch_size, "epochs": 1}, objective={"queue_length": 0})
    message = (
        rf"queue_length is 0 and a process sees 1 image.*batch_size {batch_size}, {num_images} usable images, "
        r"1 processes.*Give objective.queue_length a length .*raise training.batch_size.*views.split_instances"
    )
    with pytest.raises(InputError, match=message):
        train(root, tmp_path / "run", settings)
    assert not list((tmp_path / "run").iterdir())


def test_a_batch_that_could_hold_several_masks_but_has_one_is_not_fatal(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 2)
    settings = changed(
        training={"batch_size": 1, "epochs": 2}, objective={"queue_length": 0}, views={"split_instances": True}
    )
    result = train(root, tmp_path / "run", settings)
    lines = numbers(tmp_path / "run")
    assert [line["contrastive_loss"] for line in lines] == [0.0] * 4
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert result.final_loss == lines[-1]["saliency_loss"] > 0


def test_masks_with_ids_may_hold_several_in_one_image(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 2)
    for path in (root / "masks").iterdir():
        ids = (np.array(Image.open(path)) > 0).astype(np.uint8)
        ids[:, 20:] *= 2
        Image.fromarray(ids).save(path)
    settings = changed(training={"batch_size": 1, "epochs": 2}, objective={"queue_length": 0})
    train(root, tmp_path / "run", settings)
    assert max(line["contrastive_loss"] for line in numbers(tmp_path / "run")) > 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_the_loader_comes_out_in_one_sentence(tmp_path: Path, num_workers: int) -> None:
    root = draw_images(tmp_path / "set")
    for path in (root / "masks").iterdir():
        mask = np.full((36, 44), 255, dtype=np.uint8)
        mask[0, 0] = 0
        Image.fromarray(mask).save(path)
    settings = changed(training={"num_workers": num_workers}, views={"max_tries": 1})
    with pytest.raises(InputError, match=r"^no pair of views with 1%-99% foreground .*views.max_tries$") as caught:
        train(root, tmp_path / "run", settings)
    started = time.monotonic()
    del caught
    gc.collect()
    assert time.monotonic() - started < 4  # the loader's processes end at once
    assert not multiprocessing.active_children()


def test_a_checkpoint_of_another_architecture_is_refused(root: Path, reference: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "run", changed(training={"epochs": 1}))
    before = (tmp_path / "run/checkpoints/step-000000002.pt").read_bytes()
    for section in ({"model": {"embedding_dim": 6}}, {"objective": {"queue_length": 7}}):
        with pytest.raises(
            InputError, match=r"after step 2 belongs to another architecture \(.*\); resume .*start a new run"
        ):
            train(root, tmp_path / "run", changed(SETTINGS, **section), resume=True)
    assert (tmp_path / "run/checkpoints/step-000000002.pt").read_bytes() == before


def test_no_image_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image with a usable mask is left"):
        pretraining.pretrain_model(None, None, (), None, tmp_path, SETTINGS)  # type: ignore[arg-type]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match=r"seed is -1; it must be 0 or more"):
        PretrainSettings(seed=-1)


def test_whole_masks_have_no_full_resolution() -> None:
    with pytest.raises(InputError, match=r"resolution is full.*embedding_of is masks; use grid"):
        changed(model={"embedding_of": "masks"}, objective={"resolution": "full"})
    with pytest.raises(InputError, match=r"pixels_per_mask is 4, but model.embedding_of is masks.*use 0"):
        changed(model={"embedding_of": "masks"}, objective={"pixels_per_mask": 4})


def test_masks_embedded_as_wholes_train_the_head(root: Path, tmp_path: Path) -> None:
    model = {"embedding_of": "masks", "embedding_hidden": 6, "decoder": "none", "frozen": ("conv1", "bn1", "layer1")}
    train(root, tmp_path / "run", changed(training={"epochs": 1}, model=model))
    initial, final = (load_file(tmp_path / f"run/{name}.safetensors") for name in ("initial", "final"))
    moved = {name for name in initial if not torch.equal(initial[name], final[name])}
    assert {"embedding_head.0.weight", "embedding_head.2.bias", "saliency_head.weight"} <= moved
    assert any(name.startswith("encoder.backbone.layer4") for name in moved)
    assert all(line["contrastive_loss"] > 0 for line in read_metrics(tmp_path / "run"))


def test_parts_of_a_step_add_up(root: Path, tmp_path: Path) -> None:
    """With the bank as the only source of negatives and views that differ little, parts are nearly the whole."""
    sections = {
        "model": {"batch_norm": "frozen", "decoder": "none", "dropout": 0.0},
        "views": {"min_scale": 1.0, "jitter": 0.0, "grayscale": 0.0},
        "training": {"epochs": 2, "batch_size": 6},
    }
    losses = []
    for accumulate in (1, 2, 6):
        settings = changed(changed(**sections), training={"accumulate": accumulate}, objective={"mode": "formula"})
        train(root, tmp_path / str(accumulate), settings)
        losses.append([line["contrastive_loss"] for line in numbers(tmp_path / str(accumulate))])
        bank = load_checkpoint(list_checkpoints(tmp_path / str(accumulate) / "checkpoints")[-1])["bank"]
        assert int(bank["num_enqueued"]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
    assert losses[2] == pytest.approx(losses[0], rel=2e-2)


def test_parts_resume_exactly(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = changed(training={"epochs": 2, "accumulate": 2, "recompute_activations": True})
    train(root, tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        _interrupt(patch, 5, KeyboardInterrupt())  # in the third step, between its parts
        with pytest.raises(KeyboardInterrupt):
            train(root, tmp_path / "parts", settings)
    train(root, tmp_path / "parts", settings, resume=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def test_more_parts_than_images_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"accumulate is 4, but a process sees 3 images.*lower it, or raise"):
        train(root, tmp_path / "run", changed(training={"accumulate": 4}))


def test_computing_activations_again_changes_nothing(root: Path, reference: Path, tmp_path: Path) -> None:
    """Batch-norm statistics included, which a second forward pass would move again."""
    train(root, tmp_path / "run", changed(training={"recompute_activations": True}))
    assert numbers(tmp_path / "run") == numbers(reference)
    assert _same_tensors(load_file(tmp_path / "run/final.safetensors"), load_file(reference / "final.safetensors"))


def test_a_profile_says_where_the_time_goes(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(root, tmp_path / "run", profile=True)
    table = (tmp_path / "run" / "profile.txt").read_text()
    for stage in ("wait for data", "query forward", "key forward", "contrastive loss", "backward", "optimiser"):
        assert stage in table
    assert "query forward" in capsys.readouterr().err
