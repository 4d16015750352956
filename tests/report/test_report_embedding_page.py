"""The page of `embedding_space` and the strips on it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from densessl.report.embedding_page import EmbeddingPage, PageStrip, render, write_embedding_page
from densessl.report.neighbour_strip import StripTile, draw_strip
from densessl.structures import Rejection

GREY = np.full((20, 30, 3), 200, np.uint8)


@pytest.fixture
def page() -> EmbeddingPage:
    return EmbeddingPage(
        title="cats & <dogs>",
        facts={"Encoder": "vit <b>"},
        notes=("A note.",),
        thumbnails=GREY,
        marks=GREY,
        projection="How to read it.",
        strips={"Neighbours of the medoids": [PageStrip(GREY, "a/<1>, most similar: b (0.912)")], "None": []},
        clusters={"cluster 0": "3 masks, medoid a/1"},
        rejected=[Rejection("bad/<2>", "cut off")],
    )


def test_everything_is_on_the_page(page: EmbeddingPage, tmp_path: Path) -> None:
    text = write_embedding_page(page, tmp_path / "index.html").read_text()
    assert text.count("<img") == 3
    assert "cats &amp; &lt;dogs&gt;" in text
    assert "vit &lt;b&gt;" in text
    assert "How to read it." in text
    assert "a/&lt;1&gt;, most similar: b (0.912)" in text
    assert "3 masks, medoid a/1" in text
    assert "bad/&lt;2&gt;: cut off" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "default-src &#x27;none&#x27;" in text


def test_sections_without_contents_are_left_out(page: EmbeddingPage) -> None:
    text = render(dataclasses.replace(page, strips={}, rejected=[]))
    assert text.count("<section") == 2
    assert "Left out" not in text


def tile(cosine: float | None, name: str = "a") -> StripTile:
    return StripTile(np.full((50, 108, 3), 90, np.uint8), 3, name, cosine)


def test_strips_grow_with_their_tiles_and_shorten_names() -> None:
    alone = draw_strip("a", [tile(None)])
    short = draw_strip("a", [tile(None), tile(0.9, "b")])
    long = draw_strip("a", [tile(None), tile(0.9, "b"), tile(-0.12, "c/" + 60 * "d")])
    assert alone.shape[0] == short.shape[0] == long.shape[0]
    assert long.shape[1] - short.shape[1] == 124  # a tile and a gap: a long name adds nothing
    assert alone.shape[1] < short.shape[1]
    assert (long[:, -8:] == 255).all()


def test_a_long_heading_is_not_cut() -> None:
    assert draw_strip(200 * "m", [tile(None)]).shape[1] > 1000
