"""The command `saliency_gallery`: a page for a folder of masks, at the end of `saliency`, by itself, with scores."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from densessl.commands.saliency import saliency
from densessl.commands.saliency_gallery import saliency_gallery
from densessl.commands.saliency_metrics import saliency_metrics
from densessl.errors import InputError, MissingInputError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs with a coloured box in sub-folders, their labels, and a broken file."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(4):
        image, label = np.full((60, 80, 3), 80, np.uint8), np.zeros((60, 80), np.uint8)
        image[20 : 35 + 3 * number, 25:60] = (30, 160, 220)
        label[20:40, 25:60] = 255
        for folder, pixels in (("images", image), ("labels", label)):
            path = root / folder / f"box/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
    (root / "images/broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def masks(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("masks") / "out"
    saliency(out, images=photographs / "images", refine="none", num_workers=0)
    return out


def test_saliency_ends_with_the_page(masks: Path, photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (masks / "gallery/index.html").read_text(encoding="utf-8")
    assert "5 images, 4 masks, 1 rejected." in page
    assert "images a second" in page
    assert "fitted to none (estimator fused" in page
    assert 'data-stem="box/3"' in page
    assert "broken.png cannot be read" in page
    saliency(masks, images=photographs / "images", refine="none", num_workers=0)
    assert f"gallery: {masks / 'gallery/index.html'}" in capsys.readouterr().out


def test_saliency_without_the_page(photographs: Path, tmp_path: Path) -> None:
    saliency(tmp_path / "out", images=photographs / "images", method="centre", num_workers=0, gallery=False)
    assert (tmp_path / "out/proposals.json").is_file()
    assert not (tmp_path / "out/gallery").exists()


def test_command_writes_where_it_is_told(masks: Path, photographs: Path, tmp_path: Path) -> None:
    assert saliency_gallery(masks, images=photographs / "images") == masks / "gallery/index.html"
    page = saliency_gallery(masks, images=photographs / "images", out=tmp_path / "deep", num_per_section=1)
    assert page == tmp_path / "deep/index.html"
    assert "images a second" not in page.read_text(encoding="utf-8")


def test_scores_add_the_best_and_the_worst(masks: Path, photographs: Path, tmp_path: Path) -> None:
    saliency_metrics(masks, labels=photographs / "labels", json=tmp_path / "scores.json")
    rows = json.loads((tmp_path / "scores.json").read_text())["per_image"]
    best = max(rows, key=lambda row: row["iou"])
    page = saliency_gallery(masks, images=photographs / "images", scores=tmp_path / "scores.json", out=tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "Labels were used on this page" in text
    shown = text[text.index('id="best"') : text.index('id="worst"')]
    assert f'data-stem="{best["stem"]}"' in shown
    assert f"IoU {best['iou']:.2f}" in shown


def test_wrong_folders_are_refused(masks: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no file .*proposals\.json; expected a folder that"):
        saliency_gallery(photographs / "images", images=photographs / "images")
    with pytest.raises(InputError, match="give either a folder of images or a data set"):
        saliency_gallery(masks)
    with pytest.raises(InputError, match="belongs to the masks in"):
        saliency_gallery(masks, images=masks / "masks/box")
