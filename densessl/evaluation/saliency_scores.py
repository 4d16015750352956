"""From one saliency map to a data set: every measure of each image, and their averages."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.evaluation.saliency_measures import (
    BETA_SQUARED,
    NUM_LEVELS,
    FloatArray,
    adaptive_counts,
    counts_above,
    e_measure,
    f_measure,
    intersection_over_union,
    mean_absolute_error,
    pixel_accuracy,
    prepare_pair,
    threshold_counts,
)
from densessl.evaluation.saliency_structure import s_measure, weighted_f_measure
from densessl.structures import MaskArray

THRESHOLD = 0.5
"""Where a map becomes a mask for IoU and accuracy."""

IGNORE_RULE = "ignored pixels take no part: they are left out of every count, sum, mean and histogram"
EMPTY_RULE = "an image without foreground has F-measures and IoU 0 whatever is predicted"
CURVE_RULE = "max and mean are over 256 thresholds, of the curve averaged over the images"


@dataclass(frozen=True)
class ImageScores:
    """The numbers of one image that need no common threshold; fractions, and pixel counts ending in `_px`.

    `intersection_px` and `union_px` belong to `iou`, the map above the threshold.
    """

    stem: str
    mae: float
    adaptive_f: float
    weighted_f: float
    s_measure: float
    adaptive_e: float
    iou: float
    accuracy: float
    intersection_px: int
    union_px: int
    num_foreground_px: int
    num_ignored_px: int


@dataclass(frozen=True)
class ImageMeasures:
    """The scores of one image and its F-measure, E-measure and IoU at 256 ascending thresholds, (3, 256)."""

    scores: ImageScores
    curves: FloatArray = field(repr=False)


@dataclass(frozen=True)
class SaliencyScores:
    """How well saliency maps agree with their ground truth, averaged over images; fractions in [0, 1].

    max_f, mean_f, max_e, mean_e, max_iou: maximum and mean over thresholds of the curve averaged over images;
        `max_iou_threshold` is the (smallest) threshold of `max_iou`.
    iou, accuracy: of the map above `threshold`, averaged over images; `standard_error` is that of `iou` (`None` for
        one image). pooled_iou: intersections over unions, each summed over all images.
    normalize: whether each map was stretched to span 0 to 1 before anything else.
    """

    mae: float
    max_f: float
    mean_f: float
    adaptive_f: float
    weighted_f: float
    s_measure: float
    max_e: float
    mean_e: float
    adaptive_e: float
    iou: float
    standard_error: float | None
    pooled_iou: float
    max_iou: float
    max_iou_threshold: float
    accuracy: float
    num_images: int
    threshold: float
    normalize: bool
    per_image: tuple[ImageScores, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain values for JSON, the conventions in words among them."""
        content = asdict(self)
        per_image = content.pop("per_image")
        conventions = {
            "normalize": content.pop("normalize"),
            "threshold": content.pop("threshold"),
            "f_beta_squared": BETA_SQUARED,
            "weighted_f_beta_squared": 1.0,
            "s_object_weight": 0.5,
            "ignored_pixels": IGNORE_RULE,
            "images_without_foreground": EMPTY_RULE,
            "curves": CURVE_RULE,
        }
        num_empty = sum(image.num_foreground_px == 0 for image in self.per_image)
        num_ignored = sum(image.num_ignored_px for image in self.per_image)
        counts = {"num_without_foreground": num_empty, "num_ignored_px": num_ignored}
        return {**content, **counts, "conventions": conventions, "per_image": per_image}


def measure_image(
    stem: str,
    saliency: NDArray[np.floating],
    foreground: MaskArray,
    valid: MaskArray | None = None,
    *,
    threshold: float = THRESHOLD,
    normalize: bool = True,
) -> ImageMeasures:
    """Score one saliency map against its ground truth by every measure.

    The arguments are those of `saliency_measures.prepare_pair`; IoU and accuracy are those of `S > threshold`.
    """
    pair = prepare_pair(saliency, foreground, valid, normalize=normalize)
    curve, adaptive, above = threshold_counts(pair), adaptive_counts(pair), counts_above(pair, threshold)
    scores = ImageScores(
        stem=stem,
        mae=mean_absolute_error(pair),
        adaptive_f=float(f_measure(adaptive)),
        weighted_f=weighted_f_measure(pair),
        s_measure=s_measure(pair),
        adaptive_e=float(e_measure(adaptive)),
        iou=float(intersection_over_union(above)),
        accuracy=float(pixel_accuracy(above)),
        intersection_px=int(above.true_positives),
        union_px=int(above.num_union),
        num_foreground_px=above.num_foreground,
        num_ignored_px=saliency.size - pair.values.size,
    )
    return ImageMeasures(scores, np.stack([f_measure(curve), e_measure(curve), intersection_over_union(curve)]))


def average_measures(
    images: Iterable[ImageMeasures], *, threshold: float = THRESHOLD, normalize: bool = True
) -> SaliencyScores | None:
    """Average the measures of a stream of images, which `measure_image` took with these settings.

    Holds one image's curves at a time. `None` where the stream is empty.
    """
    curves = np.zeros((3, NUM_LEVELS))
    per_image = []
    for image in images:
        curves += image.curves
        per_image.append(image.scores)
    if not per_image:
        return None
    f_curve, e_curve, iou_curve = curves / len(per_image)
    overlaps = np.array([image.iou for image in per_image])
    union_px = sum(image.union_px for image in per_image)

    def mean(name: str) -> float:
        return float(np.mean([getattr(image, name) for image in per_image]))

    return SaliencyScores(
        mae=mean("mae"),
        max_f=float(f_curve.max()),
        mean_f=float(f_curve.mean()),
        adaptive_f=mean("adaptive_f"),
        weighted_f=mean("weighted_f"),
        s_measure=mean("s_measure"),
        max_e=float(e_curve.max()),
        mean_e=float(e_curve.mean()),
        adaptive_e=mean("adaptive_e"),
        iou=float(overlaps.mean()),
        standard_error=float(overlaps.std(ddof=1) / len(overlaps) ** 0.5) if len(overlaps) > 1 else None,
        pooled_iou=sum(image.intersection_px for image in per_image) / union_px if union_px else 0.0,
        max_iou=float(iou_curve.max()),
        max_iou_threshold=int(iou_curve.argmax()) / (NUM_LEVELS - 1),
        accuracy=mean("accuracy"),
        num_images=len(per_image),
        threshold=threshold,
        normalize=normalize,
        per_image=tuple(per_image),
    )
