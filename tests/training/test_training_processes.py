"""Commands as users start them: training killed for good and resumed, training and scoring on two processes."""

import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import run_processes
from PIL import Image
from safetensors.torch import load_file
from tiny_training import changed, draw_images, numbers, train

from densessl.commands.evaluate import evaluate
from densessl.data.label_maps import write_label_map
from densessl.training import gradients, pretraining
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.state import TrainingState
from densessl.training.step import StepResult

FLAGS = (
    *("--model.encoder", "test_resnet", "--model.output_stride", "16", "--model.decoder_channels", "8"),
    *("--model.separable_decoder", "true", "--model.embedding_dim", "4", "--views.size_px", "32"),
    *("--objective.queue_length", "5", "--training.batch_size", "3", "--training.learning_rate", "0.05"),
    *("--training.precision", "fp32", "--training.num_workers", "0", "--training.log_every", "1"),
    *("--training.keep_checkpoints", "4"),
)


def _command(root: Path, run: Path, epochs: int, *further: str, launcher: tuple[str, ...] = ()) -> list[str]:
    places = ["--images", str(root / "images"), "--masks", str(root / "masks"), "--out", str(run)]
    steps = ["--training.epochs", str(epochs), "--training.checkpoint_every", "5"]
    return [sys.executable, "-m", *launcher, "densessl", "pretrain", *places, *steps, *FLAGS, *further]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    root, epochs = draw_images(tmp_path / "set"), 30  # sixty steps
    _run(_command(root, tmp_path / "whole", epochs))
    killed = tmp_path / "killed"
    process = subprocess.Popen(_command(root, killed, epochs), env=_environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list_checkpoints(killed / "checkpoints")) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= load_checkpoint(list_checkpoints(killed / "checkpoints")[-1])["step"] < 60
    assert not (killed / "final.safetensors").exists()
    _run(_command(root, killed, epochs, "--resume", "true"))
    assert [line["step"] for line in numbers(killed)] == list(range(1, 61))
    assert numbers(killed) == numbers(tmp_path / "whole")
    resumed, whole = (load_file(run / "final.safetensors") for run in (killed, tmp_path / "whole"))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
@pytest.mark.parametrize(
    "kind",
    [
        (),
        ("--views.neighbours", "2", "--model.embedding_of", "masks", "--model.embedding_hidden", "6"),
        ("--training.cache_gb", "0.1", "--training.num_workers", "1"),
    ],
)
def test_two_processes_train_one_network_and_resume_exactly(tmp_path: Path, kind: tuple[str, ...]) -> None:
    root = draw_images(tmp_path / "set", 8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), "-m")
    further = ("--training.batch_size", "4", *kind)
    _run(_command(root, tmp_path / "run", 4, *further, launcher=launcher))
    assert [line["step"] for line in numbers(tmp_path / "run")] == list(range(1, 9))
    last = load_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert last["step"] == 8
    assert int(last["bank"]["num_enqueued"]) == 32  # the prototypes of both processes
    lines, weights = numbers(tmp_path / "run"), load_file(tmp_path / "run/final.safetensors")
    (tmp_path / "run" / "checkpoints" / "step-000000008.pt").unlink()
    _run(_command(root, tmp_path / "run", 4, *further, "--resume", "true", launcher=launcher))
    assert numbers(tmp_path / "run") == lines
    again = load_file(tmp_path / "run/final.safetensors")
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def _train_part(
    root: Path, run: Path, settings: PretrainSettings, resume: bool = False, is_precise: bool = False
) -> dict[str, Any]:
    """Train in one of several processes; returns its own copies of the memory bank and the twin, and its last loss.

    The process ends with this function, so what it changes in modules stays there.
    """
    states: list[TrainingState] = []
    first_state, step = pretraining.new_state, gradients.training_step

    def kept(*arguments: Any) -> TrainingState:
        states.append(first_state(*arguments))
        states[-1].bank.float()
        return states[-1]

    def precise(*arguments: Any) -> StepResult:
        batch = arguments[4]
        images = {name: getattr(batch, name).double() for name in ("query_images", "key_images")}
        local = batch.local and dataclasses.replace(batch.local, images=batch.local.images.double())
        return step(*arguments[:4], dataclasses.replace(batch, **images, local=local), *arguments[5:])

    pretraining.new_state = kept
    if is_precise:
        torch.set_default_dtype(torch.float64)
        gradients.training_step = precise
    result = train(root, run, settings, resume=resume)
    state = states[0].to_checkpoint()
    return {"bank": state["bank"], "twin": state["twin"], "final_loss": result.final_loss}


