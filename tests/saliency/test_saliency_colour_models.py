"""Colour models recover a shape from a rough seed."""

import cv2
import numpy as np
import pytest

from densessl.saliency.colour_models import refine_by_colour_models


def disc(seed=0):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:90, :120]
    mask = (rows - 45) ** 2 + (columns - 60) ** 2 < 28**2
    image = np.where(mask[..., None], (190, 120, 60), (60, 110, 90)) + generator.normal(0, 6, (90, 120, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def test_colour_models_recover_the_shape():
    image, mask = disc()
    rough = cv2.GaussianBlur(np.roll(mask, 6, axis=1).astype(np.float32), (0, 0), 8)
    refined = refine_by_colour_models(image, rough) > 0.5
    assert (refined & mask).sum() / (refined | mask).sum() > 0.9
    assert ((rough > 0.5) & mask).sum() / ((rough > 0.5) | mask).sum() < 0.85


def test_the_surer_half_of_each_side_is_held():
    image, mask = disc()
    soft = np.where(mask, 0.9, 0.1).astype(np.float32)
    stray = np.zeros_like(mask)
    stray[4:14, 4:14] = True  # a patch of ground, surer than the disc
    soft[stray] = 1.0
    assert (refine_by_colour_models(image, soft)[stray] > 0.5).all()
    soft[stray] = 0.6  # and now less sure
    assert (refine_by_colour_models(image, soft)[stray] < 0.5).mean() > 0.9


def test_colour_models_repeat_themselves_whatever_the_seed():
    image, mask = disc()
    rough = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 8)
    cv2.setRNGSeed(1)
    first = refine_by_colour_models(image, rough)
    cv2.setRNGSeed(99)
    np.testing.assert_array_equal(refine_by_colour_models(image, rough), first)


@pytest.mark.parametrize("level", [0.0, 0.4, 0.6, 1.0])
def test_colour_models_leave_a_one_sided_map_alone(level):
    image, _ = disc()
    soft = np.full((90, 120), level, np.float32)
    np.testing.assert_array_equal(refine_by_colour_models(image, soft), soft)
