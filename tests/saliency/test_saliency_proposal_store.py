"""The proposals folder: what is written is read back, and COCO tools load it."""

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from densessl.data.coco_segments import segment_to_mask
from densessl.data.masks import read_mask
from densessl.errors import InputError, MissingInputError
from densessl.saliency import proposal_store as store
from densessl.saliency.proposals import connected_parts
from densessl.saliency.record_journal import ImageRecord, RecordPlace
from densessl.structures import ImageProposals, Rejection


def result(stem, seed):
    soft = cv2.GaussianBlur(np.random.default_rng(seed).uniform(size=(30, 44)).astype(np.float32), (0, 0), 2)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    parts = connected_parts(soft, 0.6, 0.01)
    return ImageProposals(stem, soft, np.logical_or.reduce([part.mask for part in parts]), parts)


@pytest.fixture
def folder(tmp_path):
    first, second = result("a", 0), result("deep/b", 1)
    records = [store.write_image(tmp_path, first, True), store.write_image(tmp_path, second, False)]
    listed = [store.ListedImage(identity, name) for identity, name in ((7, "a.jpg"), (3, "deep/b.png"), (5, "c.jpg"))]
    store.write_lists(tmp_path, [*records, ImageRecord("c", reason="too dark")], listed, "none")
    store.write_results(tmp_path, [*records, ImageRecord("c", reason="too dark")], listed)
    return tmp_path, first, second


def test_masks_and_soft_maps_on_disk(folder):
    path, first, second = folder
    mask = cv2.imread(str(path / "masks/deep/b.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, second.foreground * 255)
    soft = cv2.imread(str(path / "soft/a.png"), cv2.IMREAD_UNCHANGED)
    assert np.abs(soft / 255 - first.soft).max() <= 0.5 / 255 + 1e-6
    assert not (path / "soft/deep/b.png").exists()


def test_stored_soft_maps_keep_the_side_of_a_half(tmp_path):
    soft = np.array([[0, 0.4999, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.501, 1]], np.float32)
    store.write_image(tmp_path, ImageProposals("a", soft, soft > 0.5, ()), keep_soft=True)
    stored = cv2.imread(str(tmp_path / "soft/a.png"), cv2.IMREAD_UNCHANGED)
    assert stored.tolist() == [[0, 127, 127, 128, 128, 255]]
    np.testing.assert_array_equal(read_mask(tmp_path / "soft/a.png").foreground, soft > 0.5)


def test_proposals_come_back_equal(folder):
    path, first, second = folder
    read = store.read_proposals(path)
    assert list(read) == ["a", "deep/b"]
    for expected in (first, second):
        assert len(read[expected.stem]) == len(expected.proposals) > 1
        for ours, theirs in zip(read[expected.stem], expected.proposals, strict=True):
            np.testing.assert_array_equal(ours.mask, theirs.mask)
            assert (ours.score, ours.area_px, ours.box) == (theirs.score, theirs.area_px, theirs.box)
            assert ours.touches_border == theirs.touches_border
    assert store.read_rejected(path) == (Rejection("c", "too dark"),)


def test_the_lists_are_plain_json_whatever_they_hold(tmp_path):
    records = [store.write_image(tmp_path, result(stem, seed), False) for seed, stem in enumerate(['a"b', "\u00fc/c"])]
    for chosen in ([], records, [ImageRecord("c", reason="too dark")]):
        listed = [store.ListedImage(f"id {record.stem}", f"{record.stem}.jpg") for record in chosen]
        store.write_lists(tmp_path, chosen, listed, 'labels of "others"')
        store.write_results(tmp_path, chosen, listed)
        for name in ("proposals.json", "proposals_results.json"):
            text = (tmp_path / name).read_text()
            assert text == json.dumps(json.loads(text)) + "\n"
        content = json.loads((tmp_path / "proposals.json").read_text())
        assert content["info"]["supervision"] == 'labels of "others"'
        assert [(image["id"], image["file_name"]) for image in content["images"]] == [
            (f"id {record.stem}", f"{record.stem}.jpg") for record in chosen if record.reason is None
        ]


def test_coco_tools_load_the_file(folder):
    path, first, _ = folder
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path / "proposals.json"))
    assert coco.loadCats([1])[0]["name"] == "foreground"
    (image,) = [image for image in coco.loadImgs(coco.getImgIds()) if image["stem"] == "a"]
    assert (image["id"], image["file_name"], image["height"], image["width"]) == (7, "a.jpg", 30, 44)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
    masks = np.array([coco.annToMask(annotation) for annotation in annotations], dtype=bool)
    np.testing.assert_array_equal(masks.any(axis=0), first.foreground)
    for annotation, mask in zip(annotations, masks, strict=True):
        assert annotation["area"] == mask.sum()
        left, top, width, height = annotation["bbox"]
        assert mask[top : top + height, left : left + width].sum() == mask.sum()


def test_results_are_the_same_masks_with_their_own_areas(folder):
    path, _, _ = folder
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path / "proposals.json"))
        results = coco.loadRes(str(path / "proposals_results.json"))
    assert len(results.anns) == len(coco.anns) > 2
    for found, expected in zip(results.anns.values(), coco.anns.values(), strict=True):
        assert {key: found[key] for key in ("image_id", "category_id", "score", "area")} == {
            key: expected[key] for key in ("image_id", "category_id", "score", "area")
        }
        np.testing.assert_array_equal(results.annToMask(found), coco.annToMask(expected))


def test_masks_of_any_shape_survive_run_lengths():
    generator = np.random.default_rng(0)
    for shape in [(1, 1), (1, 9), (9, 1), (5, 8)]:
        for mask in (generator.uniform(size=shape) > 0.5, np.zeros(shape, bool), np.ones(shape, bool)):
            np.testing.assert_array_equal(segment_to_mask(store.encode_mask(mask), *shape), mask)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [30, 44], "counts": "0"}, "add up to 0 instead of 1320 pixels"),
        ({"size": [3000, 44], "counts": "0"}, r"size \[3000, 44\] in an image of \[30, 44\]"),
        ("0", "a str instead of polygons or run lengths"),
    ],
)
def test_run_lengths_that_do_not_fit_the_image_are_refused(segmentation, message, folder):
    path = folder[0] / "proposals.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = segmentation
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"proposals\.json is no list of proposals .*{message}"):
        store.read_proposals(folder[0])


def test_is_written_wants_every_file(tmp_path):
    store.write_image(tmp_path, result("a", 0), False)
    accepted = RecordPlace(tmp_path, 0, is_rejected=False, is_unreadable=False)
    assert store.is_written(tmp_path, "a", accepted, keep_soft=False)
    assert not store.is_written(tmp_path, "a", accepted, keep_soft=True)
    assert not store.is_written(tmp_path, "a", None, keep_soft=False)
    assert store.is_written(tmp_path, "c", RecordPlace(tmp_path, 0, True, False), keep_soft=True)
    assert not store.is_written(tmp_path, "c", RecordPlace(tmp_path, 0, True, True), False)


def test_a_folder_without_lists_is_missing(tmp_path):
    with pytest.raises(MissingInputError, match="densessl saliency"):
        store.read_proposals(tmp_path)
    (tmp_path / "rejected.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="no list of stems"):
        store.read_rejected(tmp_path)
