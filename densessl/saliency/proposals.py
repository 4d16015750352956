"""From an image to its mask proposals, or to the reason why it has none."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from densessl.errors import InputError
from densessl.saliency.attention_settings import AttentionSettings, check_attention
from densessl.saliency.colour import FloatMap, resize_map
from densessl.saliency.estimators import (
    NETWORK_METHODS,
    Method,
    Refinement,
    find_estimator,
    find_refiner,
    method_of,
)
from densessl.saliency.feature_settings import FeatureSettings, check_features
from densessl.saliency.full_size import enlarge_from_copy, reduced_copy
from densessl.structures import ImageArray, ImageProposals, MaskArray, Proposal, Rejection

MOST_SEGMENTS = 100
"""With the background: a photograph has some 660 patches, a thin image far fewer."""


@dataclass(frozen=True)
class SaliencySettings:
    """How masks are proposed.

    Args:
        method: the estimator. `fused` needs no weights; `robust_background`, `barrier_distance`, `mb_plus` (that
            distance with border contrast and post-processing), `frequency_tuned`, `spectral_residual` and `centre`
            are published or single ideas to compare it with. `tokencut`, `deep_spectral`, `lost` and `found_seeds`
            work on features of a pretrained encoder, `attention` on what the [CLS] token of a vision transformer looks
            at. `learned_patches` adds to `fused` what a network learned of patches of many images; `self_trained`
            is a network that learned from the maps of others. `file` takes masks or soft maps that were made elsewhere.
        refine: what is done to the soft map: `colour_models` (GrabCut seeded by it), `guided_filter` (edges follow
            the photograph's), `bilateral_solver` (smooth where colours are), `dense_crf` (mean field of a fully
            connected CRF) or `none`. Where it is not given, `none` for method `file` and `colour_models` for others.
        threshold: soft values above it are foreground, in (0, 1).
        min_area: connected parts smaller than this fraction of the image are dropped, and images whose whole
            mask is smaller are rejected, in [0, 1).
        max_area: images whose mask is larger than this fraction are rejected, in (0, 1].
        keep_soft: also write the soft maps, as 8-bit PNG.
        encoder: timm name of the encoder of the methods on features; they were published with DINO's ViT-S/16, which
            is the default.
        weights: file with the encoder's weights (torchvision, timm, MoCo, DINO, ...; told apart by their keys).
        pretrained: let timm download its published weights for the encoder's name instead.
        output_stride: image pixels per cell of a convolutional encoder's features (8, 16 or 32).
        feature_size_px: long side that images are brought to for the encoder, at least 128; 480 is the size of the
            photographs that the methods were published on.
        network: file of the network of `learned_patches` or `self_trained`.
        masks: folder of the masks of `file`, named like their images; 0/1, 0/255, ids and soft maps are told apart.
        attention_layer: of `attention`: the layer, from 0, or from the end: -1 is the last.
        attention_head: of `attention`: a head, from 0; `mean` of all; or `best`, the head that agrees best with the
            default masks of a sample of the images, for which no label is read.
        attention_mass: of `attention`: the share of the head's attention that the mask keeps, in (0, 1].
        num_segments: of `deep_spectral`: the proposals are the segments of the image, so many with the background, at
            least 2, or as many as the eigenvalues suggest (`auto`); by default they are the parts of the mask, which
            stays the same.
    """

    method: Method = "fused"
    refine: Refinement | None = None
    threshold: float = 0.5
    min_area: float = 0.01
    max_area: float = 0.99
    keep_soft: bool = False
    encoder: str = "vit_small_patch16_224.dino"
    weights: Path | None = None
    pretrained: bool = False
    output_stride: Literal[8, 16, 32] = 16
    feature_size_px: int = 480
    network: Path | None = None
    masks: Path | None = None
    attention_layer: int = -1
    attention_head: int | Literal["mean", "best"] = "best"
    attention_mass: float = 0.6
    num_segments: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        method_of(self.method)
        if self.network is not None and self.method not in NETWORK_METHODS:
            raise InputError(
                f"saliency method {self.method} uses no network, but network {self.network} is given; leave it out, or "
                f"choose {' or '.join(NETWORK_METHODS)}"
            )
        check_features(self.method, self.features)
        if self.masks is None and self.method == "file":
            raise InputError("saliency method file needs the folder of the masks; give it (masks)")
        if self.masks is not None and self.method not in {"file", "self_trained"}:
            raise InputError(
                f"saliency method {self.method} makes its own masks, but masks {self.masks} are given; leave them out, "
                "or choose file"
            )
        check_attention(self.attention)
        _check_segments(self.method, self.num_segments)
        find_refiner(self.refinement)
        if not 0 < self.threshold < 1:
            raise InputError(f"saliency threshold {self.threshold} lies outside (0, 1); 0.5 is usual")
        if not 0 <= self.min_area < self.max_area <= 1:
            raise InputError(
                f"saliency areas min_area {self.min_area} and max_area {self.max_area} are fractions of the image "
                "with 0 <= min_area < max_area <= 1; 0.01 and 0.99 are usual"
            )

    @property
    def features(self) -> FeatureSettings:
        """The part that concerns the encoder."""
        return FeatureSettings(self.encoder, self.weights, self.pretrained, self.output_stride, self.feature_size_px)

    @property
    def attention(self) -> AttentionSettings:
        """The part that concerns method `attention`."""
        return AttentionSettings(self.attention_layer, self.attention_head, self.attention_mass)

    @property
    def refinement(self) -> Refinement:
        """What is done to the soft map, the default settled."""
        return self.refine or ("none" if self.method == "file" else "colour_models")

    def plain(self) -> dict[str, Any]:
        """Return the settings as JSON holds them, defaults settled."""
        paths = {"weights": self.weights, "network": self.network, "masks": self.masks}
        texts = {name: None if path is None else str(path) for name, path in paths.items()}
        return {**asdict(self), **texts, "refine": self.refinement}


def propose(
    image: ImageArray, stem: str, settings: SaliencySettings, given: FloatMap | None = None
) -> ImageProposals | Rejection:
    """Return the proposals of a uint8 RGB image (height, width, 3), or why it is left out.

    `estimate`, then `propose_from`; with `num_segments` the `segment_proposals` take the place of the mask's parts.
    Deterministic.
    """
    result = propose_from(estimate(image, settings, given), stem, settings)
    if settings.num_segments is None or isinstance(result, Rejection):
        return result
    return replace(result, proposals=segment_proposals(image, result.soft, settings))


def propose_from(soft: FloatMap, stem: str, settings: SaliencySettings) -> ImageProposals | Rejection:
    """Return the proposals of a soft map (height, width), or why its image is left out.

    The foreground is where the soft map exceeds the threshold, less its small 8-connected parts; each part that
    remains is one proposal, the largest first (then by the first pixel in reading order). An image is rejected
    where nothing remains or the rest covers more than `max_area`.
    """
    parts = connected_parts(soft, settings.threshold, settings.min_area)
    area = sum(part.area_px for part in parts) / soft.size
    if not parts:
        share = float((soft > settings.threshold).mean())
        return Rejection(
            stem,
            f"no connected foreground of at least {settings.min_area:.2%} of the image "
            f"({share:.2%} of it exceeds the threshold {settings.threshold:g})",
        )
    if area > settings.max_area:
        return Rejection(stem, f"foreground covers {area:.2%} of the image, more than {settings.max_area:.2%}")
    foreground = np.logical_or.reduce([part.mask for part in parts])
    return ImageProposals(stem, soft, foreground, parts)


def estimate(image: ImageArray, settings: SaliencySettings, given: FloatMap | None = None) -> FloatMap:
    """Return the refined soft foreground map (height, width), in [0, 1], of a uint8 RGB image (height, width, 3).

    `given` is the map (height, width) of method `file`, which is only refined.

    An image with a long side above 960 pixels is estimated and refined in a copy of 500 (of `feature_size_px` where
    that is more), and the map is enlarged along the edges of the image (`full_size`). Others are worked on as they are.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            f"image has shape {image.shape} and type {image.dtype}; saliency takes uint8 RGB (height, width, 3)"
        )
    if given is not None and settings.refinement == "none":
        return given
    copy = reduced_copy(image, settings.feature_size_px)
    if given is None:
        soft = find_estimator(settings.method, settings.features, settings.network, settings.attention)(copy)
    else:
        soft = resize_map(given, *copy.shape[:2])
    return enlarge_from_copy(image, copy, find_refiner(settings.refinement)(copy, soft))


