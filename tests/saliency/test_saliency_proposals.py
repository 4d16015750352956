"""Proposals: settings that are refused, connected parts by hand, and the rules of rejection."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.saliency import proposals as module
from densessl.saliency.proposals import SaliencySettings, connected_parts, propose
from densessl.structures import ImageProposals, Rejection


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, r"'magic'.*fused, robust_background"),
        ({"refine": "crf"}, r"'crf'.*colour_models, guided_filter, bilateral_solver, dense_crf, none"),
        ({"threshold": 1.0}, r"threshold 1.0.*0\.5 is usual"),
        ({"threshold": float("nan")}, r"threshold nan"),
        ({"min_area": -0.1}, r"min_area -0.1"),
        ({"min_area": 0.5, "max_area": 0.4}, r"min_area 0.5 and max_area 0.4.*0.01 and 0.99"),
        ({"max_area": 1.5}, r"max_area 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SaliencySettings(**arguments)


def test_parts_by_hand():
    soft = np.zeros((4, 6), np.float32)
    soft[0, 0], soft[1, 1] = 0.6, 0.8  # touch at a corner: one part
    soft[2:4, 3:6] = 1.0
    soft[0, 5] = 0.9  # one pixel of 24: under 5 %
    soft[3, 0] = 0.5  # not above the threshold
    large, small = connected_parts(soft, 0.5, 0.05)
    assert (large.area_px, large.box, large.score, large.touches_border) == (6, (3, 2, 6, 4), 1.0, True)
    assert (small.area_px, small.box, small.touches_border) == (2, (0, 0, 2, 2), True)
    assert small.score == pytest.approx(0.7)
    np.testing.assert_array_equal(np.argwhere(small.mask), [[0, 0], [1, 1]])


def test_a_part_inside_does_not_touch_the_border():
    soft = np.zeros((5, 5), np.float32)
    soft[1:4, 1:4] = 1
    (part,) = connected_parts(soft, 0.5, 0)
    assert not part.touches_border


def given_soft_map(monkeypatch, soft):
    monkeypatch.setattr(module, "estimate", lambda image, settings, given: soft)
    return propose(np.zeros((*soft.shape, 3), np.uint8), "cats/1", SaliencySettings())


def test_small_parts_are_left_out_of_the_foreground(monkeypatch):
    soft = np.zeros((20, 20), np.float32)
    soft[2:8, 2:8] = 0.9
    soft[15, 15] = 0.9
    result = given_soft_map(monkeypatch, soft)
    assert isinstance(result, ImageProposals)
    assert result.foreground.sum() == 36
    assert len(result.proposals) == 1


def test_too_little_foreground_is_rejected(monkeypatch):
    soft = np.zeros((20, 20), np.float32)
    soft[3, 3] = 1
    result = given_soft_map(monkeypatch, soft)
    assert isinstance(result, Rejection)
    assert result.stem == "cats/1"
    assert "at least 1.00%" in result.reason
    assert "0.25%" in result.reason


def test_too_much_foreground_is_rejected(monkeypatch):
    result = given_soft_map(monkeypatch, np.ones((20, 20), np.float32))
    assert result == Rejection("cats/1", "foreground covers 100.00% of the image, more than 99.00%")


@pytest.mark.parametrize("shape", [(1, 1), (60, 80)])
def test_a_plain_image_is_rejected_with_a_reason(shape):
    result = propose(np.full((*shape, 3), 120, np.uint8), "plain", SaliencySettings())
    assert isinstance(result, Rejection)
    assert "foreground" in result.reason


@pytest.mark.parametrize(
    ("shape", "kind"), [((4, 4), np.uint8), ((4, 4, 3), float), ((0, 4, 3), np.uint8), ((4, 4, 4), np.uint8)]
)
def test_what_is_no_rgb_image_is_refused(shape, kind):
    with pytest.raises(InputError, match="takes uint8 RGB"):
        propose(np.zeros(shape, kind), "a", SaliencySettings())
