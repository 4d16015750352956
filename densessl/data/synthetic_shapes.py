"""Outlines of the synthetic object classes: random deformable polygons of unit area around the origin."""

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError

Outline = NDArray[np.float64]  # (points, 2), (x, y)


def random_outline(shape: str, generator: np.random.Generator) -> Outline:
    """Draw one outline of a shape family, randomly bent, stretched, sheared, mirrored and turned.

    Returns (points, 2) in (x, y) order, with area 1 and its centroid at the origin. Raises `InputError` for a
    shape that is not one of the object classes.
    """
    outline = _bend(_pose_free_outline(shape, generator), generator)
    stretch, shear = generator.uniform(0.88, 1.14), generator.uniform(-0.15, 0.15)
    mirror = generator.choice([-1.0, 1.0])
    angle = generator.uniform(0, 2 * np.pi)
    deform = np.array([[stretch * mirror, shear], [0.0, 1 / stretch]])
    return _to_unit_area(outline @ deform.T @ rotation(angle).T)


def rotation(angle_rad: float) -> NDArray[np.float64]:
    """Return the (2, 2) matrix that turns (x, y) points by an angle in radians."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cosine, -sine], [sine, cosine]])


def polygon_area(outline: Outline) -> float:
    """Return the area of a simple polygon (points, 2) by the shoelace formula."""
    x, y = outline.T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def _pose_free_outline(shape: str, generator: np.random.Generator) -> Outline:
    match shape:
        case "fish":
            return _fish(generator)
        case "star":
            return _star(generator)
        case "eel":
            return _eel(generator)
        case "crate":
            return _crate(generator)
        case "beetle":
            return _beetle(generator)
        case "cross":
            return _cross(generator)
    raise InputError(
        f"shape is {shape!r}, but the synthetic shapes are fish, star, eel, crate, beetle, cross; choose one of them"
    )


def _fish(generator: np.random.Generator) -> Outline:
    height, waist, fin = (
        generator.uniform(0.42, 0.58),
        generator.uniform(0.1, 0.15),
        generator.uniform(0.38, 0.5),
    )
    x = np.linspace(-1, 0.5, 16)
    body = height * np.sin(np.pi * np.clip((x + 1) / 1.6, 0, 1)) ** 0.75
    top_x = np.concatenate([x, [0.62, 1.0, 0.85]])
    top_y = np.concatenate([np.maximum(body, waist * (x > 0)), [waist, fin, 0.0]])
    lower = np.stack([top_x[-2:0:-1], -top_y[-2:0:-1]], axis=1)
    return np.concatenate([np.stack([top_x, top_y], axis=1), lower])


def _star(generator: np.random.Generator) -> Outline:
    num_points = int(generator.integers(5, 7))
    radius = np.tile([1.0, generator.uniform(0.42, 0.52)], num_points)
    radius *= generator.uniform(0.92, 1.08, size=radius.size)
    return _cut_corners(_polar(np.arange(2 * num_points) * np.pi / num_points, radius), 0.12)


def _eel(generator: np.random.Generator) -> Outline:
    width, amplitude = generator.uniform(0.2, 0.26), generator.uniform(0.1, 0.3)
    phase, waves = generator.uniform(0, 2 * np.pi), generator.uniform(2.0, 3.6)
    x = np.linspace(-1, 1, 28)
    centre = np.stack([x, amplitude * np.sin(waves * x + phase)], axis=1)
    direction = np.gradient(centre, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    half = (width * np.sqrt(np.clip(1 - np.abs(x) ** 6, 0.0, None)) * (1 - 0.25 * x))[:, None]
    return np.concatenate([centre + half * normal, (centre - half * normal)[-2:0:-1]])


def _crate(generator: np.random.Generator) -> Outline:
    aspect = generator.uniform(0.72, 1.0)
    corners = np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]])
    return _cut_corners(corners + generator.uniform(-0.14, 0.14, size=(4, 2)), 0.06)


def _beetle(generator: np.random.Generator) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 1 + generator.uniform(0.0, 0.07) * np.cos(3 * angle + generator.uniform(0, 2 * np.pi))
    return _polar(angle, radius) * [1.0, generator.uniform(0.68, 0.92)]


def _cross(generator: np.random.Generator) -> Outline:
    across, up = generator.uniform(0.27, 0.38, size=2)
    reach = generator.uniform(0.85, 1.1, size=4)
    corners = [
        [-across, -reach[0]], [across, -reach[0]], [across, -up],
        [reach[1], -up], [reach[1], up], [across, up],
        [across, reach[2]], [-across, reach[2]], [-across, up],
        [-reach[3], up], [-reach[3], -up], [-across, -up],
    ]  # fmt: skip
    return _cut_corners(np.array(corners), 0.06)


def _polar(angle: NDArray[np.float64], radius: NDArray[np.float64]) -> Outline:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cut_corners(outline: Outline, share: float) -> Outline:
    """Round corners by cutting them twice (Chaikin), the first taking `share` off every edge's ends."""
    for cut in (share, 0.25):
        following = np.roll(outline, -1, axis=0)
        start, end = (1 - cut) * outline + cut * following, cut * outline + (1 - cut) * following
        outline = np.stack([start, end], axis=1).reshape(-1, 2)
    return outline


def _bend(outline: Outline, generator: np.random.Generator) -> Outline:
    """Displace a densely sampled outline by a smooth wave along each axis."""
    dense = _resample(outline, 120)
    amplitude = generator.uniform(0.0, 0.07, size=2)
    frequency, phase = generator.uniform(1.5, 3.0, size=2), generator.uniform(0, 2 * np.pi, size=2)
    return dense + amplitude * np.sin(frequency * dense[:, ::-1] + phase)


def _resample(outline: Outline, num_points: int) -> Outline:
    closed = np.concatenate([outline, outline[:1]])
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    wanted = np.linspace(0, travelled[-1], num_points, endpoint=False)
    return np.stack([np.interp(wanted, travelled, closed[:, axis]) for axis in range(2)], axis=1)


def _to_unit_area(outline: Outline) -> Outline:
    x, y = outline.T
    cross = x * np.roll(y, -1) - y * np.roll(x, -1)
    centroid = np.sum((outline + np.roll(outline, -1, axis=0)) * cross[:, None], axis=0) / (3 * np.sum(cross))
    return (outline - centroid) / np.sqrt(polygon_area(outline))
