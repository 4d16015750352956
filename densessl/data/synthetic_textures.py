"""Textures of the synthetic scenes: a pattern per object class, smooth noise, cluttered backgrounds."""

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError

Field = NDArray[np.float32]  # (height, width)
Canvas = NDArray[np.float32]  # (height, width, 3), RGB, 0-1


def class_pattern(name: str, u: Field, v: Field, generator: np.random.Generator) -> Field:
    """Evaluate a pattern family at texture coordinates `u`, `v` (height, width), one unit being one period.

    Returns values in 0-1, (height, width), with soft edges. Raises `InputError` for an unknown name.
    """
    match name:
        case "stripes":
            return _soft(np.sin(2 * np.pi * u), 2.5)
        case "checks":
            return _soft(np.sin(np.pi * u) * np.sin(np.pi * v), 4)
        case "dots":
            return _soft(generator.uniform(0.3, 0.36) - _distance_to_lattice(u, v), 8)
        case "rings":
            return _soft(np.sin(2 * np.pi * np.hypot(u, v)), 2.5)
        case "scales":
            return _scales(u, v, generator.uniform(0.09, 0.12))
        case "zigzag":
            return _soft(np.sin(2 * np.pi * (v + generator.uniform(0.8, 1.1) * np.abs((0.6 * u) % 1 - 0.5))), 2.5)
    raise InputError(
        f"pattern is {name!r}, but the synthetic patterns are stripes, checks, dots, rings, scales, "
        "zigzag; choose one of them"
    )


def smooth_noise(shape: tuple[int, ...], num_cells: float, generator: np.random.Generator) -> Field:
    """Draw smooth noise (height, width), mean about 0, deviation about 1, `num_cells` along the long side."""
    height, width = shape
    cell = max(height, width) / num_cells
    grid_shape = (int(np.ceil(height / cell)) + 3, int(np.ceil(width / cell)) + 3)
    grid = generator.standard_normal(grid_shape).astype(np.float32)
    step = np.float32(1 / cell)
    onto_grid = np.array([[step, 0, 1], [0, step, 1]], dtype=np.float32)
    return cv2.warpAffine(
        grid,
        onto_grid,
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )


MEADOW = np.array([0.46, 0.64, 0.37])
"""Colour that all backgrounds vary around, so that a scene is not told by the colour of its background."""


def random_background(shape: tuple[int, int], generator: np.random.Generator) -> Canvas:
    """Paint a cluttered background (height, width, 3): gradients, noise octaves, stripes, blobs, debris.

    The values are roughly 0-1 and are not clipped.
    """
    height, width = shape
    unit_y, unit_x = np.mgrid[:height, :width].astype(np.float32) / max(shape)
    base = MEADOW * generator.uniform(0.8, 1.2) + generator.normal(0, 0.02, size=3)
    angle = generator.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * (unit_x - 0.5) + np.sin(angle) * (unit_y - 0.5)
    canvas = _tint(base, generator.normal(0, 0.05, size=3), ramp)
    if generator.random() < 0.4:
        _add_ground(canvas, ramp, generator)
    _add_octaves(canvas, generator)
    if generator.random() < 0.5:
        _add_faint_stripes(canvas, unit_x, unit_y, generator)
    if generator.random() < 0.6:
        blobs = _soft(smooth_noise(shape, generator.uniform(4, 9), generator) - 0.9, 2)
        canvas += blobs[..., None] * _random_tint(generator, 0.09)
    _add_debris(canvas, generator)
    return canvas


def _soft(values: NDArray[np.floating], sharpness: float) -> Field:
    return np.clip(0.5 + sharpness * values, 0, 1).astype(np.float32)


def _distance_to_lattice(u: Field, v: Field) -> Field:
    """Distance to the nearest point of a hexagonal lattice with rows one unit times sqrt(3)/2 apart."""
    row_height = np.float32(np.sqrt(3) / 2)

    def to_rows(shift: float) -> Field:
        du = (u + 0.5 * shift) % 1 - 0.5
        dv = (v / row_height + shift) % 2 - 1
        return np.hypot(du, dv * row_height)

    return np.minimum(to_rows(0.0), to_rows(1.0))


