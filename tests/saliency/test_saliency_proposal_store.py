"""The proposals folder: what is written is read back, and COCO tools load it."""

import contextlib
import errno
import io

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from densessl.errors import InputError, MissingInputError
from densessl.saliency import proposal_store as store
from densessl.saliency.proposals import connected_parts
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
    store.write_lists(tmp_path, [*records, store.ImageRecord("c", reason="too dark")])
    return tmp_path, first, second


def test_masks_and_soft_maps_on_disk(folder):
    path, first, second = folder
    mask = cv2.imread(str(path / "masks/deep/b.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, second.foreground * 255)
    soft = cv2.imread(str(path / "soft/a.png"), cv2.IMREAD_UNCHANGED)
    assert np.abs(soft / 255 - first.soft).max() <= 0.5 / 255 + 1e-6
    assert not (path / "soft/deep/b.png").exists()


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


def test_coco_tools_load_the_file(folder):
    path, first, _ = folder
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path / "proposals.json"))
    assert coco.loadCats([1])[0]["name"] == "foreground"
    (image,) = [image for image in coco.loadImgs(coco.getImgIds()) if image["stem"] == "a"]
    assert (image["height"], image["width"]) == (30, 44)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
    masks = np.array([coco.annToMask(annotation) for annotation in annotations], dtype=bool)
    np.testing.assert_array_equal(masks.any(axis=0), first.foreground)
    for annotation, mask in zip(annotations, masks, strict=True):
        assert annotation["area"] == mask.sum()
        left, top, width, height = annotation["bbox"]
        assert mask[top : top + height, left : left + width].sum() == mask.sum()


def test_masks_of_any_shape_survive_run_lengths():
    generator = np.random.default_rng(0)
    for shape in [(1, 1), (1, 9), (9, 1), (5, 8)]:
        for mask in (generator.uniform(size=shape) > 0.5, np.zeros(shape, bool), np.ones(shape, bool)):
            np.testing.assert_array_equal(store.decode_mask(store.encode_mask(mask)), mask)


def test_records_survive_a_line_cut_short(tmp_path):
    journal = tmp_path / "records.jsonl"
    record = store.write_image(tmp_path, result("a", 0), False)
    store.append_record(journal, record)
    with journal.open("a") as handle:
        handle.write('{"stem": "b", "hei')
    assert store.read_records(journal) == {"a": record}


def test_a_broken_record_names_its_line(tmp_path):
    journal = tmp_path / "records.jsonl"
    journal.write_text("nonsense\n")
    with pytest.raises(InputError, match=r"line 1 is no record.*run again"):
        store.read_records(journal)


def test_is_written_wants_every_file(tmp_path):
    record = store.write_image(tmp_path, result("a", 0), False)
    assert store.is_written(tmp_path, record, keep_soft=False)
    assert not store.is_written(tmp_path, record, keep_soft=True)
    assert store.is_written(tmp_path, store.ImageRecord("c", reason="plain"), keep_soft=True)
    assert not store.is_written(tmp_path, store.ImageRecord("c", reason="broken", is_unreadable=True), False)


def test_a_folder_without_lists_is_missing(tmp_path):
    with pytest.raises(MissingInputError, match="densessl saliency"):
        store.read_proposals(tmp_path)
    (tmp_path / "rejected.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="no list of stems"):
        store.read_rejected(tmp_path)


def test_a_full_disk_is_told_to_the_user(tmp_path, monkeypatch):
    def is_full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "open", is_full)
    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        store.append_record(tmp_path / "records.jsonl", store.ImageRecord("a"))
