"""How well a promptable model gives a mask back for clicks inside it: what it learned from all masks says of each.

Of masks that nobody checked, those are most often wrong that a model taught by all of them does not give back: networks
learn what examples share before they learn the errors of single ones (Arpit et al., arXiv:1706.05394), so that their
own answers tell which labels to trust (Han et al., arXiv:1804.06872).
"""

import numpy as np
from numpy.typing import NDArray

from densessl.mask_geometry import depth
from densessl.promptable.predictor import Predictor
from densessl.structures import MaskArray

_DEPTH = 1 / 3
"""Clicks lie at least so far from the mask's edge, as a share of the distance of its deepest pixel."""


def click_agreement(predictor: Predictor, mask: MaskArray, num_clicks: int, generator: np.random.Generator) -> float:
    """Return the mean IoU of a mask with what the model makes of clicks inside it, one at a time.

    The model's answer is its mask of the highest predicted IoU.

    Args:
        predictor: the image is set.
        mask: bool (height, width) of the image, not empty.
        num_clicks: at least 1.
        generator: of the clicks.
    """
    clicks = inner_points(mask, num_clicks, generator)
    labels = np.ones((num_clicks, 1), dtype=np.int64)
    answers = predictor.predict(clicks[:, None].astype(np.float64), labels, select="best").masks[:, 0]
    shared, either = (np.count_nonzero(both, axis=(1, 2)) for both in (answers & mask, answers | mask))
    return float(np.mean(shared / either))


def inner_points(mask: MaskArray, num_points: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw pixels (num_points, 2), `(x, y)`, of a mask (not empty) that lie away from its edge; at least 1."""
    depths = depth(mask)
    pixels = np.argwhere(depths >= depths.max() * _DEPTH)
    return pixels[generator.integers(len(pixels), size=num_points)][:, ::-1].astype(np.int64)