def _scales(u: Field, v: Field, rim: float) -> Field:
    """Overlapping discs in shifted rows half a unit apart: 1 inside the topmost disc, 0 on its rim."""
    radius = 0.56
    below = np.floor(2 * v)
    topmost = np.full(u.shape, radius, dtype=np.float32)  # distance to the centre of the topmost disc
    is_free = np.ones(u.shape, dtype=bool)
    for ahead in (1, 0, -1):  # each row lies on top of the one before it
        row = below + ahead
        distance = np.hypot((u + 0.5 * (row % 2)) % 1 - 0.5, v - 0.5 * row)
        covers = is_free & (distance < radius)
        topmost[covers] = distance[covers]
        is_free &= ~covers
    return _soft(radius - 1.5 * rim - topmost, 7)


def _tint(base: NDArray[np.float64], direction: NDArray[np.float64], amount: Field) -> Canvas:
    return (base + amount[..., None] * (2 * direction)).astype(np.float32)


def _random_tint(generator: np.random.Generator, strength: float) -> NDArray[np.float32]:
    """Draw a colour direction: mostly lightness of either sign, with some hue."""
    lightness = generator.choice([-1, 1]) * generator.uniform(0.5, 1.2)
    return (strength * (lightness + generator.normal(0, 0.25, size=3))).astype(np.float32)


def _add_ground(canvas: Canvas, ramp: Field, generator: np.random.Generator) -> None:
    """Split the scene along a wavy line, as ground and wall."""
    waves = np.float32(0.04) * smooth_noise(ramp.shape, generator.uniform(2, 6), generator)
    side = _soft(ramp + waves - np.float32(generator.uniform(-0.15, 0.15)), 60)
    canvas += side[..., None] * _random_tint(generator, 0.06)


def _add_octaves(canvas: Canvas, generator: np.random.Generator) -> None:
    shape = canvas.shape[:2]
    strength, roughness = generator.uniform(0.03, 0.05), generator.uniform(0.6, 0.95)
    for octave, num_cells in enumerate((5, 11, 23, 48)):
        noise = smooth_noise(shape, num_cells * generator.uniform(0.8, 1.25), generator)
        canvas += noise[..., None] * _random_tint(generator, strength * roughness**octave)


def _add_faint_stripes(canvas: Canvas, unit_x: Field, unit_y: Field, generator: np.random.Generator) -> None:
    angle, period = generator.uniform(0, np.pi), generator.uniform(0.1, 0.3)
    warp = np.float32(0.35 * period) * smooth_noise(unit_x.shape, 4, generator)
    across = np.cos(angle) * unit_x + np.sin(angle) * unit_y + warp
    wave = np.sin(across * np.float32(2 * np.pi / period)).astype(np.float32)
    canvas += wave[..., None] * _random_tint(generator, 0.035)


def _add_debris(canvas: Canvas, generator: np.random.Generator) -> None:
    """Scatter small shards and twigs that belong to no class, in colours near that of the ground below."""
    height, width = canvas.shape[:2]
    size_px = max(height, width)
    for _ in range(int(generator.integers(12, 36))):
        x, y = generator.uniform(0, width), generator.uniform(0, height)
        ground = canvas[min(int(y), height - 1), min(int(x), width - 1)]
        colour = (ground + _random_tint(generator, generator.uniform(0.08, 0.26))).tolist()
        num_corners = int(generator.integers(3, 7))
        angle = np.sort(generator.uniform(0, 2 * np.pi, size=num_corners))
        radius = generator.uniform(0.01, 0.042) * size_px
        flatness = generator.choice([1.0, 0.6, 0.2])
        shard = np.stack([radius * np.cos(angle), flatness * radius * np.sin(angle)], axis=1)
        turn = generator.uniform(0, np.pi)
        cosine, sine = np.cos(turn), np.sin(turn)
        corners = shard @ np.array([[cosine, sine], [-sine, cosine]]) + [x, y]
        cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], colour, lineType=cv2.LINE_8, shift=4)
