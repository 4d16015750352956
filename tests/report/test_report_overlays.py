"""Overlays, thumbnails and crops, with pixel values computed by hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import voc_palette
from densessl.errors import InputError
from densessl.report.contents import UNMATCHED
from densessl.report.overlays import (
    HALO_COLOUR,
    OUTLINE_COLOUR,
    binary_picture,
    luminance,
    outline,
    paint,
    painted_colour,
    remap,
    spotlight,
)
from densessl.report.thumbnails import data_uri, resize_map, resize_photo, square_crop, thumbnail_size
from densessl.structures import IGNORE


def square_mask() -> np.ndarray:
    mask = np.zeros((9, 11), bool)
    mask[2:7, 3:8] = True
    return mask


def test_outline_is_the_ring_of_the_given_width() -> None:
    ring = outline(square_mask(), 1)
    expected = square_mask()
    expected[3:6, 4:7] = False
    np.testing.assert_array_equal(ring, expected)
    assert outline(square_mask(), 2).sum() == 25 - 1


def test_outline_leaves_the_edge_of_the_image_open() -> None:
    mask = np.zeros((4, 5), bool)
    mask[:, :2] = True
    expected = np.zeros((4, 5), bool)
    expected[:, 1] = True
    np.testing.assert_array_equal(outline(mask, 1), expected)


@pytest.mark.parametrize("fill", [False, True])
def test_empty_and_full_masks_have_no_outline(fill: bool) -> None:
    assert not outline(np.full((4, 7), fill), 2).any()


def test_luminance_of_pure_colours() -> None:
    photo = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(luminance(photo), [[76.245, 149.685, 29.07]])


def test_spotlight_keeps_inside_dims_outside_and_draws_halo_and_outline() -> None:
    photo = np.full((9, 11, 3), (200, 100, 50), np.uint8)
    drawn = spotlight(photo, square_mask(), width_px=1)
    assert tuple(drawn[4, 5]) == (200, 100, 50)
    assert tuple(drawn[2, 3]) == OUTLINE_COLOUR
    assert tuple(drawn[1, 3]) == HALO_COLOUR
    assert tuple(drawn[0, 0]) == (75, 75, 75)  # 0.6 * (0.299 * 200 + 0.587 * 100 + 0.114 * 50) = 74.52


def test_paint_by_hand() -> None:
    photo = np.full((1, 4, 3), 100, np.uint8)
    drawn = paint(photo, np.array([[0, 8, IGNORE, UNMATCHED]]))
    assert tuple(drawn[0, 0]) == (184, 184, 184)  # 0.4 * 100 + 0.6 * 240
    assert tuple(drawn[0, 1]) == (74, 28, 28)  # 0.72 * (64, 0, 0) + 0.28 * 100
    assert tuple(drawn[0, 2]) == (189, 189, 166)  # 0.72 * (224, 224, 192) + 28
    assert drawn[0, 3, 0] in {190, 96}  # stripes: 0.72 * 225 + 28 or 0.72 * 95 + 28


def test_legend_colour_is_what_paint_draws_over_mid_grey() -> None:
    red, green, blue = voc_palette()[15].astype(float)
    assert painted_colour(15) == tuple(round(0.72 * value + 0.28 * 128) for value in (red, green, blue))


def test_binary_picture() -> None:
    np.testing.assert_array_equal(binary_picture(np.array([[True, False]]))[0], [[245] * 3, [28] * 3])


def test_remap_keeps_background_and_ignored_and_marks_the_rest() -> None:
    mapped = remap(np.array([[0, 1, 2, 3, IGNORE]]), {0: 0, 1: 12, 2: None})
    np.testing.assert_array_equal(mapped, [[0, 12, UNMATCHED, UNMATCHED, IGNORE]])
    np.testing.assert_array_equal(remap(np.array([[0, 1]]), {0: 7, 1: 0}), [[7, 0]])
    np.testing.assert_array_equal(remap(np.array([[0]]), {0: None}), [[UNMATCHED]])


def test_thumbnail_size_scales_down_only() -> None:
    assert thumbnail_size((100, 400), 200) == (50, 200)
    assert thumbnail_size((100, 40), 200) == (100, 40)
    assert thumbnail_size((1, 4000), 200) == (1, 200)


def test_resizing_by_hand() -> None:
    values = np.arange(8).reshape(2, 4)
    np.testing.assert_array_equal(resize_map(values, (1, 2)), [[5, 7]])
    np.testing.assert_array_equal(resize_map(values, (4, 4))[:, 0], [0, 0, 4, 4])
    photo = np.zeros((2, 4, 3), np.uint8)
    photo[:, ::2] = 100
    np.testing.assert_array_equal(resize_photo(photo, (1, 2)), np.full((1, 2, 3), 50))


def test_square_crop_surrounds_the_mask_and_stays_inside() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 20:30] = True
    assert square_crop(mask, margin=0.1) == (slice(9, 21), slice(19, 31))
    mask[:, :] = True
    assert square_crop(mask) == (slice(0, 40), slice(10, 50))
    assert square_crop(np.zeros((40, 60), bool)) == (slice(0, 40), slice(10, 50))
    corner = np.zeros((40, 60), bool)
    corner[0:10, 50:60] = True
    assert square_crop(corner, margin=0.1) == (slice(0, 12), slice(48, 60))


def test_data_uri_decodes_to_the_picture() -> None:
    picture = np.full((6, 9, 3), (10, 200, 90), np.uint8)
    uri = data_uri(picture)
    assert uri.startswith("data:image/webp;base64,")
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
    assert decoded.shape == (6, 9, 3)
    assert np.abs(decoded.astype(int) - picture).max() < 12


def test_data_uri_refuses_other_shapes() -> None:
    with pytest.raises(InputError, match=r"\(4, 5\).*RGB"):
        data_uri(np.zeros((4, 5), np.uint8))
