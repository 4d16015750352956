"""The contact sheet: one compared with a stored one, what its pictures show, and sizes that are no whole cells."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from densessl.report import attention_pictures
from densessl.report.attention_pictures import (
    BACKGROUND,
    HEAD_COLOURS,
    colours_picture,
    head_colour,
    heads_picture,
    map_picture,
    spread,
    spread_colours,
    with_point,
)
from densessl.report.attention_sheet import (
    AttentionLook,
    Look,
    MatchLook,
    QueryLook,
    ResolutionLook,
    draw_sheet,
    panels_of,
)

STORED = Path(__file__).parent / "attention_sheet.png"
LARGEST_MEAN_DIFFERENCE = 1.5
"""Of 255, over the sheets a quarter as large, which passes over how fonts and edges are drawn."""


@pytest.fixture
def look() -> Look:
    """A wide photograph of 44 x 76 pixels under a grid of 6 x 10 cells of 8 pixels."""
    rows, columns = np.mgrid[:44, :76]
    photo = np.stack([3 * columns, 5 * rows, 255 - 2 * columns - rows], axis=2).clip(0, 255).astype(np.uint8)
    y, x = np.mgrid[:6, :10].astype(np.float32)
    maps = np.stack([np.exp(-((y - row) ** 2) - (x - column) ** 2) for row, column in ((1, 2), (3, 7), (4.6, 4))])
    maps = (maps / maps.sum((1, 2), keepdims=True)).astype(np.float32)
    rgb = np.stack([x / 9, y / 5, 1 - x / 9], axis=2)
    attention = AttentionLook(maps, maps > 0.05, maps.mean(0), maps.mean(0) > 0.04, maps[0] + 0.1, 0.6)
    match = MatchLook(photo[:, ::-1], (48, 80), -x / 9, (4.0, 20.0))
    query = QueryLook((20.0, 12.0), 1 - x / 5, match)
    small = ResolutionLook(40, 12.3, rgb[::2, ::2], rgb[::2, ::2, 0] > 0.3, (48, 80))
    return Look("cats/<1>", photo, (48, 80), rgb, rgb[..., 0] > 0.2, y, attention, query, (small,))


def test_the_sheet_is_the_stored_one(look: Look) -> None:
    """After a change that is meant: look at the new sheet, and store it with Image.fromarray(sheet).save(STORED)."""
    sheet = draw_sheet(look)
    with Image.open(STORED) as stored:
        expected = np.asarray(stored.convert("RGB"))
    assert sheet.shape == pytest.approx(expected.shape, rel=0.03)
    size = (expected.shape[1] // 4, expected.shape[0] // 4)
    ours, theirs = (cv2.resize(item, size, interpolation=cv2.INTER_AREA).astype(float) for item in (sheet, expected))
    assert np.abs(ours - theirs).mean() < LARGEST_MEAN_DIFFERENCE


def test_another_picture_is_noticed(look: Look) -> None:
    """The tolerance is not so wide that a map in other colours, or a panel that is missing, would pass."""
    with Image.open(STORED) as stored:
        expected = np.asarray(stored.convert("RGB"))
    size = (expected.shape[1] // 4, expected.shape[0] // 4)
    attention = dataclasses.replace(look.attention, maps=look.attention.maps[:, ::-1, ::-1])
    for changed in (dataclasses.replace(look, attention=attention), dataclasses.replace(look, query=None)):
        sheet = cv2.resize(draw_sheet(changed), size, interpolation=cv2.INTER_AREA).astype(float)
        shrunk = cv2.resize(expected, size, interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(sheet - shrunk).mean() > LARGEST_MEAN_DIFFERENCE


def test_every_part_has_a_panel(look: Look) -> None:
    names = [panel.name for panel in panels_of(look)]
    assert names[:6] == ["photo", "mean", "mask", "rollout", "heads", "components"]
    assert names[6:] == ["query", "similarity", "match", "match_similarity", "at_40", "head_0", "head_1", "head_2"]
    assert all(panel.picture.shape == (44, 76, 3) for panel in panels_of(look))
    without = dataclasses.replace(look, attention=None, query=None, resolutions=())
    assert [panel.name for panel in panels_of(without)] == ["photo", "energy", "components"]
    assert draw_sheet(dataclasses.replace(without, photo=look.photo.transpose(1, 0, 2), covered=(80, 48))).ndim == 3


def test_grids_are_cropped_to_the_picture() -> None:
    grid = np.arange(6.0).reshape(2, 3)
    shown = spread(grid, (8, 12), (7, 10))
    for row in range(7):
        for column in range(10):
            assert shown[row, column] == grid[row // 4, column // 4]
    coloured = np.random.default_rng(0).random((2, 5, 3))
    np.testing.assert_array_equal(spread_colours(coloured, (2, 5), (2, 5)), coloured)
    assert spread(np.zeros((4, 2, 3), bool), (2, 3), (6, 9)).shape == (4, 6, 9)


def test_maps_rise_in_brightness() -> None:
    """So that they read the same in grey."""
    brightness = map_picture(np.linspace(0, 1, 32)[None]).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness[0]) > 0).all()
    assert map_picture(np.ones((2, 2))).shape == (2, 2, 3)


def test_heads_have_their_colours_where_their_masks_are() -> None:
    photo = np.full((60, 90, 3), 128, np.uint8)
    maps = np.zeros((2, 60, 90))
    maps[0, :, :30], maps[1, :, 60:] = 1, 2
    drawn = heads_picture(photo, maps, maps > 0)
    for number, column in ((0, 3), (1, 86)):
        nearest = [np.abs(drawn[3, column].astype(int) - colour).sum() for colour in HEAD_COLOURS]
        assert int(np.argmin(nearest)) == number
    assert len(set(drawn[3, 45].tolist())) == 1  # grey
    assert (drawn != heads_picture(photo, maps[::-1], maps[::-1] > 0)).any()


def test_numbers_stand_in_the_colours_of_their_heads() -> None:
    """Two heads with one peak, and a third whose pixels are all taken, as of heads that look at an artefact."""
    photo, maps = np.full((120, 180, 3), 128, np.uint8), np.zeros((3, 120, 180))
    maps[:2, 40:60, 60:80] = 2.0
    maps[0, 40:60, 20:60] = maps[1, 80:110, 120:150] = 1.0
    maps[2] = 0.5 * maps[0]
    numbers = heads_picture(photo, maps, maps > 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_pictures, "_write_number", lambda *_: None)
        plain = heads_picture(photo, maps, maps > 0)
    places = np.argwhere((numbers != plain).any(axis=2))
    assert places[:, 1].min() < 80 < 120 < places[:, 1].max()  # head 0 in the left region, head 1 in its own
    assert len(np.unique(cv2.connectedComponents((numbers != plain).any(axis=2).astype(np.uint8))[1])) == 3


def test_the_colours_of_many_heads_differ() -> None:
    assert len({head_colour(number) for number in range(35)}) == 35


def test_background_is_dark_and_points_are_ringed() -> None:
    rgb = np.full((8, 8, 3), 0.5, np.float32)
    foreground = np.zeros((8, 8), bool)
    foreground[0] = True
    picture = colours_picture(rgb, foreground)
    assert (picture[1:] == BACKGROUND).all()
    assert (picture[0] == 128).all()
    large = np.full((80, 80, 3), 90, np.uint8)
    ringed = with_point(large, (40.5, 20.5))
    changed = np.argwhere((ringed != large).any(axis=2))
    np.testing.assert_allclose(changed.mean(axis=0), (20, 40), atol=0.6)
    assert (ringed[20, 40] == 90).all()
