"""The batch size that fits: by arithmetic, and with a real step on this machine."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import SETTINGS, changed

from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.training import batch_probe, batch_size
from densessl.training.batch_probe import fitting_batch_size, measured_peak, synthetic_batch, usable_memory
from densessl.training.batch_size import find_batch_size
from densessl.training.devices import make_fabric

IS_LINUX = Path("/proc/self/clear_refs").exists()


@pytest.mark.parametrize(
    ("usable", "most", "expected"),
    [(1000, 10_000, 64), (1000, 50, 32), (1000, 1, 1), (110, 10_000, 1), (0, 10_000, 1), (740, 10_000, 64)],
)
def test_the_largest_power_of_two_that_fits(usable: float, most: int, expected: int) -> None:
    """A step needs 100 bytes and 10 for each image."""
    assert fitting_batch_size(lambda num: 100.0 + 10.0 * num, usable, most) == expected


@pytest.mark.parametrize("mebibytes", [0.5, 2.0, 40.0])
def test_peaks_that_cannot_be_told_apart_are_measured_with_more_images(mebibytes: float) -> None:
    """An allocator that keeps 30 MiB at random makes four images look like nothing, or like many times as much."""
    for seed in range(20):
        generator = np.random.default_rng(seed)

        def peak(num: int, generator: np.random.Generator = generator) -> float:
            return (1000 + mebibytes * num + generator.uniform(-30, 30)) * 2**20

        found = fitting_batch_size(peak, 16_000 * 2**20, 10**6)
        assert 15_000 / mebibytes / 4 < found < 15_000 / mebibytes * 2


def test_memory_that_does_not_grow_bounds_nothing() -> None:
    assert fitting_batch_size(lambda num: 100.0, 1e9, 300) == 256


@pytest.mark.skipif(not IS_LINUX, reason="the peak of a process can be set back on Linux alone")
def test_the_peak_is_that_of_the_block() -> None:
    cpu = torch.device("cpu")
    torch.ones(2**27)  # 512 MiB, before the block
    with measured_peak(cpu) as small:
        torch.ones(2**20)
    with measured_peak(cpu) as large:
        torch.ones(2**26)  # 256 MiB
    assert 200 * 2**20 < large.bytes - small.bytes < 300 * 2**20
    assert small.bytes < usable_memory(cpu) < 2**45


def test_a_system_that_does_not_say_gets_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batch_probe, "_PROCESS", tmp_path / "none")
    with (
        pytest.raises(InputError, match=r"batch_size is 0.*give a number \(published 64\)"),
        measured_peak(torch.device("cpu")),
    ):
        pass


@pytest.mark.skipif(not IS_LINUX, reason="the peak of a process can be set back on Linux alone")
def test_more_memory_fits_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = changed(SETTINGS, training={"batch_size": 0, "accumulate": 2}, views={"size_px": 64})
    found = []
    for usable in (0.0, 1e15):
        monkeypatch.setattr(batch_size, "usable_memory", lambda _, usable=usable: usable)
        found.append(find_batch_size(make_fabric("fp32"), settings, 100))
    assert found == [2, 64]  # two parts of 1, two of 32


def test_the_synthetic_batch_has_views_of_the_size() -> None:
    batch = synthetic_batch(3, ViewSettings(size_px=32))
    assert batch.query_images.shape == (3, 3, 32, 32)
    assert (batch.key_masks > 0).float().mean() == 0.5
