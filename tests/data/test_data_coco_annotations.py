"""A mask as a COCO annotation, read back by pycocotools."""

import numpy as np
from pycocotools import mask as run_lengths

from densessl.data.coco_annotations import mask_annotation


def test_pycocotools_reads_the_mask_back() -> None:
    mask = np.zeros((7, 9), bool)
    mask[2:5, 3] = mask[4, 3:8] = True
    found = mask_annotation(mask)
    np.testing.assert_array_equal(run_lengths.decode(found["segmentation"]), mask)
    assert (found["bbox"], found["area"], found["iscrowd"]) == ([3, 2, 5, 3], 7, 0)
