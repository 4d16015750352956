"""Prototypes: one unit vector per mask, pooled from the dense features below it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from densessl.errors import InputError
from densessl.evaluation.protocols import Weighting

FOREGROUND_LOGIT = 0.5
"""Saliency logits above this are foreground in the published evaluation (a raw logit, not a probability)."""


@dataclass(frozen=True)
class DenseFeatures:
    """What an encoder says of a batch of images.

    features: float (batch, dim, height, width), not normalised, at any stride.
    saliency: logits, float (batch, image height, image width), or None for an encoder without a saliency
        head.
    project: what comes after pooling, for a network that embeds masks and not pixels: maps vectors (num, dim), or
        maps (batch, dim, height, width) where pixels are clustered, to embeddings.
    """

    features: Tensor
    saliency: Tensor | None = None
    project: Callable[[Tensor], Tensor] | None = None

    def pixels(self) -> Tensor:
        """Return the embedding of every pixel, (batch, embedding dim, height, width)."""
        return self.features if self.project is None else self.project(self.features)


@dataclass(frozen=True)
class MaskPrototypes:
    """The prototypes of the masks of one image.

    vectors: float (num_masks, dim), unit length; zero where there is no prototype.
    has_prototype: bool (num_masks,); False where a mask has no weight or its features cancel out.
    """

    vectors: Tensor
    has_prototype: Tensor


def pool_prototypes(
    dense: DenseFeatures, masks: Sequence[Tensor], weighting: Weighting = "mask_mean"
) -> tuple[MaskPrototypes, ...]:
    """Pool the masks of every image of a batch; an image's prototypes do not depend on the rest of its batch.

    masks: per image, bool or float in [0, 1], (num_masks, height, width) at any size; each covers the whole
        image.
    weighting:

    - `mask_mean`: mean over the mask of the L2-normalised features, masks area-averaged to the feature grid.
    - `mask_sum`: the same without normalising the features first.
    - `saliency_logit`: sum of (saliency logit x feature) over the mask where the logit is above 0.5, features
      bilinearly upsampled to the logits' size (published evaluation of arXiv:2102.06191, where the mask is
      all of the foreground: `saliency_masks`).

    Each result is then normalised, and where the features are projected after pooling, projected and normalised
    again. Raises `InputError` where the number of masks and images differ, or where
    `saliency_logit` is wanted of features without saliency.
    """
    num_images = dense.features.shape[0]
    if len(masks) != num_images:
        raise InputError(f"got masks of {len(masks)} images for features of {num_images}; give one tensor per image")
    if weighting == "saliency_logit":
        saliency = _saliency_of(dense)
        return tuple(
            _projected(_logit_weighted(dense.features[i], saliency[i], masks[i]), dense) for i in range(num_images)
        )
    features = dense.features
    if weighting == "mask_mean":
        features = functional.normalize(features, dim=1)
    size = (features.shape[2], features.shape[3])
    return tuple(
        _projected(mask_prototypes(features[i], resize_by_area(masks[i], size)), dense) for i in range(num_images)
    )


def mask_prototypes(features: Tensor, weights: Tensor) -> MaskPrototypes:
    """Return `z_m = s_m / |s_m|` with `s_m = sum_i w_mi f_i`, one per mask.

    features: float (dim, height, width); weights: float (num_masks, height, width), any sign. The sum runs in
    float32 or better. Raises `InputError` where the grids differ.
    """
    if features.shape[1:] != weights.shape[1:]:
        raise InputError(
            f"features lie on a {tuple(features.shape[1:])} grid and mask weights on "
            f"{tuple(weights.shape[1:])}; resize the weights first"
        )
    precision = torch.promote_types(features.dtype, torch.float32)
    flat = features.flatten(1).to(precision)  # (dim, height*width)
    sums = weights.flatten(1).to(flat) @ flat.T  # (num_masks, dim)
    length = sums.norm(dim=1, keepdim=True)
    has_prototype = length.squeeze(1) != 0  # True for NaN: a broken feature is reported where it is clustered
    vectors = torch.where(has_prototype[:, None], sums / length, torch.zeros_like(sums))
    return MaskPrototypes(vectors, has_prototype)


def saliency_masks(dense: DenseFeatures, threshold: float = FOREGROUND_LOGIT) -> tuple[Tensor, ...]:
    """Return each image's foreground `logit > threshold` as one mask, bool (1, height, width)."""
    return tuple((logits > threshold)[None] for logits in _saliency_of(dense))