def _close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 1e-5) -> bool:
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=0, atol=tolerance) for name in first)


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _losses(run: Path) -> list[float]:
    return [line["loss"] for line in numbers(run)]


def _last(run: Path) -> dict[str, Any]:
    return load_checkpoint(list_checkpoints(run / "checkpoints")[-1])


TEN_STEPS = changed(
    model={"dropout": 0.0, "decoder": "none"},
    training={"batch_size": 4, "epochs": 5, "checkpoint_every": 5, "learning_rate": 0.004},
)
"""Ten steps on eleven images."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"objective": {"mode": "formula", "exclude_similar": 0.3}},
        {"model": {"batch_norm": "frozen"}, "training": {"batch_norm_sync": "none", "optimizer": "adamw"}},
        {"objective": {"resolution": "full", "queue_length": 0, "exclude_similar": 0.3}},
        {"model": {"embedding_of": "masks", "batch_norm": "frozen"}},
        {"training": {"batch_size": 5}, "views": {"split_instances": True}},
        {"model": {"decoder": "deeplabv3"}, "training": {"learning_rate": 0.0004}},
    ],
)
def test_two_processes_train_as_one(tmp_path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """The network computes in double precision: training amplifies the rounding of small batch norms a thousandfold."""
    root = draw_images(tmp_path / "set", 11)
    settings = changed(TEN_STEPS, training={"batch_norm_sync": "sync"}, objective={"negatives": "global"})
    settings = changed(settings, **sections)
    is_precise = settings.model.embedding_of == "pixels"  # masks are embedded in single precision
    (one,) = run_processes(1, _train_part, root, tmp_path / "one", settings, False, is_precise)
    parts = run_processes(2, _train_part, root, tmp_path / "two", settings, False, is_precise)
    assert len(_losses(tmp_path / "one")) == 10
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "one"), abs=1e-5)
    weights = [load_file(tmp_path / run / "final.safetensors") for run in ("one", "two")]
    assert _close(*weights)
    assert _close(parts[0]["bank"], one["bank"])  # in the same order
    assert _same(parts[0]["bank"], parts[1]["bank"])
    assert parts[0]["final_loss"] == parts[1]["final_loss"]  # that of the whole batch
    saved = [_last(tmp_path / run) for run in ("one", "two")]
    assert _close(saved[1]["bank"], saved[0]["bank"])
    assert _close(saved[1]["twin"], saved[0]["twin"])


@pytest.mark.slow
def test_the_tasks_of_srun_train_as_the_processes_of_torchrun(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 11)
    for name, is_srun in (("torchrun", False), ("srun", True)):
        run_processes(2, _train_part, root, tmp_path / name, TEN_STEPS, is_srun=is_srun)
    assert numbers(tmp_path / "srun") == numbers(tmp_path / "torchrun")
    assert len(numbers(tmp_path / "srun")) == 10


@pytest.mark.slow
def test_local_negatives_are_those_of_each_process(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 11)
    run_processes(1, _train_part, root, tmp_path / "one", TEN_STEPS)
    parts = run_processes(2, _train_part, root, tmp_path / "two", TEN_STEPS)
    assert _same(parts[0]["bank"], parts[1]["bank"])
    assert abs(_losses(tmp_path / "two")[0] - _losses(tmp_path / "one")[0]) > 0.01
    assert parts[0]["final_loss"] != parts[1]["final_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("model", [{}, {"embedding_of": "masks"}])
def test_shuffled_keys_come_back_to_their_images(tmp_path: Path, model: dict[str, str]) -> None:
    """Where batch norm is frozen, where an image was embedded makes no difference; else it does."""
    root = draw_images(tmp_path / "set", 7)
    found = {}
    for batch_norm in ("frozen", "train"):
        for sync in ("none", "shuffle"):
            further = {"batch_size": 7, "epochs": 2, "batch_norm_sync": sync}
            settings = changed(TEN_STEPS, model={"batch_norm": batch_norm, **model}, training=further)
            parts = run_processes(2, _train_part, root, tmp_path / f"{batch_norm}-{sync}", settings)
            found[batch_norm, sync] = parts[1]["bank"]["prototypes"]
    assert torch.allclose(found["frozen", "none"], found["frozen", "shuffle"], atol=1e-5)
    assert not torch.allclose(found["train", "none"], found["train", "shuffle"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"batch_norm_sync": "shuffle"}},
        {"training": {"batch_norm_sync": "shuffle"}, "model": {"embedding_of": "masks"}},
        {"training": {"batch_size": 3, "max_grad_norm": 0.5, "optimizer": "adamw"}, "model": {"decoder": "deeplabv3"}},
    ],
)
def test_two_processes_of_any_kind_resume_exactly(tmp_path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """In the last kind a process has a single image, whose pooling branch uses the running statistics of rank 0."""
    root, settings = draw_images(tmp_path / "set", 11), changed(TEN_STEPS, **sections)
    whole = run_processes(2, _train_part, root, tmp_path / "run", settings)
    losses, weights = _losses(tmp_path / "run"), load_file(tmp_path / "run/final.safetensors")
    list_checkpoints(tmp_path / "run/checkpoints")[-1].unlink()
    again = run_processes(2, _train_part, root, tmp_path / "run", settings, True)
    assert _losses(tmp_path / "run") == losses
    assert _same(load_file(tmp_path / "run/final.safetensors"), weights)
    assert all(_same(first["bank"], second["bank"]) for first, second in zip(whole, again, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"max_grad_norm": 0.5}},
        {
            "training": {"batch_norm_sync": "sync"},
            "objective": {"negatives": "global"},
            "model": {"frozen": ("conv1",)},
        },
        {"training": {"optimizer": "adamw", "batch_norm_sync": "shuffle"}, "objective": {"mode": "formula"}},
        {"model": {"decoder": "deeplabv3"}, "training": {"learning_rate": 0.0004}},
        {"model": {"encoder": "test_vit", "decoder": "none"}},
    ],
)
def test_sharded_training_is_that_of_whole_networks(tmp_path: Path, sections: dict[str, dict[str, Any]]) -> None:
    root, settings = draw_images(tmp_path / "set", 11), changed(TEN_STEPS, **sections)
    run_processes(2, _train_part, root, tmp_path / "whole", settings, False, True)
    sharded = changed(settings, training={"strategy": "fsdp"})
    run_processes(2, _train_part, root, tmp_path / "parts", sharded, False, True)
    assert len(_losses(tmp_path / "whole")) == 10
    assert _losses(tmp_path / "parts") == pytest.approx(_losses(tmp_path / "whole"), abs=1e-5)
    assert _close(*(load_file(tmp_path / name / "final.safetensors") for name in ("whole", "parts")))
    saved = [_last(tmp_path / name) for name in ("whole", "parts")]
    for name in ("model", "twin", "bank"):
        assert _close(saved[0][name], saved[1][name])
    assert saved[0]["optimizer"]["state"].keys() == saved[1]["optimizer"]["state"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("first", "second"), [(("fsdp", 2), ("ddp", 1)), (("ddp", 1), ("fsdp", 2))])
def test_a_checkpoint_goes_on_sharded_and_whole(
    tmp_path: Path, first: tuple[str, int], second: tuple[str, int], optimizer: str
) -> None:
    root = draw_images(tmp_path / "set", 11)
    settings = changed(
        TEN_STEPS,
        model={"batch_norm": "frozen"},
        objective={"negatives": "global"},
        training={"optimizer": optimizer},
    )
    run_processes(1, _train_part, root, tmp_path / "one", settings, False, True)
    for strategy, num in (first, second):
        kind = changed(settings, training={"strategy": strategy})
        run_processes(num, _train_part, root, tmp_path / "run", kind, num == second[1], True)
        if (strategy, num) == first:
            list_checkpoints(tmp_path / "run/checkpoints")[-1].unlink()  # the last five steps are done again
    assert len(_losses(tmp_path / "run")) == 10
    assert _losses(tmp_path / "run") == pytest.approx(_losses(tmp_path / "one"), abs=1e-5)
    assert _close(*(load_file(tmp_path / name / "final.safetensors") for name in ("run", "one")))


@pytest.mark.slow
@pytest.mark.parametrize(("num_images", "batch_size", "num_processes"), [(7, 3, 2), (5, 64, 2), (11, 5, 3), (2, 2, 2)])
def test_unequal_shares_do_not_wait_for_each_other(
    tmp_path: Path, num_images: int, batch_size: int, num_processes: int
) -> None:
    """Odd batches, a last one that is incomplete, and images that never have a usable view in every one of them."""
    root = draw_images(tmp_path / "set", num_images)
    for path in sorted((root / "masks").iterdir())[: num_images // 2]:
        Image.fromarray(np.full((36, 44), 255, dtype=np.uint8)).save(path)
    settings = changed(
        TEN_STEPS,
        training={"batch_size": batch_size, "epochs": 2, "batch_norm_sync": "sync"},
        objective={"negatives": "global"},
        views={"max_tries": 2},
    )
    parts = run_processes(num_processes, _train_part, root, tmp_path / "run", settings, seconds=60)
    assert len(_losses(tmp_path / "run")) == 2 * max(1, num_images // batch_size)
    assert all(_same(part["bank"], parts[0]["bank"]) for part in parts)
    assert int(_last(tmp_path / "run")["bank"]["num_enqueued"]) > 0


@pytest.mark.slow
def test_a_batch_smaller_than_the_number_of_processes_is_refused(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 6)
    settings = changed(training={"batch_size": 1})
    with pytest.raises(RuntimeError) as caught:
        run_processes(2, _train_part, root, tmp_path / "run", settings, seconds=60)
    message = "a batch of 1 images cannot be shared by 2 processes; raise training.batch_size"
    assert str(caught.value).count(message) == 2


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_stops_all(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 6)
    with pytest.raises(RuntimeError) as caught:
        run_processes(2, _train_with_a_broken_loss, root, tmp_path / "run", seconds=60)
    for loss in ("not finite in another process", "nan"):
        assert f"the loss became {loss} at step 2" in str(caught.value)


def _train_with_a_broken_loss(root: Path, run: Path) -> None:
    step, calls = gradients.training_step, []

    def broken(*arguments: Any) -> StepResult:
        result = step(*arguments)
        calls.append(1)
        is_broken = len(calls) == 2 and os.environ["RANK"] == "1"
        return dataclasses.replace(result, loss=result.loss * math.nan) if is_broken else result

    gradients.training_step = broken
    train(root, run, TEN_STEPS)


def _score_part(root: Path, name: str, num_classes: int = 4) -> float:
    """Score the predictions of a folder in one of several processes, with all that reads images."""
    places = (root / "predictions", root / "labels", num_classes, root / name / "scores.json")
    found = evaluate(
        *places,
        match="hungarian",
        boundary=True,
        instances=True,
        bootstrap=100,
        compare=root / "labels",
        plot=root / name / "plot.png",
    )
    return found.miou


@pytest.mark.parametrize("is_srun", [False, True])
def test_several_processes_score_as_one(tmp_path: Path, is_srun: bool) -> None:
    rng = np.random.default_rng(0)
    for index in range(5):
        labels = np.kron(rng.integers(0, 4, (3, 4)), np.ones((4, 5), dtype=np.int64))
        labels[0, :7] = 255
        guess = np.where(rng.random(labels.shape) < 0.8, labels, 1 + index)  # later images show further clusters
        write_label_map(tmp_path / "labels" / f"{index}.png", labels)
        write_label_map(tmp_path / "predictions" / f"{index}.png", np.where(guess == 255, 0, guess))
    one = _score_part(tmp_path, "one")
    assert run_processes(3, _score_part, tmp_path, "three", is_srun=is_srun) == [one] * 3
    whole, shared = (sorted((tmp_path / name).iterdir()) for name in ("one", "three"))
    assert [path.name for path in shared] == [path.name for path in whole] == ["plot.png", "scores.json"]
    assert [path.read_bytes() for path in shared] == [path.read_bytes() for path in whole]


def test_an_image_that_one_process_cannot_score_stops_all(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write_label_map(tmp_path / "labels" / f"{stem}.png", np.full((4, 5), ord(stem) - ord("a"), np.uint8))
        write_label_map(tmp_path / "predictions" / f"{stem}.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(RuntimeError) as caught:
        run_processes(2, _score_part, tmp_path, "two", 1)
    assert str(caught.value).count("InputError: image b: label 1 ") == 2
    assert not (tmp_path / "two").exists()
