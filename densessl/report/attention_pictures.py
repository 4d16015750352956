"""Single pictures of what an encoder sees: maps in one scale of colours, heads in a colour each, components, points."""

from typing import TypeVar

import cv2
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from densessl.report.overlays import luminance
from densessl.structures import ImageArray

ScalarT = TypeVar("ScalarT", bound=np.generic)

MAP_COLOURS = "cividis"
"""Rises evenly in brightness: it reads the same in grey, and for every kind of colour blindness."""
HEAD_COLOURS = (  # Okabe and Ito's, without black; the number at the peak of each head tells them apart in grey
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
_MIXTURES = ((0.0, 0), (0.5, 255), (0.5, 0), (0.25, 255), (0.25, 0))
"""Share of white (255) or black (0) in the colours of each round."""
BACKGROUND = (28, 28, 28)
QUERY_COLOUR, RING_COLOUR = (255, 255, 255), (0, 0, 0)


def spread(values: NDArray[ScalarT], covered: tuple[float, float], size: tuple[int, int]) -> NDArray[ScalarT]:
    """Return grids (..., height, width) at a picture's size, each pixel with the value of the cell that it lies in.

    Args:
        values: the grids, in the last two axes.
        covered: (height, width) in pixels of the picture that the grid covers, at least the picture's.
        size: (height, width) of the picture; what sticks out is cropped off.
    """
    height, width = values.shape[-2:]
    rows = np.minimum(((np.arange(size[0]) + 0.5) / covered[0] * height).astype(np.int64), height - 1)
    columns = np.minimum(((np.arange(size[1]) + 0.5) / covered[1] * width).astype(np.int64), width - 1)
    return values[..., rows[:, None], columns[None, :]]


def spread_colours(rgb: NDArray[ScalarT], covered: tuple[float, float], size: tuple[int, int]) -> NDArray[ScalarT]:
    """Return the colours (height, width, 3) of a grid at a picture's size, as `spread`."""
    return np.moveaxis(spread(np.moveaxis(rgb, 2, 0), covered, size), 0, 2)


def map_picture(values: NDArray[np.floating], low: float | None = None, high: float | None = None) -> ImageArray:
    """Return a map (height, width) in colours, `low` dark blue and `high` yellow; by default its extremes."""
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    shares = (values.astype(np.float64) - low) / (high - low if high > low else 1)
    return (colormaps[MAP_COLOURS](shares.clip(0, 1))[..., :3] * 255).round().astype(np.uint8)


def heads_picture(photo: ImageArray, maps: NDArray[np.floating], masks: NDArray[np.bool_]) -> ImageArray:
    """Paint where each head looks in its own colour over the grey photograph, and its number where it looks most.

    A pixel in the masks of several heads has the colour of the one whose attention there is the largest share of its
    own maximum. A number stands in its own colour; a head whose pixels all have the colours of others has none.

    Args:
        photo: uint8 RGB (height, width, 3).
        maps, masks: (heads, height, width), attention and the pixels kept of it.
    """
    shares = maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-30)
    kept = np.where(masks, shares, -1.0)
    winner = kept.argmax(axis=0)  # (height, width)
    colours = np.array([head_colour(number) for number in range(len(maps))], dtype=np.float64)
    grey = np.repeat((0.5 * luminance(photo) + 100)[..., None], 3, axis=2)
    weight = np.where(masks.any(axis=0), 0.75, 0.0)[..., None]
    drawn = np.rint(weight * colours[winner] + (1 - weight) * grey).clip(0, 255).astype(np.uint8)
    for number, is_kept in enumerate(masks):
        is_shown = is_kept & (winner == number)
        if is_shown.any():
            _write_number(drawn, number, _peak(np.where(is_shown, kept[number], -1.0)))
    return drawn


def head_colour(number: int) -> tuple[int, int, int]:
    """Return the colour of a head, by its number from 0: `HEAD_COLOURS`, then lighter and darker ones, 35 in all."""
    turn, place = divmod(number, len(HEAD_COLOURS))
    share, other = _MIXTURES[turn % len(_MIXTURES)]
    red, green, blue = (round((1 - share) * part + share * other) for part in HEAD_COLOURS[place])
    return red, green, blue


def colours_picture(rgb: NDArray[np.floating], foreground: NDArray[np.bool_]) -> ImageArray:
    """Return colours (height, width, 3) in [0, 1] as a picture, near-black where there is background."""
    return np.where(foreground[..., None], np.rint(255 * rgb), BACKGROUND).astype(np.uint8)


def with_point(picture: ImageArray, point: tuple[float, float]) -> ImageArray:
    """Draw a ring around a point (x, y), white with a black edge."""
    drawn = picture.copy()
    centre = (round(point[0] - 0.5), round(point[1] - 0.5))
    radius = max(6, round(0.025 * max(picture.shape[:2])))
    for colour, width in ((RING_COLOUR, 4), (QUERY_COLOUR, 2)):
        cv2.circle(drawn, centre, radius, colour, width, cv2.LINE_AA)
    return drawn


def _peak(head: NDArray[np.floating]) -> tuple[int, int]:
    """Return the middle (x, y) of the cell with the highest value, the first in reading order of several."""
    is_highest = (head == head.max()).astype(np.uint8)
    _, labels, _, centres = cv2.connectedComponentsWithStats(is_highest, connectivity=4)
    x, y = centres[labels.flat[int(is_highest.argmax())]]
    return round(float(x)), round(float(y))


def _write_number(picture: ImageArray, number: int, place: tuple[int, int]) -> None:
    text, font = str(number), cv2.FONT_HERSHEY_SIMPLEX
    scale = max(0.4, max(picture.shape[:2]) / 480)
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    x = int(np.clip(place[0] - width // 2, 2, max(2, picture.shape[1] - width - 2)))
    y = int(np.clip(place[1] + height // 2, height + 2, picture.shape[0] - 2))
    for colour, thickness in ((RING_COLOUR, 4), (QUERY_COLOUR, 1)):
        cv2.putText(picture, text, (x, y), font, scale, colour, thickness, cv2.LINE_AA)
