"""Masks restored in bands against whole ones, which torch interpolates."""

import numpy as np
import pytest
import torch

from densessl.promptable import mask_bands
from densessl.promptable.framing import frame_of, restore_logits
from densessl.promptable.mask_bands import mask_restorer
from densessl.promptable.mask_runs import runs_of
from densessl.promptable.predicted_masks import stability_score
from densessl.promptable.promptable_settings import PromptableSettings

SETTINGS = PromptableSettings(size_px=128)


def drawn(seed: int, scale: float = 3.0) -> torch.Tensor:
    """Draw smooth logits (32, 32) with an inside and an outside."""
    noise = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return scale * torch.nn.functional.interpolate(noise, (32, 32), mode="bicubic")[0, 0]


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (128, 128), (300, 410), (1, 1), (1, 90), (77, 3)])
@pytest.mark.parametrize("band_values", [mask_bands.BAND_VALUES, 100])
def test_masks_in_bands_are_whole_masks(
    size: tuple[int, int], band_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_bands, "BAND_VALUES", band_values)
    frame = frame_of(size, SETTINGS)
    restorer = mask_restorer(frame, (32, 32), torch.device("cpu"))
    for seed in range(5):
        logits = drawn(seed) - seed
        whole = restore_logits(logits[None, None], frame)[0, 0]
        assert whole.abs().min() > 1e-6  # no pixel is left to rounding
        found = restorer.restore(logits, 1.0)
        expected = runs_of((whole > 0).numpy())
        assert np.array_equal(found.runs.starts, expected.starts)
        assert np.array_equal(found.runs.ends, expected.ends)
        assert found.stability == stability_score(whole).item()


def test_a_mask_in_a_corner_is_worked_on_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.full((32, 32), -8.0)
    logits[2:5, 20:23] = 5
    frame = frame_of((400, 400), SETTINGS)
    restorer, sizes = mask_restorer(frame, (32, 32), torch.device("cpu")), []
    mix = mask_bands.Taps.mix
    monkeypatch.setattr(
        mask_bands.Taps, "mix", lambda taps, values: sizes.append(mix(taps, values).shape) or mix(taps, values)
    )
    found = restorer.restore(logits, 1.0)
    assert found.runs.area_px == (restore_logits(logits[None, None], frame) > 0).sum()
    assert max(height * width for height, width in sizes) < 80 * 80


def test_no_pixel_and_all_pixels() -> None:
    restorer = mask_restorer(frame_of((50, 70), SETTINGS), (32, 32), torch.device("cpu"))
    nothing, everything = (restorer.restore(torch.full((32, 32), value), 1.0) for value in (-3.0, 3.0))
    assert (nothing.runs.area_px, nothing.stability) == (0, 0.0)
    assert (everything.runs.area_px, everything.stability) == (50 * 70, 1.0)
    assert everything.runs.counts().tolist() == [0, 50 * 70]
    between = restorer.restore(torch.full((32, 32), -0.5), 1.0)
    assert (between.runs.area_px, between.stability) == (0, 0.0)
