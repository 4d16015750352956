"""Masks of a promptable model that GrabCut cuts anew."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.promptable import mask_refinement
from densessl.promptable.mask_refinement import cut_mask
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.structures import ImageArray, MaskArray


def draw(height: int = 120, width: int = 160) -> tuple[ImageArray, MaskArray]:
    """A noisy orange disc on a noisy blue ground, and the disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    disc = (x - 80 * width / 160) ** 2 + (y - 60 * height / 120) ** 2 < (40 * height / 120) ** 2
    colours = np.where(disc[..., None], (220, 120, 40), (40, 80, 200)) + rng.normal(0, 12, (height, width, 3))
    return colours.clip(0, 255).astype(np.uint8), disc


def coarse_logits(mask: MaskArray) -> NDArray[np.float32]:
    """Logits of a rectangle that is sure of its middle alone; it reaches out of the disc and falls short of it."""
    height, width = mask.shape
    logits = np.full((height, width), -5.0, dtype=np.float32)
    logits[height // 8 : -height // 8, width // 5 : -width // 5] = -1.0  # open
    logits[height // 4 : -height // 4, width * 2 // 5 : -width // 4] = 1.0  # a guess
    logits[height * 2 // 5 : -height * 2 // 5, width * 2 // 5 : width * 3 // 5] = 4.0  # sure
    return logits


def iou(first: MaskArray, second: MaskArray) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("size", [(120, 160), (960, 1280)])  # the second is cut at a reduced size
def test_masks_follow_colours(size: tuple[int, int]) -> None:
    image, disc = draw(*size)
    logits = coarse_logits(disc)
    assert iou(logits > 0, disc) < 0.75
    cut = cut_mask(image, logits)
    assert iou(cut, disc) > 0.97
    assert np.array_equal(cut, cut_mask(image, logits))


def test_what_is_certain_stays() -> None:
    image, disc = draw()
    logits = coarse_logits(disc)
    logits[disc] = np.minimum(logits[disc], -5.0)  # certain background, whatever its colour
    logits[5:15, 5:15] = 5.0
    cut = cut_mask(image, logits)
    assert cut[5:15, 5:15].all()
    assert not cut[disc].any()


def test_clicks_are_certain() -> None:
    image, disc = draw()
    logits = coarse_logits(disc)
    clicks = np.array([[80.0, 60.0, 1], [100.0, 60.0, 0], [30.5, 100.5, 1]])
    cut = cut_mask(image, logits, clicks)
    assert cut[60, 80]
    assert not cut[60, 100]  # within the disc, but clicked away
    assert cut[100, 30]  # beyond what the model thought possible


def test_outside_a_box_is_background() -> None:
    image, disc = draw()
    image[:, 130:150] = image[60:61, 70:90]  # a stripe of the disc's colours
    logits = coarse_logits(disc)
    logits[:, 130:150] = 1.0
    assert cut_mask(image, logits)[:, 130:150].mean() > 0.9
    boxed = cut_mask(image, logits, box=np.array([39.0, 19.0, 122.0, 102.0]))
    assert iou(boxed, disc) > 0.97
    assert not boxed[:, 124:].any()


def test_where_grabcut_cannot_begin_the_mask_stays() -> None:
    image, disc = draw()
    nothing, everything = (np.full(disc.shape, value, dtype=np.float32) for value in (-9, 9))
    assert not cut_mask(image, nothing).any()
    assert cut_mask(image, everything).all()
    assert not cut_mask(image, np.full(disc.shape, -1, dtype=np.float32)).any()
    assert cut_mask(image[:1, :1], np.ones((1, 1), dtype=np.float32)).all()
    tiny = np.full((3, 3), -1, dtype=np.float32)
    tiny[1, 1] = 1  # fewer pixels than the mixtures have parts
    assert cut_mask(image[:3, :3], tiny, np.array([[1.0, 1.0, 1]]))[1, 1]


def test_the_predictor_refines_each_mask_and_keeps_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    settings = PromptableSettings("test_resnet", 64, dim=16, decoder_heads=2, decoder_mlp_dim=32)
    predictor = Predictor(build_promptable_model(settings), "cpu", "fp32")
    image, _ = draw()
    prompts = {"points": [[[80, 60], [5, 5]], [[20, 20], [0, 0]]], "labels": [[1, 0], [1, -1]]}
    plain = predictor.set_image(image).predict(**prompts)
    calls: list[NDArray[np.float64]] = []

    def inverted(given: ImageArray, logits: NDArray[np.float32], clicks: NDArray[np.float64], box: None) -> MaskArray:
        assert np.array_equal(given, image)
        assert box is None
        calls.append(clicks)
        return logits <= 0

    monkeypatch.setattr(mask_refinement, "cut_mask", inverted)
    refined = predictor.predict(**prompts, refine="grabcut")
    assert np.array_equal(refined.masks, ~plain.masks)
    assert np.array_equal(refined.area_px, 120 * 160 - plain.area_px)
    assert np.array_equal(refined.low_resolution, plain.low_resolution)
    assert np.array_equal(refined.predicted_iou, plain.predicted_iou)
    assert [one.tolist() for one in calls[::3]] == [[[80, 60, 1], [5, 5, 0]], [[20, 20, 1]]]
    with pytest.raises(InputError, match="refine is 'crf'; it is one of none, grabcut"):
        predictor.predict(**prompts, refine="crf")  # type: ignore[arg-type]
