"""Masks as annotations of a COCO instances file."""

from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from densessl.structures import MaskArray


def mask_annotation(mask: MaskArray) -> dict[str, Any]:
    """Return an annotation of a mask (height, width) that is not empty: compressed run lengths, box and area in pixels.

    The caller adds `id`, `image_id` and `category_id`.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    encoded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
        "bbox": [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1],
        "area": int(mask.sum()),
        "iscrowd": 0,
    }
