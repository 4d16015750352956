"""Proposals for a data set in the COCO layout are scored by pycocotools as they are, by the ids of the data set."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densessl.commands.saliency import saliency
from densessl.commands.saliency_metrics import saliency_metrics
from densessl.data.coco_annotations import mask_annotation
from densessl.errors import InputError

HEIGHT, WIDTH = 60, 80
IDS = {"deep/b.png": 391895, "a.jpg": 522, "plain.png": 7, "c.jpg": 60000000001}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four images, one of them of a single colour; each of the others with two objects, of which few cues tell."""
    images, annotations = [], []
    for number, (name, identity) in enumerate(IDS.items()):
        photo = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        top, left = 8 + 3 * number, 10 + 6 * number
        boxes = [] if name == "plain.png" else [(top, left, top + 26, left + 30), (2, 2, 7, 9)]
        for y0, x0, y1, x1 in boxes:
            mask = np.zeros((HEIGHT, WIDTH), np.bool_)
            mask[y0:y1, x0:x1] = True
            photo[mask] = (220, 60 * number, 40)
            entry = {"id": len(annotations) + 1, "image_id": identity, "category_id": 44, **mask_annotation(mask)}
            annotations.append(entry)
        images.append({"id": identity, "file_name": name, "height": HEIGHT, "width": WIDTH})
        path = tmp_path / "coco/val2017" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path, quality=95)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 44, "name": "cup"}]}
    (tmp_path / "coco/annotations").mkdir()
    (tmp_path / "coco/annotations/instances_val2017.json").write_text(json.dumps(content))
    return tmp_path / "coco"


def average_recall(truth: Path, results: Path) -> tuple[float, ...]:
    """Return pycocotools' average recall with 1, 10 and 100 masks an image, whatever their classes."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results)), "segm")
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return tuple(float(value) for value in evaluation.stats[6:9])


def test_results_are_scored_against_the_data_set(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = saliency(out, data=tree, split="val", num_workers=0, min_area=0.001, gallery=False)
    assert (summary.num_masks, summary.num_rejected) == (3, 1)
    content = json.loads((out / "proposals.json").read_text())
    assert {image["file_name"]: image["id"] for image in content["images"]} == {
        name: identity for name, identity in IDS.items() if name != "plain.png"
    }
    flags = {"data": tree, "split": "val", "missing": "empty", "json": tmp_path / "scores.json"}
    saliency_metrics(out, proposals=out / "proposals.json", **flags)  # type: ignore[arg-type]
    ours = json.loads((tmp_path / "scores.json").read_text())["proposals"]
    results = json.loads((out / "proposals_results.json").read_text())
    assert {entry["category_id"] for entry in results} == {44}  # the data set has no category 1
    theirs = average_recall(tree / "annotations/instances_val2017.json", out / "proposals_results.json")
    assert 0 < ours["ar_100"] < 1
    assert theirs == pytest.approx((ours["ar_1"], ours["ar_10"], ours["ar_100"]), abs=1e-12)


def test_crowds_are_not_taken_for_objects_by_another_ignore_index(tree: Path, tmp_path: Path) -> None:
    saliency(tmp_path / "out", data=tree, split="val", num_workers=0, gallery=False)
    with pytest.raises(InputError, match="ignore_index is 254, but the crowds of a data set in the COCO layout are"):
        saliency_metrics(tmp_path / "out", data=tree, split="val", ignore_index=254)


def test_parts_of_the_set_give_the_same_ids(tree: Path, tmp_path: Path) -> None:
    saliency(tmp_path / "whole", data=tree, split="val", num_workers=0, gallery=False)
    for shard in ("2/3", "3/3", "1/3"):
        saliency(tmp_path / "parts", data=tree, split="val", num_workers=0, shard=shard, gallery=False)
    for name in ("proposals.json", "proposals_results.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_images_of_a_folder_are_numbered(tree: Path, tmp_path: Path) -> None:
    """The proposals of a plain folder serve as a data set of their own; the image without a mask keeps its number."""
    out = tmp_path / "out"
    saliency(out, images=tree / "val2017", num_workers=0, gallery=False)
    images = json.loads((out / "proposals.json").read_text())["images"]
    assert [(image["id"], image["file_name"]) for image in images] == [(1, "a.jpg"), (2, "c.jpg"), (3, "deep/b.png")]
    assert average_recall(out / "proposals.json", out / "proposals_results.json")[2] == 1
    results = json.loads((out / "proposals_results.json").read_text())
    assert {(entry["image_id"], entry["category_id"]) for entry in results} == {(1, 1), (2, 1), (3, 1)}
    assert {tuple(entry) for entry in results} == {("image_id", "category_id", "segmentation", "score")}
