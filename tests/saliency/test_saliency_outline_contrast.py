"""The threshold at which outlines are sharpest: contrasts by hand, the right threshold on blurred discs."""

import itertools

import numpy as np
import pytest

from densessl.saliency.outline_contrast import THRESHOLDS, edge_strength, outline_contrasts, outline_threshold


def disc(radius: float, noise: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy photograph of a bright disc, and logits that fall by 0.1 a pixel from the middle, 0 at radius 30."""
    y, x = np.mgrid[:80, :100].astype(np.float32)
    distance = np.hypot(y - 40, x - 50)
    grain = np.random.default_rng(seed).integers(0, noise, (80, 100, 3))
    image = np.where((distance < radius)[..., None], 190, 60) + grain
    return image.astype(np.uint8), (30 - distance) / 10


def test_thresholds_start_at_zero_and_go_outwards():
    assert THRESHOLDS[0] == 0
    assert sorted(THRESHOLDS) == np.arange(-3, 5.01, 0.25).tolist()
    assert all(abs(first) <= abs(second) for first, second in itertools.pairwise(THRESHOLDS))


@pytest.mark.parametrize(("radius", "expected"), [(30, 0.0), (20, 1.0), (36, -0.5)])
def test_the_outline_is_found(radius: float, expected: float):
    pairs = [disc(radius, noise=60, seed=seed) for seed in range(3)]
    assert outline_threshold(pairs) == pytest.approx(expected, abs=0.25)


def test_contrast_is_the_edge_beyond_the_average_along_the_outline():
    image, logits = disc(30, noise=60, seed=0)
    strength, inside = edge_strength(image), logits > 0
    outline = np.zeros_like(inside)
    offsets = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if abs(dy) < 2 or dx == 0]  # OpenCV's ellipse
    for y, x in np.ndindex(inside.shape):
        near = [inside[y + dy, x + dx] for dy, dx in offsets if 0 <= y + dy < 80 and 0 <= x + dx < 100]
        outline[y, x] = any(near) and not all(near)
    expected = (strength[outline] / strength.mean() - 1).sum() / 8000**0.5
    assert outline_contrasts(image, logits)[0] == pytest.approx(expected, rel=1e-4)
    assert expected > 5


def test_masks_without_an_outline_and_plain_images_tell_nothing():
    image, logits = disc(30, noise=60, seed=0)
    assert (outline_contrasts(image, np.full_like(logits, 9)) == 0).all()
    assert (outline_contrasts(image, np.full_like(logits, -9)) == 0).all()
    assert (outline_contrasts(np.full_like(image, 90), logits) == 0).all()
    assert outline_threshold([(np.full_like(image, 90), logits)]) == 0
    assert outline_threshold([]) == 0
