"""Training as users start it: killed for good and resumed, and on two processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import draw_images, numbers

from densessl.training.checkpoints import list_checkpoints, load_checkpoint

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
