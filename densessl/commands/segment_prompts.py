"""Prompts as the command line gives them: points, a box, and the file of a mask prompt."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.data.images import IMAGE_SUFFIXES
from densessl.errors import InputError, MissingInputError
from densessl.files import file_sha256


@dataclass(frozen=True)
class GivenPrompt:
    """One prompt: points (n, 2), `(x, y)`, with labels (n,); a box (4,); logits of a mask (4 h, 4 w) and its file."""

    points: NDArray[np.float64] | None
    labels: NDArray[np.int64] | None
    box: NDArray[np.float64] | None
    mask: NDArray[np.float32] | None
    mask_file: Path | None

    @property
    def is_empty(self) -> bool:
        return self.points is None and self.box is None and self.mask is None

    def describe(self) -> dict[str, Any]:
        """Return the prompt as JSON holds it, the mask by its file."""
        return {
            "points": None if self.points is None else self.points.tolist(),
            "labels": None if self.labels is None else self.labels.tolist(),
            "box": None if self.box is None else self.box.tolist(),
            "has_mask": self.mask is not None,
            "mask": self.mask_file and str(self.mask_file.resolve()),
            "mask_sha256": self.mask_file and file_sha256(self.mask_file),
        }


def read_prompt(points: str | None, box: str | None, mask: Path | None) -> GivenPrompt:
    """Read a prompt from its flags.

    points: "x,y,label;x,y,label;...". box: "x0,y0,x1,y1". mask: file that `segment` wrote (low_resolution.npy), whose
    first mask is taken, or an array (4 h, 4 w) of anyone's.

    Raises:
        InputError: what is written in another way. MissingInputError: no such file.
    """
    placed, labels = (None, None) if points is None else _points(points)
    logits = None if mask is None else _mask(mask)
    return GivenPrompt(placed, labels, None if box is None else _box(box), logits, mask)


def _points(text: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows = []
    for word in text.split(";"):
        numbers = _numbers(word)
        if numbers is None or len(numbers) != 3:
            raise InputError(
                f"points holds {word.strip()!r}; give each point as x,y,label with label 1 (on the object) or 0 (off "
                'it), and ; between points, such as "310,220,1;40,35,0"'
            )
        if numbers[2] not in (0, 1):
            raise InputError(f"points gives {word.strip()!r} the label {numbers[2]:g}; it is 1 (on the object) or 0")
        rows.append(numbers)
    array = np.array(rows)
    return array[:, :2], array[:, 2].astype(np.int64)


def _box(text: str) -> NDArray[np.float64]:
    numbers = _numbers(text)
    if numbers is None or len(numbers) != 4:
        raise InputError(f"box is {text!r}; give x0,y0,x1,y1 in pixels, such as 80,60,400,310")
    return np.array(numbers)


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        return None


def _mask(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise MissingInputError(f"no mask prompt {path}; expected low_resolution.npy of an earlier call of `segment`")
    remedy = "give low_resolution.npy, which `segment` wrote beside its masks"
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"mask prompt {path} is a picture, and a mask prompt is logits; {remedy}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"mask prompt {path} is no array in NumPy's format; {remedy}") from error
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.kind not in "fiub"
        or array.ndim not in (2, 3)
        or not array.size
    ):
        raise InputError(f"mask prompt {path} is no array of numbers (4 h, 4 w); {remedy}")
    return array[0] if array.ndim == 3 else array
