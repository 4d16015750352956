"""Images and prompts as a user gives them, checked; without torch, for the predictor of exported files too."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from densessl.errors import InputError

NOT_A_POINT, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
"""What a point is: a filling without a place, a click off or on the object, or a corner of its box."""

MASK_SCALE = 4
"""Cells of a mask prompt, and of the masks that the decoder gives, along one cell of the image embedding."""


class PromptedImage(Protocol):
    """What prompts must fit: (height, width) of the image in pixels, and of its embedding in cells."""

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def grid(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Prompts:
    """Prompts for one image, in its pixels; what is given is given for every prompt.

    points: float64 (num_prompts, num_points, 2), `(x, y)`. labels: int64 (num_prompts, num_points), 1 on the object, 0
    off it, -1 for no point (so that prompts of fewer points fit the array; as published, such a filling is not
    quite without effect). boxes: float64 (num_prompts, 4), `(x0, y0, x1, y1)`. masks: float32
    (num_prompts, 4 h, 4 w), logits, low-resolution masks of an earlier prediction for the same image size.
    """

    points: NDArray[np.float64] | None
    labels: NDArray[np.int64] | None
    boxes: NDArray[np.float64] | None
    masks: NDArray[np.float32] | None

    def __len__(self) -> int:
        return next(len(part) for part in (self.points, self.boxes, self.masks) if part is not None)


def part_of_prompts(prompts: Prompts, start: int, stop: int) -> Prompts:
    """Return the prompts from number `start` to `stop`, exclusive; past the last there are none."""
    wanted = slice(start, stop)
    return Prompts(
        points=None if prompts.points is None else prompts.points[wanted],
        labels=None if prompts.labels is None else prompts.labels[wanted],
        boxes=None if prompts.boxes is None else prompts.boxes[wanted],
        masks=None if prompts.masks is None else prompts.masks[wanted],
    )


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise `InputError` for an array that is no uint8 RGB image (height, width, 3)."""
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"image is a {type(image).__module__}.{type(image).__name__}; a promptable model takes a NumPy array, "
            'uint8 RGB (height, width, 3), such as np.asarray(PIL.Image.open(path).convert("RGB")) or tensor.numpy()'
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            f"image has shape {image.shape} and type {image.dtype}; a promptable model takes uint8 RGB "
            "(height, width, 3) with at least one pixel: bring values to 0-255, channels to the end, grey to three "
            "equal channels, and leave alpha out"
        )


def check_prompts(
    points: ArrayLike | None,
    labels: ArrayLike | None,
    boxes: ArrayLike | None,
    mask: ArrayLike | None,
    frame: PromptedImage,
) -> Prompts:
    """Bring prompts into their arrays, those of one prompt into arrays of one.

    Args:
        points: (num_points, 2) of one prompt, or (num_prompts, num_points, 2); x from 0 to below the width.
        labels: (num_points,) or (num_prompts, num_points); without them all points are on the object.
        boxes: (4,) or (num_prompts, 4), corners within the image, upper bound exclusive.
        mask: (4 h, 4 w) or (num_prompts, 4 h, 4 w).
        frame: of the image (`densessl.promptable.framing.Frame`).

    Raises:
        InputError: no prompt, shapes that do not fit each other, values out of range.
    """
    if points is None and labels is not None:
        raise InputError("labels are given without points; give the points that they label, or leave them out")
    checked = Prompts(
        None if points is None else _points(points, frame.image_size),
        None,
        None if boxes is None else _boxes(boxes, frame.image_size),
        None if mask is None else _masks(mask, frame.grid),
    )
    given = {
        name: len(part)
        for name, part in (("points", checked.points), ("boxes", checked.boxes), ("mask", checked.masks))
        if part is not None
    }
    if not given:
        raise InputError("no prompt is given; give points, boxes or a mask")
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name} of {count}" for name, count in given.items())
        raise InputError(f"prompts of different numbers are given: {listed}; give each for all prompts, or split them")
    if 0 in given.values():
        raise InputError(f"the prompts given ({', '.join(given)}) are of length 0; give at least one")
    if checked.points is None:
        return checked
    return Prompts(checked.points, _labels(labels, checked.points), checked.boxes, checked.masks)


