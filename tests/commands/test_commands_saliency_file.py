"""`saliency --method file`: masks made elsewhere, in any usual encoding, are checked and become proposals."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from densessl.commands.saliency import saliency
from densessl.errors import InputError
from densessl.saliency.mask_provenance import masks_provenance
from densessl.saliency.proposal_store import read_proposals, read_rejected

SHAPE = (60, 80)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Photographs a, b and deep/c, each with a square of another colour."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c"):
        image = np.full((*SHAPE, 3), 80, np.uint8)
        image[20:45, 25:60] = (30, 160, 220)
        cv2.imwrite(str(folder / f"{name}.png"), image)
    return folder


def square(value: int = 1) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[22:43, 27:58] = value
    return mask


def write(folder: Path, **masks: np.ndarray) -> Path:
    for name, mask in masks.items():
        path = folder / f"{name.replace('__', '/')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), mask)
    return folder


def test_masks_come_out_as_proposals(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_parts = square()
    two_parts[2:12, 2:12] = 1
    masks = write(tmp_path / "theirs", a=square(), b=two_parts, deep__c=square())
    out = tmp_path / "out"
    summary = saliency(out, images=images, method="file", masks=masks, num_workers=0, gallery=False)
    assert (summary.num_masks, summary.num_rejected) == (3, 0)
    assert f"masks for 3 of 3 images in {masks}, read as binary 0/1" in capsys.readouterr().err
    for name, mask in (("a", square()), ("b", two_parts), ("deep/c", square())):
        np.testing.assert_array_equal(cv2.imread(str(out / f"masks/{name}.png"), cv2.IMREAD_UNCHANGED), mask * 255)
    assert {stem: len(parts) for stem, parts in read_proposals(out).items()} == {"a": 1, "b": 2, "deep/c": 1}
    record = json.loads((out / "saliency.json").read_text())
    assert record["settings"]["refine"] == "none"
    assert record["features"]["encoding"] == "binary 0/1"
    assert masks_provenance(out) == "made elsewhere (theirs); whatever labels made them are theirs"


def test_images_without_a_fitting_mask_are_rejected_with_the_reason(images: Path, tmp_path: Path) -> None:
    masks = write(tmp_path / "theirs", a=square(), deep__c=square()[:30])
    out = tmp_path / "out"
    saliency(out, images=images, method="file", masks=masks, num_workers=0, gallery=False)
    reasons = {rejection.stem: rejection.reason for rejection in read_rejected(out)}
    assert set(reasons) == {"b", "deep/c"}
    assert reasons["b"].startswith("image b has no mask in")
    assert "mask of another size" in reasons["deep/c"]
    write(masks, b=square(), deep__c=square())
    again = saliency(out, images=images, method="file", masks=masks, num_workers=0, gallery=False)
    assert (again.num_masks, again.num_reused) == (3, 1)


def test_soft_maps_and_palettes_are_understood_and_refined_on_request(images: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "deep/c"):
        path = tmp_path / f"theirs/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        palette = Image.fromarray(square(3)).convert("P")
        palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 128])
        palette.save(path)
    out = tmp_path / "out"
    saliency(out, images=images, method="file", masks=tmp_path / "theirs", num_workers=0, gallery=False)
    assert json.loads((out / "saliency.json").read_text())["features"]["encoding"].startswith("palette labels")
    np.testing.assert_array_equal(cv2.imread(str(out / "masks/a.png"), cv2.IMREAD_UNCHANGED), square(255))

    soft = cv2.GaussianBlur(square().astype(np.float32) * 60000, (0, 0), 4).astype(np.uint16)
    masks = write(tmp_path / "soft", a=soft, b=soft, deep__c=soft)
    refined = tmp_path / "refined"
    flags = {"method": "file", "masks": masks, "refine": "colour_models", "keep_soft": True}
    saliency(refined, images=images, num_workers=0, gallery=False, **flags)
    mask = cv2.imread(str(refined / "masks/a.png"), cv2.IMREAD_UNCHANGED) > 0
    truth = np.zeros(SHAPE, bool)
    truth[20:45, 25:60] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9  # the given square has 0.74


def test_the_gallery_says_how_the_masks_were_read(images: Path, tmp_path: Path) -> None:
    masks = write(tmp_path / "theirs", a=square(), b=square(), deep__c=square())
    saliency(tmp_path / "out", images=images, method="file", masks=masks, num_workers=0)
    page = (tmp_path / "out/gallery/index.html").read_text()
    assert "binary 0/1" in page
    assert "vit_small" not in page  # no encoder was used


def test_masks_that_densessl_made_keep_their_provenance(images: Path, tmp_path: Path) -> None:
    saliency(tmp_path / "first", images=images, method="barrier_distance", num_workers=0, gallery=False)
    out = tmp_path / "out"
    saliency(out, images=images, method="file", masks=tmp_path / "first", num_workers=0, gallery=False)
    supervision = "fitted to none (estimator barrier_distance; docs/saliency.md says which labels its design saw)"
    assert masks_provenance(out) == supervision
    saliency(tmp_path / "inner", images=images, method="file", masks=out / "masks", num_workers=0, gallery=False)
    shutil.rmtree(tmp_path / "first")
    shutil.rmtree(out)
    assert masks_provenance(tmp_path / "inner/masks") == supervision
    record = json.loads((tmp_path / "inner/saliency.json").read_text())
    assert record["supervision"] == record["features"]["supervision"] == supervision
    assert json.loads((tmp_path / "inner/proposals.json").read_text())["info"]["supervision"] == supervision


@pytest.mark.parametrize("is_redrawn", [False, True])
def test_a_known_provenance_stays_as_long_as_the_masks(is_redrawn: bool, images: Path, tmp_path: Path) -> None:
    first, out = tmp_path / "first", tmp_path / "out"
    saliency(first, images=images, method="barrier_distance", num_workers=0, gallery=False)
    flags = {"method": "file", "masks": first / "masks", "num_workers": 0, "gallery": False}
    known = saliency(out, images=images, **flags).supervision
    assert known.startswith("fitted to none (estimator barrier_distance;")
    before = {name: (out / name).read_bytes() for name in ("saliency.json", "proposals.json")}
    (first / "saliency.json").unlink()
    if is_redrawn:
        write(first / "masks", a=square(255))
    again = saliency(out, images=images, **flags)
    assert again.num_reused == 2 + (not is_redrawn)
    unknown = "made elsewhere (masks); whatever labels made them are theirs"
    assert again.supervision == (unknown if is_redrawn else known)
    assert ({name: (out / name).read_bytes() for name in before} == before) == (not is_redrawn)
    record = json.loads((out / "saliency.json").read_text())
    assert record["supervision"] == record["features"]["supervision"] == again.supervision


def test_masks_are_not_written_over(images: Path, tmp_path: Path) -> None:
    masks = write(tmp_path / "theirs" / "masks", a=square(), b=square(), deep__c=square())
    for given in (masks, tmp_path / "theirs"):
        with pytest.raises(InputError, match="would be written over by the output folder"):
            saliency(tmp_path / "theirs", images=images, method="file", masks=given, num_workers=0)
    assert not (tmp_path / "theirs" / "saliency.json").exists()


@pytest.mark.slow  # starts two interpreters
def test_workers_change_nothing(images: Path, tmp_path: Path) -> None:
    masks = write(tmp_path / "theirs", a=square(), b=square()[:30], deep__c=square())
    for name, num_workers in (("alone", 0), ("shared", 2)):
        saliency(tmp_path / name, images=images, method="file", masks=masks, num_workers=num_workers, gallery=False)
    for name in ("proposals.json", "rejected.json", "masks/a.png"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"method": "file"}, "needs the folder of the masks"),
        ({"masks": Path("theirs")}, "fused makes its own masks, but masks theirs are given"),
        ({"method": "file", "masks": Path("nowhere")}, "no mask folder nowhere"),
        ({"method": "self_trained", "masks": Path("theirs")}, "none of the teachers fused reads them; add file"),
        ({"method": "self_trained", "masks": Path("theirs"), "network": Path("n")}, "trained already.*masks theirs"),
    ],
)
def test_senseless_flags_are_refused(flags: dict[str, object], message: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        saliency(tmp_path / "out", images=images, num_workers=0, **flags)  # type: ignore[arg-type]
