"""Judge by labels what `filter_masks` keeps, as rows.

    python -m densessl filter_masks --data ROOT --split SPLIT --masks MASKS --weights FILE --out KEPT
    python -m benchmarks.filtered_masks --filtered KEPT --data ROOT --split SPLIT

For several least agreements: how many masks are kept, their mean IoU with the object that each overlaps best, the share
of those with an IoU over 0.7, and the share that holds two objects or more (over 30 % of each). Objects are those of
benchmarks.object_truth; void pixels count for nothing, nor do masks of nothing else. Rows go to
results/filtered_masks.jsonl. Labels are read to judge alone.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.object_truth import open_truth
from benchmarks.rows import append_row
from densessl.data.coco_segments import segment_to_mask
from densessl.data.layouts import open_data_set
from densessl.data.masks import FILTER_RECORD
from densessl.evaluation.image_objects import Instances
from densessl.files import read_json
from densessl.saliency.record_journal import index_records, open_records
from densessl.structures import MaskArray

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8)
HELD = 0.3


@dataclass(frozen=True)
class JudgedMask:
    """A mask: its agreement with the model, its IoU with the best object, and how many objects it holds."""

    agreement: float
    iou: float
    num_held: int


def main() -> None:
    """Judge the masks of one folder at every threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filtered", type=Path, required=True, help="the --out of `filter_masks`")
    parser.add_argument("--data", type=Path, required=True, help="VOC or COCO layout, with labels")
    parser.add_argument("--split", required=True)
    parser.add_argument("--results", type=Path, default=Path("results/filtered_masks.jsonl"))
    arguments = parser.parse_args()
    judged = judge_folder(arguments.filtered, arguments.data, arguments.split)
    record = read_json(arguments.filtered / FILTER_RECORD, "the record of `filter_masks`")
    for threshold in THRESHOLDS:
        row = {
            "benchmark": "filtered_masks",
            "data": arguments.data.name,
            "split": arguments.split,
            "supervision": record["supervision"],
            "weights_sha256": record["compared"]["weights_sha256"][:16],
            "num_clicks": record["compared"]["num_clicks"],
            "seed": record["compared"]["seed"],
            "min_agreement": threshold,
            **summed_up(judged, threshold),
        }
        print(append_row(arguments.results, row))


def judge_folder(filtered: Path, data: Path, split: str) -> list[JudgedMask]:
    """Return all masks of a folder, kept or not, as the labels judge them."""
    images = open_data_set(data, split)
    places = index_records(filtered)
    known = [ref for ref in images.images if ref.stem in places]
    if not known:
        raise SystemExit(f"{filtered} knows none of the images of {data} {split}; give those that it was made of")
    truth, judged = open_truth(images, known), []
    with open_records([places[ref.stem] for ref in known]) as records:
        for ref, record in zip(known, records, strict=True):
            objects = truth(ref)
            for part in record.annotations:
                mask = segment_to_mask(part["segmentation"], record.height, record.width)
                if (mask & ~objects.ignored).any():
                    judged.append(judge(mask, objects, part["score"]))
    return judged


def judge(mask: MaskArray, objects: Instances, agreement: float) -> JudgedMask:
    """Compare a mask (height, width) with the objects of its image."""
    counted = ~objects.ignored
    ious, num_held = [0.0], 0
    for target in objects.masks:
        shared = int(np.count_nonzero(mask & target & counted))
        ious.append(shared / max(1, int(np.count_nonzero((mask | target) & counted))))
        num_held += int(shared > HELD * int(np.count_nonzero(target & counted)))
    return JudgedMask(agreement, max(ious), num_held)


def summed_up(masks: list[JudgedMask], min_agreement: float) -> dict[str, Any]:
    """Return what a row says of the masks of this agreement or more."""
    kept = [mask for mask in masks if mask.agreement >= min_agreement]
    if not kept:
        return {"num_masks": len(masks), "num_kept": 0, "iou": None, "good": None, "several": None}
    return {
        "num_masks": len(masks),
        "num_kept": len(kept),
        "iou": round(float(np.mean([mask.iou for mask in kept])), 4),
        "good": round(float(np.mean([mask.iou > 0.7 for mask in kept])), 4),
        "several": round(float(np.mean([mask.num_held > 1 for mask in kept])), 4),
    }


if __name__ == "__main__":
    main()
