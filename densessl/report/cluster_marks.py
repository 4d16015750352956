"""Colours and marks by which clusters are told apart: by everyone, and in black and white."""

from densessl.report.attention_pictures import HEAD_COLOURS

Colour = tuple[int, int, int]

MARKS = ("o", "s", "^", "D", "v", "P", "X")
"""Of matplotlib; as many as colours, so that the first seven clusters differ in both."""
INK, WHITE = (20, 20, 20), (255, 255, 255)


def cluster_colour(cluster: int) -> Colour:
    """Return the colour of a cluster, RGB: one of seven of Okabe and Ito, in turn."""
    return HEAD_COLOURS[cluster % len(HEAD_COLOURS)]


def cluster_mark(cluster: int) -> str:
    """Return the mark of a cluster; with its colour it is a pair of its own among 49 clusters."""
    return MARKS[(cluster + cluster // len(HEAD_COLOURS)) % len(MARKS)]


def ink_on(colour: Colour) -> Colour:
    """Return black or white, whichever has the higher contrast (WCAG 2.1) to a colour."""
    red, green, blue = (_linear(value / 255) for value in colour)
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else WHITE  # to which both are equal


def _linear(value: float) -> float:
    """Return the intensity in [0, 1] of an sRGB channel in [0, 1]."""
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)
