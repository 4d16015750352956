"""The page of `attention`: its sections, its escapes, and that it loads nothing."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from densessl.report.attention_page import AttentionPage, SheetPicture, render, write_attention_page
from densessl.structures import Rejection


@pytest.fixture
def page() -> AttentionPage:
    sheet = np.full((20, 30, 3), 200, np.uint8)
    return AttentionPage(
        title="cats & <dogs>",
        facts={"Encoder": "vit <b>"},
        notes=("A note.",),
        sheets=[SheetPicture("a/<1>", sheet), SheetPicture("b", sheet)],
        num_images=9,
        head_ious={"head 0": 0.25, "head 1": 0.5, "mean of the heads": 0.75},
        num_with_masks=7,
        sharpness={224: 30.0, 448: 20.0, 640: float("nan")},
        rejected=[Rejection("bad/<2>", "cut off")],
    )


def test_everything_is_on_the_page(page: AttentionPage, tmp_path: Path) -> None:
    text = write_attention_page(page, tmp_path / "index.html").read_text()
    assert text.count("<img") == 2
    assert "2 of 9 images" in text
    assert re.search(r"head 1</th><td>0\.500 \(best\)", text)
    assert "0.750 (best)" not in text
    assert "IoU with masks, 7 images" in text
    assert "Sharpness against resolution" in text
    assert "bad/&lt;2&gt;: cut off" in text
    assert "cats &amp; &lt;dogs&gt;" in text
    assert "vit &lt;b&gt;" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_parts_without_contents_are_left_out(page: AttentionPage) -> None:
    bare = dataclasses.replace(page, head_ious={}, sharpness={}, rejected=[], sheets=page.sheets[:0])
    text = render(bare)
    assert "<section" not in text
