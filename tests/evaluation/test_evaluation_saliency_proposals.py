"""Reading and scoring a file of proposals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from densessl.errors import InputError, MissingInputError
from densessl.evaluation.image_objects import Instances
from densessl.evaluation.saliency_instances import InstanceSource
from densessl.evaluation.saliency_proposals import read_proposal_file, score_proposal_file
from densessl.structures import ImageRef

LEFT = np.arange(12).reshape(3, 4) % 4 < 2


def encoded(mask: np.ndarray) -> dict[str, Any]:
    runs = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": runs["size"], "counts": runs["counts"].decode("ascii")}


def content(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "stem": "sub/a", "file_name": "masks/sub/a.png", "height": 3, "width": 4}],
        "annotations": [{"id": 1, "image_id": 7, "segmentation": encoded(LEFT), "score": 0.9}],
        "categories": [],
    } | changes


def written(folder: Path, value: object) -> Path:
    path = folder / "proposals.json"
    path.write_text(json.dumps(value))
    return path


def source(*masks: np.ndarray) -> InstanceSource:
    return InstanceSource("drawn", lambda _: Instances(masks, np.zeros((3, 4), dtype=bool)))


def refs(*stems: str) -> tuple[ImageRef, ...]:
    return tuple(ImageRef(stem, Path(stem)) for stem in stems)


def test_scores_and_images_that_are_not_listed(tmp_path: Path) -> None:
    file = read_proposal_file(written(tmp_path, content()))
    scores = score_proposal_file(file, refs("sub/a", "rejected"), source(LEFT))
    assert (scores.best_overlap, scores.corloc, scores.ar_1) == pytest.approx((0.5, 0.5, 0.5))
    assert scores.num_images_without_proposals == 1


def test_file_names_stand_in_for_stems(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "sub/b.jpg", "height": 3, "width": 4}]
    file = read_proposal_file(written(tmp_path, content(images=images)))
    assert score_proposal_file(file, refs("sub/b"), source(LEFT)).best_overlap == 1


def test_file_that_saliency_wrote(tmp_path: Path) -> None:
    from densessl.saliency.proposal_store import ListedImage, write_image, write_lists
    from densessl.structures import ImageProposals, Proposal

    part = Proposal(LEFT, 0.9, 6, (0, 0, 2, 3), True)
    record = write_image(tmp_path, ImageProposals("sub/a", LEFT.astype(np.float32), LEFT, (part,)), keep_soft=False)
    write_lists(tmp_path, [record], [ListedImage(7, "a.jpg")], "none")
    file = read_proposal_file(tmp_path / "proposals.json")
    assert score_proposal_file(file, refs("sub/a"), source(LEFT)).ar_100 == pytest.approx(1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "lacks a part"),
        ({"images": []}, "KeyError: 'annotations'"),
        (content(annotations=[{"image_id": 7, "segmentation": []}]), "KeyError: 'score'"),
        (content(annotations=[{"image_id": 7, "segmentation": [], "score": "high"}]), "could not convert .* 'high'"),
        (content(annotations=[{"image_id": 8, "segmentation": [], "score": 1}]), "KeyError: 8"),
        (content(annotations=[{"image_id": 7, "segmentation": [], "score": float("inf")}]), "holds the score inf"),
        (content(images=content()["images"] * 2), "lists image sub/a twice"),
    ],
)
def test_broken_files(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_proposal_file(written(tmp_path, value))


def test_errors_name_the_image(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no file .*expected proposals in the COCO layout"):
        read_proposal_file(tmp_path / "nowhere.json")
    file = read_proposal_file(written(tmp_path, content()))
    with pytest.raises(InputError, match=r"lists none of the 1 images: it holds sub/a, the labels b;"):
        score_proposal_file(file, refs("b"), source(LEFT))
    wide = InstanceSource("drawn", lambda _: Instances((), np.zeros((4, 3), dtype=bool)))
    with pytest.raises(InputError, match=r"image sub/a: its proposals in .* are for 3x4 and its label is 4x3"):
        score_proposal_file(file, refs("sub/a"), wide)
    short = {"size": [3, 4], "counts": [0, 5]}
    broken = content(annotations=[{"image_id": 7, "segmentation": short, "score": 1}])
    with pytest.raises(InputError, match=r"a proposal of image sub/a .* add up to 5 instead of 12 pixels"):
        score_proposal_file(read_proposal_file(written(tmp_path, broken)), refs("sub/a"), source(LEFT))
