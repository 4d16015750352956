"""The pictures of `explain`: what they show, and that the page is whole."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.report.explanation import (
    Explanation,
    SimilarMask,
    draw_loss,
    draw_negatives,
    draw_similarity,
    draw_views,
    write_explanation,
)


@pytest.fixture
def explanation() -> Explanation:
    generator = np.random.default_rng(0)
    photo = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    masks = np.zeros((32, 32), np.int64)
    masks[8:24, 8:24] = 1
    loss = np.full((4, 4), np.nan, np.float32)
    loss[1:3, 1:3] = [[1.0, 2.0], [3.0, 4.0]]
    similar = SimilarMask("cats/<1>", 1, 0.875, photo, masks > 0)
    return Explanation(
        title="dogs/<2>",
        query=photo,
        key=photo[::-1],
        query_masks=masks,
        key_masks=masks,
        similarity=generator.uniform(-0.2, 0.9, (4, 4)).astype(np.float32),
        loss=loss,
        chance=3.0,
        similar=(similar, dataclasses.replace(similar, photo=None, stem="a" * 90)),
        facts={"Loss": "formula"},
        notes=("A note.",),
        numbers={"masks": [{"loss": 2.5}]},
    )


def test_everything_is_written(explanation: Explanation, tmp_path: Path) -> None:
    page = write_explanation(explanation, tmp_path / "out")
    text = page.read_text()
    assert text.count("<img") == 4
    assert "dogs/&lt;2&gt;" in text
    assert "<2>" not in text
    assert "A note." in text
    assert json.loads((tmp_path / "out" / "explanation.json").read_text()) == {"masks": [{"loss": 2.5}]}
    for name in ("views", "similarity", "loss", "negatives"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.format == "PNG"


def test_cells_without_a_loss_are_grey(explanation: Explanation) -> None:
    picture = draw_loss(explanation)
    assert picture is not None
    grey = (np.abs(picture.astype(int) - [0xC8, 0xCC, 0xD0]).max(axis=2) <= 2).sum()
    full = dataclasses.replace(explanation, loss=np.ones((4, 4), np.float32))
    painted = draw_loss(full)
    assert painted is not None
    assert grey > 10_000 > (np.abs(painted.astype(int) - [0xC8, 0xCC, 0xD0]).max(axis=2) <= 2).sum()


def test_what_is_missing_is_left_out(explanation: Explanation, tmp_path: Path) -> None:
    bare = dataclasses.replace(explanation, similar=(), loss=np.full((4, 4), np.nan, np.float32))
    assert draw_negatives(bare) is None
    assert draw_loss(bare) is None
    assert write_explanation(bare, tmp_path).read_text().count("<img") == 2


def test_views_of_one_side_and_of_another_shape(explanation: Explanation) -> None:
    """A mask that fills a view has no outline; a feature grid need not be square."""
    whole = dataclasses.replace(
        explanation, query_masks=np.ones((32, 32), np.int64), similarity=np.zeros((2, 5), np.float32)
    )
    assert draw_views(whole).shape[2] == 3
    assert draw_similarity(whole).shape[1] > draw_similarity(whole).shape[0]