def resize_by_area(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks (num_masks, height, width) to `size` by exact area averaging: float in [0, 1].

    Every output cell is the mean of the input area it covers, so a mask of one pixel keeps a positive weight
    and the share of the image a mask covers does not change.
    """
    rows = _area_matrix(masks.shape[1], size[0]).to(masks.device)
    columns = _area_matrix(masks.shape[2], size[1]).to(masks.device)
    return rows @ masks.to(rows.dtype) @ columns.T  # (num_masks, *size)


def sample_pixels(features: Tensor, num_pixels: int, generator: torch.Generator) -> Tensor:
    """Draw vectors of a feature map (dim, height, width) without repetition: (at most num_pixels, dim)."""
    flat = features.flatten(1).T  # (height*width, dim)
    chosen = torch.randperm(flat.shape[0], generator=generator)[:num_pixels]
    return flat[chosen.to(flat.device)]


def _projected(prototypes: MaskPrototypes, dense: DenseFeatures) -> MaskPrototypes:
    if dense.project is None or len(prototypes.vectors) == 0:
        return prototypes
    vectors = functional.normalize(dense.project(prototypes.vectors).float(), dim=1)
    return MaskPrototypes(vectors * prototypes.has_prototype[:, None], prototypes.has_prototype)


def _saliency_of(dense: DenseFeatures) -> Tensor:
    if dense.saliency is None:
        raise InputError(
            "these features come without saliency logits, which this protocol weights them by; use features "
            "of a model with a saliency head, or the weighting mask_sum"
        )
    return dense.saliency


def _logit_weighted(features: Tensor, logits: Tensor, masks: Tensor) -> MaskPrototypes:
    size = (logits.shape[0], logits.shape[1])
    inside = resize_by_area(masks, size)
    weights = torch.where(logits > FOREGROUND_LOGIT, logits, 0.0) * inside  # (num_masks, height, width)
    grid = (features.shape[1], features.shape[2])
    return mask_prototypes(features, _transposed_bilinear(weights, grid))


def _transposed_bilinear(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return weights on `grid` with the same `sum w f` as full-size weights and upsampled features.

    Bilinear upsampling is linear, so moving it from the features (dim maps) to the weights (one map per mask)
    gives the same sums without ever holding full-size features. The transpose is the gradient of the
    upsampling.
    """
    with torch.enable_grad():
        cells = torch.zeros(1, weights.shape[0], *grid, dtype=weights.dtype, device=weights.device, requires_grad=True)
        upsampled = functional.interpolate(cells, size=weights.shape[1:], mode="bilinear", align_corners=False)
        (transposed,) = torch.autograd.grad(upsampled, cells, grad_outputs=weights.detach()[None])
    return transposed[0]


def _area_matrix(num_in: int, num_out: int) -> Tensor:
    """Return (num_out, num_in) float32: the share of output cell i that lies in input cell j."""
    edges_out = torch.arange(num_out + 1, dtype=torch.float64) * num_in / num_out
    edges_in = torch.arange(num_in + 1, dtype=torch.float64)
    upper = torch.minimum(edges_out[1:, None], edges_in[None, 1:])
    lower = torch.maximum(edges_out[:-1, None], edges_in[None, :-1])
    return ((upper - lower).clamp(min=0) * num_out / num_in).float()
