"""Functions run in processes of their own, forked from a server that has imported what they need once."""

import io
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["densessl.training.pretraining", "densessl.data.image_folder"])


@dataclass(frozen=True)
class Failure:
    """The text of an error in a process."""

    text: str


def start(function: Callable[..., Any], *arguments: Any, **environment: str) -> tuple[BaseProcess, Connection]:
    """Call a function of a module in a new process; the connection yields its result, or a `Failure`."""
    receiver, sender = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=_call, args=(sender, environment, function, arguments), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def run_processes(
    num: int, function: Callable[..., Any], *arguments: Any, seconds: float = 90, is_srun: bool = False
) -> list[Any]:
    """Call a function in `num` processes that know of each other as torchrun's do; returns their results by rank.

    With `is_srun` they know of each other as srun's do, on one machine.

    Raises `RuntimeError` with the text of every process's error, `TimeoutError` where they do not end in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"} for rank in range(num)]
    kind = {"TORCHELASTIC_RUN_ID": "test"} if num > 1 else {}
    if is_srun:
        kind = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "test", "SLURM_NTASKS": str(num), "SLURM_NNODES": "1"}
        job = {name: job[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
        job |= {"SLURM_STEP_NUM_TASKS": str(num), "SLURM_NTASKS_PER_NODE": str(num), "SLURM_NODEID": "0"}
        ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(num)]
    started = [start(function, *arguments, **(job | rank | kind if num > 1 else {})) for rank in ranks]
    try:
        results = [_receive(process, receiver, seconds) for process, receiver in started]
    finally:
        for process, _ in started:
            process.kill()
            process.join()
    errors = [result.text for result in results if isinstance(result, Failure)]
    if errors:
        raise RuntimeError("".join(errors))
    return results


def _receive(process: BaseProcess, receiver: Connection, seconds: float) -> Any:
    if not receiver.poll(seconds):
        raise TimeoutError(f"process {process.pid} did not end within {seconds} s")
    return torch.load(io.BytesIO(receiver.recv_bytes()), weights_only=False)


def _call(sender: Connection, environment: dict[str, str], function: Callable[..., Any], arguments: Any) -> None:
    os.environ.update(environment)
    try:
        result = function(*arguments)
    except BaseException:
        result = Failure(traceback.format_exc())
    content = io.BytesIO()
    torch.save(result, content)  # by value: pickled tensors would be shared memory, which ends with the process
    sender.send_bytes(content.getvalue())
    os._exit(0)
