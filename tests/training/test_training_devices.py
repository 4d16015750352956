"""Devices and processes: what a plain call gets."""

import pytest
import torch

from densessl.errors import InputError
from densessl.training.devices import gather_rows, make_fabric

ALLOCATION = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "batch", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
"""Variables of a batch script that asked for four tasks; srun adds those of its step."""


@pytest.mark.parametrize("job", [{}, ALLOCATION, {**ALLOCATION, "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "1"}])
def test_one_process_has_no_process_group(monkeypatch: pytest.MonkeyPatch, job: dict[str, str]) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    fabric = make_fabric("fp32")
    assert (fabric.world_size, fabric.global_rank, fabric.is_global_zero) == (1, 0, True)
    assert not torch.distributed.is_initialized()
    rows = torch.randn(3, 4)
    assert gather_rows(fabric, rows) is rows


def test_tasks_of_srun_whose_place_is_unknown_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in {**ALLOCATION, "SLURM_STEP_NUM_TASKS": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    with pytest.raises(InputError, match=r"srun started 4 processes .* start them with srun --ntasks-per-node N"):
        make_fabric("fp32")