def segment_proposals(image: ImageArray, soft: FloatMap, settings: SaliencySettings) -> tuple[Proposal, ...]:
    """Return the segments of a uint8 RGB image (height, width, 3) by method `deep_spectral`, largest first.

    They are disjoint, connected or not, and all of them but the background and those smaller than `min_area`; whether
    they lie inside the foreground mask does not matter, but `soft` (height, width), its map, gives their scores. They
    are not refined: their outlines are those of patches.
    """
    if settings.num_segments is None:
        return ()
    from densessl.saliency.deep_estimator import deep_segments  # timm, which the other methods need not wait for

    copy = reduced_copy(image, settings.feature_size_px)
    labels = deep_segments(copy, settings.num_segments, settings.features, soft.shape)
    areas = np.bincount(labels.ravel())
    kept = [label for label in range(1, len(areas)) if areas[label] >= max(1, settings.min_area * soft.size)]
    kept.sort(key=lambda label: -int(areas[label]))
    return tuple(_describe(labels == label, soft) for label in kept)


def connected_parts(soft: FloatMap, threshold: float, min_area: float) -> tuple[Proposal, ...]:
    """Return the 8-connected parts of `soft > threshold` that cover at least `min_area` of the map, largest first."""
    height, width = soft.shape
    num_labels, labels, statistics, _ = cv2.connectedComponentsWithStats(
        (soft > threshold).astype(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    areas = statistics[:, cv2.CC_STAT_AREA]
    kept = [label for label in range(1, num_labels) if areas[label] >= min_area * height * width]
    kept.sort(key=lambda label: -int(areas[label]))
    return tuple(_describe(labels == label, soft) for label in kept)


def _describe(mask: MaskArray, soft: FloatMap) -> Proposal:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    height, width = mask.shape
    return Proposal(
        mask=mask,
        score=float(soft[mask].mean(dtype=np.float64)),
        area_px=int(mask.sum()),
        box=box,
        touches_border=box[0] == 0 or box[1] == 0 or box[2] == width or box[3] == height,
    )


def _check_segments(method: str, num_segments: int | Literal["auto"] | None) -> None:
    if num_segments is None:
        return
    if method != "deep_spectral":
        raise InputError(
            f"saliency method {method} makes no segments, but num_segments {num_segments} is given; leave it out, or "
            "choose deep_spectral"
        )
    if isinstance(num_segments, str) and num_segments != "auto":
        raise InputError(f"num_segments {num_segments!r} is unknown; give a number, with the background, or auto")
    if isinstance(num_segments, int) and num_segments < 2:
        raise InputError(f"num_segments {num_segments} is below 2, the background and one more; 4 is usual")
    if isinstance(num_segments, int) and num_segments > MOST_SEGMENTS:
        raise InputError(
            f"num_segments {num_segments} is above {MOST_SEGMENTS}, more than patches on a grid can tell; 4 is usual"
        )