def _points(points: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float64]:
    height, width = image_size
    array = _numbers(points, "points")
    if array.ndim not in (2, 3) or array.shape[-1] != 2 or array.shape[-2] == 0:
        raise InputError(
            f"points have shape {array.shape}; give (num_points, 2) of one prompt or (num_prompts, num_points, 2), "
            "each (x, y), at least one point"
        )
    array = array[None] if array.ndim == 2 else array
    x, y = array[..., 0], array[..., 1]
    outside = ~((x >= 0) & (x < width) & (y >= 0) & (y < height))
    if outside.any():
        place = array[outside][0]
        raise InputError(
            f"point ({place[0]:g}, {place[1]:g}) lies outside the image of width {width} and height {height}; x must "
            f"be in [0, {width}) and y in [0, {height}), in pixels of the image as it was given"
        )
    return array


def _labels(labels: ArrayLike | None, points: NDArray[np.float64]) -> NDArray[np.int64]:
    shape = points.shape[:2]
    if labels is None:
        return np.full(shape, FOREGROUND, dtype=np.int64)
    array = _numbers(labels, "labels")
    array = array[None] if array.ndim == 1 and shape[0] == 1 else array
    if array.shape != shape:
        raise InputError(
            f"labels have shape {np.shape(labels)}, points {points.shape}; give one label for each point: {shape}"
            + (f" or {shape[1:]}" if shape[0] == 1 else "")
        )
    known = (NOT_A_POINT, BACKGROUND, FOREGROUND)
    if not np.isin(array, known).all():
        value = array[~np.isin(array, known)][0]
        raise InputError(f"label {value:g} is none of 1 (on the object), 0 (off it), -1 (no point); give one of these")
    if (array == NOT_A_POINT).all(axis=1).any():
        raise InputError("a prompt has labels of -1 alone, so no point; give it one, or leave it out")
    return array.astype(np.int64)


def _boxes(boxes: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float64]:
    height, width = image_size
    array = _numbers(boxes, "boxes")
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"boxes have shape {np.shape(boxes)}; give (4,) or (num_prompts, 4), each (x0, y0, x1, y1)")
    for x0, y0, x1, y1 in array:
        text = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not (x0 < x1 and y0 < y1):
            raise InputError(f"{text} is empty; give (x0, y0, x1, y1) in pixels with x0 < x1 and y0 < y1")
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            raise InputError(
                f"{text} reaches out of the image of width {width} and height {height}; cut it to the image"
            )
    return array


def _masks(mask: ArrayLike, grid: tuple[int, int]) -> NDArray[np.float32]:
    wanted = (MASK_SCALE * grid[0], MASK_SCALE * grid[1])
    array = _numbers(mask, "mask")
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1:] != wanted:
        raise InputError(
            f"mask prompt has shape {np.shape(mask)}; give logits of {wanted} or (num_prompts, {wanted[0]}, "
            f"{wanted[1]}), such as low_resolution[:, 0] of an earlier prediction for this image"
        )
    if np.asarray(mask).dtype.kind in "bu":
        raise InputError(
            f"mask prompt is {np.asarray(mask).dtype}, a mask itself and no logits; give low_resolution of an earlier "
            "prediction, or logits, positive on the object, such as where(mask, 10.0, -10.0)"
        )
    largest = np.abs(array).max(initial=0)
    if largest > np.finfo(np.float32).max:
        raise InputError(f"mask prompt holds values up to {largest:.1e}, more than float32 can; give logits")
    return array.astype(np.float32)


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} are no array of numbers ({error}); give as many for every prompt") from error
    if not np.isfinite(array).all():
        raise InputError(f"{name} hold values that are not finite; give numbers")
    return array
