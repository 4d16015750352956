"""Devices and processes: what a plain call gets."""

import pytest
import torch

from densessl.training.devices import gather_rows, make_fabric


def test_one_process_has_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    fabric = make_fabric("fp32")
    assert (fabric.world_size, fabric.global_rank, fabric.is_global_zero) == (1, 0, True)
    assert not torch.distributed.is_initialized()
    rows = torch.randn(3, 4)
    assert gather_rows(fabric, rows) is rows
