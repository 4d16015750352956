"""Prototypes: hand-computed, slow loops, small masks, batches of different size."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from densessl.errors import InputError
from densessl.evaluation.prototypes import (
    DenseFeatures,
    mask_prototypes,
    pool_prototypes,
    resize_by_area,
    saliency_masks,
    sample_pixels,
)


def test_mask_prototype_by_hand() -> None:
    features = torch.tensor([[[3.0, 0.0]], [[0.0, 4.0]]])  # (dim 2, height 1, width 2)
    weights = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]], [[0.5, -0.375]]])
    result = mask_prototypes(features, weights)
    expected = torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.5, -1.5]])
    assert torch.allclose(result.vectors, functional.normalize(expected, dim=1), atol=1e-6)
    assert result.has_prototype.tolist() == [True, True, True]


def test_mask_without_weight_is_told() -> None:
    features = torch.ones(2, 1, 2)
    result = mask_prototypes(features, torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, -1.0]]]))
    assert result.has_prototype.tolist() == [False, True, False]
    assert result.vectors[0].tolist() == [0.0, 0.0]
    assert mask_prototypes(features, torch.zeros(0, 1, 2)).vectors.shape == (0, 2)


def test_broken_features_stay_visible() -> None:
    features = torch.full((2, 1, 2), float("nan"))
    assert mask_prototypes(features, torch.ones(1, 1, 2)).vectors.isnan().all()


@pytest.mark.parametrize("size", [(3, 4), (5, 2), (7, 9), (1, 1), (12, 20)])
def test_area_resize_keeps_mass_and_small_masks(size: tuple[int, int]) -> None:
    masks = torch.zeros(2, 7, 9, dtype=torch.bool)
    masks[0, 6, 8] = True
    masks[1, 1:4, 2:7] = True
    resized = resize_by_area(masks, size)
    assert resized.shape == (2, *size)
    assert resized.mean((1, 2)) == pytest.approx(masks.float().mean((1, 2)), abs=1e-6)
    assert (resized.amax((1, 2)) > 0).all()
    assert resized.amax() <= 1 + 1e-6


def test_area_resize_equals_opencv() -> None:
    mask = np.random.default_rng(0).random((23, 31)).astype(np.float32)
    theirs = cv2.resize(mask, (9, 7), interpolation=cv2.INTER_AREA)
    assert resize_by_area(torch.from_numpy(mask)[None], (7, 9))[0].numpy() == pytest.approx(theirs, abs=1e-5)


def test_mean_of_normalised_features_equals_slow_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 5, 3, 4, generator=generator)
    masks = torch.rand(2, 3, 4, generator=generator) > 0.5
    (result,) = pool_prototypes(DenseFeatures(features), [masks], "mask_mean")
    for m in range(2):
        total = torch.zeros(5)
        for y in range(3):
            for x in range(4):
                if masks[m, y, x]:
                    total += features[0, :, y, x] / features[0, :, y, x].norm()
        assert torch.allclose(result.vectors[m], total / total.norm(), atol=1e-6)


def test_published_weighting_equals_slow_loop_on_upsampled_features() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 4, 3, 5, generator=generator)
    saliency = 2 * torch.randn(2, 12, 20, generator=generator)
    dense = DenseFeatures(features, saliency)
    result = pool_prototypes(dense, saliency_masks(dense), "saliency_logit")
    upsampled = functional.interpolate(features, size=(12, 20), mode="bilinear", align_corners=False)
    for i in range(2):
        total = torch.zeros(4)
        for y in range(12):
            for x in range(20):
                if saliency[i, y, x] > 0.5:
                    total += saliency[i, y, x] * upsampled[i, :, y, x]
        assert torch.allclose(result[i].vectors[0], total / total.norm(), atol=1e-6)


def test_published_weighting_without_foreground_has_no_prototype() -> None:
    dense = DenseFeatures(torch.randn(1, 4, 3, 5), torch.full((1, 6, 10), 0.4))
    (masks,) = saliency_masks(dense)
    assert masks.shape == (1, 6, 10)
    assert pool_prototypes(dense, [masks], "saliency_logit")[0].has_prototype.tolist() == [False]


@pytest.mark.parametrize("weighting", ["mask_mean", "mask_sum", "saliency_logit"])
def test_batch_size_does_not_matter(weighting: str) -> None:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(5, 8, 6, 4, generator=generator)
    saliency = torch.randn(5, 24, 16, generator=generator)
    masks = [torch.rand(1 + i % 3, 13, 11, generator=generator) > 0.6 for i in range(5)]
    whole = pool_prototypes(DenseFeatures(features, saliency), masks, weighting)
    for size in (1, 2, 3):
        parts = []
        for start in range(0, 5, size):
            part = slice(start, start + size)
            parts += pool_prototypes(DenseFeatures(features[part], saliency[part]), masks[part], weighting)
        for one, other in zip(whole, parts, strict=True):
            assert torch.allclose(one.vectors, other.vectors, atol=1e-6)


@pytest.mark.parametrize("weighting", ["mask_mean", "mask_sum", "saliency_logit"])
def test_projection_comes_after_pooling(weighting: str) -> None:
    generator = torch.Generator().manual_seed(3)
    features, saliency = torch.randn(2, 4, 3, 5, generator=generator), torch.rand(2, 6, 10, generator=generator) + 0.6
    masks = [torch.rand(2, 6, 10, generator=generator) > 0.5, torch.zeros(1, 6, 10)]
    plain = pool_prototypes(DenseFeatures(features, saliency), masks, weighting)
    matrix = torch.randn(4, 7, generator=generator)

    def project(vectors: torch.Tensor) -> torch.Tensor:
        return torch.relu(vectors @ matrix) + 0.1

    projected = pool_prototypes(DenseFeatures(features, saliency, project), masks, weighting)
    for row, vector in zip(projected[0].vectors, plain[0].vectors, strict=True):
        expected = project(vector)
        assert torch.allclose(row, expected / expected.norm(), atol=1e-6)
    assert projected[1].has_prototype.tolist() == [False]
    assert projected[1].vectors.abs().sum() == 0


def test_half_precision_features_are_summed_in_float32() -> None:
    features = torch.full((1, 2, 40, 40), 100.0, dtype=torch.float16)  # the sum 160,000 overflows float16
    (result,) = pool_prototypes(DenseFeatures(features), [torch.ones(1, 40, 40)], "mask_sum")
    assert result.vectors.dtype == torch.float32
    assert result.vectors[0] == pytest.approx([2**-0.5] * 2, abs=1e-5)


def test_sampled_pixels_are_distinct_columns_and_seeded() -> None:
    features = torch.arange(24.0).reshape(2, 3, 4)
    sampled = sample_pixels(features, 5, torch.Generator().manual_seed(0))
    again = sample_pixels(features, 5, torch.Generator().manual_seed(0))
    assert torch.equal(sampled, again)
    assert len(set(sampled[:, 0].tolist())) == 5
    assert (sampled[:, 1] - sampled[:, 0]).tolist() == [12.0] * 5
    assert sample_pixels(features, 100, torch.Generator()).shape == (12, 2)


def test_errors() -> None:
    features = torch.zeros(2, 3, 4, 5)
    with pytest.raises(InputError, match="masks of 1 images for features of 2"):
        pool_prototypes(DenseFeatures(features), [torch.ones(1, 4, 5)])
    with pytest.raises(InputError, match=r"without saliency logits.*mask_sum"):
        pool_prototypes(DenseFeatures(features), [torch.ones(1, 4, 5)] * 2, "saliency_logit")
    with pytest.raises(InputError, match="without saliency logits"):
        saliency_masks(DenseFeatures(features))
    with pytest.raises(InputError, match=r"\(4, 5\) grid and mask weights on \(8, 10\)"):
        mask_prototypes(features[0], torch.ones(1, 8, 10))
