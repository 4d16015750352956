"""Masks from prompts by exported ONNX files: `OnnxPredictor(folder).set_image(image).predict(points=...)`.

Needs numpy, Pillow, OpenCV and onnxruntime, no torch. It frames images and restores masks as `Predictor` does
(`densessl.promptable.framing`), by the numbers in export.json; tests hold the two to the same masks.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from densessl.errors import InputError
from densessl.files import read_json
from densessl.promptable.prompts import (
    BOTTOM_RIGHT,
    MASK_SCALE,
    NOT_A_POINT,
    TOP_LEFT,
    Prompts,
    check_image,
    check_prompts,
)

RECORD = "export.json"


@dataclass(frozen=True)
class OnnxMasks:
    """All masks of each prompt, in the decoder's order: the single one, then those of an ambiguous prompt.

    masks: bool (num_prompts, num_masks, height, width), of the image's size. predicted_iou: float32
    (num_prompts, num_masks). low_resolution: float32 (num_prompts, num_masks, 4 h, 4 w), logits.
    """

    masks: NDArray[np.bool_]
    predicted_iou: NDArray[np.float32]
    low_resolution: NDArray[np.float32]


@dataclass(frozen=True)
class _Frame:
    """Where an image of (height, width) lies: scaled, in the top left corner of a frame that is padded.

    grid: height and width of its embedding.
    """

    image_size: tuple[int, int]
    scaled_size: tuple[int, int]
    padded_size: tuple[int, int]
    grid: tuple[int, int]

    @property
    def scale(self) -> NDArray[np.float64]:
        """Pixels of the frame for each of the image, `(x, y)`."""
        (height, width), (scaled_height, scaled_width) = self.image_size, self.scaled_size
        return np.array([scaled_width / width, scaled_height / height])


class OnnxPredictor:
    """Keeps the embedding of an image, so that each further prompt costs only the decoder."""

    def __init__(
        self, folder: Path | str, num_threads: int = 0, encoder: str = "encoder.onnx", decoder: str = "decoder.onnx"
    ) -> None:
        """Open the files of a folder that `export_promptable` wrote.

        Args:
            folder: with export.json.
            num_threads: for each part; 0 is onnxruntime's own choice.
            encoder: file name; encoder.int8.onnx is the quantised one.
            decoder: the same.

        Raises:
            InputError: no such files, damaged ones, files of an earlier version, or onnxruntime is not installed.
        """
        folder = Path(folder)
        record = read_json(folder / RECORD, "the record of `export_promptable`")
        try:
            self._size_px, self._padding, self._stride = (record[key] for key in ("size_px", "padding", "stride"))
            self._mean, self._std = (np.array(record[key], dtype=np.float32) for key in ("mean", "std"))
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / RECORD} is no record of `export_promptable`: no {error}") from error
        self._encoder_path, self._num_threads = _existing(folder / encoder), num_threads
        self._decoder = open_session(folder / decoder, num_threads)
        if "image" not in {value.name for value in self._decoder.get_inputs()}:
            raise InputError(f"{folder / decoder} is of an earlier version; write it again with `export_promptable`")
        self._embedding = np.zeros((0, 0, 0, 0), dtype=np.float32)
        self._frame: _Frame | None = None

    def set_image(self, image: NDArray[np.uint8]) -> "OnnxPredictor":
        """Encode an image, uint8 RGB (height, width, 3); returns this predictor.

        Raises:
            InputError: no such image, or a damaged encoder file.
        """
        check_image(image)
        frame = self._frame_of((image.shape[0], image.shape[1]))
        (height, width), (padded_height, padded_width) = frame.scaled_size, frame.padded_size
        scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.zeros((1, 3, padded_height, padded_width), dtype=np.float32)
        pixels[0, :, :height, :width] = ((np.asarray(scaled) - self._mean) / self._std).transpose(2, 0, 1)
        (self._embedding,) = self._encoder.run(None, {"images": pixels})
        self._frame = frame
        return self

    def set_image_of(self, other: "OnnxPredictor") -> "OnnxPredictor":
        """Take the image of a predictor with the same encoder, as it encoded it; returns this predictor.

        Raises:
            InputError: a predictor with another encoder file, or without an image.
        """
        if other._encoder_path != self._encoder_path:
            raise InputError(
                f"the image was encoded by {other._encoder_path}, not by {self._encoder_path}; call set_image(image)"
            )
        self._frame, self._embedding = other._set_frame(), other._embedding
        return self

    def predict(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> OnnxMasks:
        """Return all masks of one or several prompts on the image that was set.

        Args:
            points: `(x, y)` pixels, (num_points, 2) of one prompt or (num_prompts, num_points, 2).
            labels: shaped as the points, 1 on the object, 0 off it, -1 no point; without them all are 1.
            boxes: `(x0, y0, x1, y1)` pixels, (4,) or (num_prompts, 4).
            mask: `low_resolution` logits of an earlier prediction, (4 h, 4 w) or (num_prompts, 4 h, 4 w).

        Raises:
            InputError: no image is set, no prompt, or one that does not fit the image; as `Predictor` says it.
        """
        frame, embedding = self._set_frame(), self._embedding
        prompts = check_prompts(points, labels, boxes, mask, frame)
        places, kinds = _labelled_points(prompts)
        num_prompts = len(prompts)
        masks = np.zeros((num_prompts, 1, *(MASK_SCALE * side for side in frame.grid)), dtype=np.float32)
        if prompts.masks is not None:
            masks[:, 0] = prompts.masks
        inputs = {
            "image_embedding": embedding,
            "points": (places * frame.scale).astype(np.float32),
            "labels": kinds,
            "masks": masks,
            "has_mask": np.full(num_prompts, prompts.masks is not None),
            "image": np.zeros(num_prompts, dtype=np.int64),
        }
        logits, predicted_iou = self._decoder.run(None, inputs)
        return OnnxMasks(_masks_of(logits, frame), predicted_iou, logits)

    @property
    def inside_padding(self) -> tuple[slice, slice]:
        """Rows and columns of low-resolution masks in which the image that was set lies."""
        (height, width), cell_px = self._set_frame().scaled_size, self._stride // MASK_SCALE
        return slice(0, -(-height // cell_px)), slice(0, -(-width // cell_px))

    @cached_property
    def _encoder(self) -> Any:
        """Opened for the first image that this predictor encodes itself."""
        return open_session(self._encoder_path, self._num_threads)

    def _set_frame(self) -> _Frame:
        if self._frame is None:
            raise InputError("no image is set; call set_image(image) first")
        return self._frame

    def _frame_of(self, size: tuple[int, int]) -> _Frame:
        scale = self._size_px / max(size)
        height, width = (max(1, int(side * scale + 0.5)) for side in size)
        padded = (self._size_px, self._size_px)
        if self._padding != "square":
            padded = (height + -height % self._stride, width + -width % self._stride)
        return _Frame(size, (height, width), padded, (padded[0] // self._stride, padded[1] // self._stride))


def _labelled_points(prompts: Prompts) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Bring clicks and corners of boxes into one list for each prompt: (num_prompts, n, 2), and labels.

    In the order of `densessl.promptable.prompt_encoder.point_prompts`.
    """
    num_prompts = len(prompts)
    places, kinds = [np.zeros((num_prompts, 0, 2))], [np.zeros((num_prompts, 0), dtype=np.int64)]
    if prompts.points is not None and prompts.labels is not None:
        places.append(prompts.points)
        kinds.append(prompts.labels)
        if prompts.boxes is None:
            places.append(np.zeros((num_prompts, 1, 2)))
            kinds.append(np.full((num_prompts, 1), NOT_A_POINT))
    if prompts.boxes is not None:
        places.append(prompts.boxes.reshape(num_prompts, 2, 2))
        kinds.append(np.tile([TOP_LEFT, BOTTOM_RIGHT], (num_prompts, 1)))
    return np.concatenate(places, axis=1), np.concatenate(kinds, axis=1)


def open_session(path: Path, num_threads: int) -> Any:
    """Open an ONNX file on the CPU; onnxruntime says errors alone.

    Its plan of memory is for inputs that are always alike; here it would hold what an encoder takes twice over.

    Args:
        path: of the file.
        num_threads: 0 is onnxruntime's own choice.

    Raises:
        InputError: no such file, one that onnxruntime cannot read, or onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError('onnxruntime is not installed: pip install "densessl[export]"') from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = num_threads
    options.enable_mem_pattern = False
    file = str(_existing(path))
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes of errors have no other base
        raise InputError(f"{path} cannot be opened by onnxruntime ({error}); export it again") from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"no file {path}; `export_promptable` with formats onnx writes it (int8: quantise int8)")
    return path


def _masks_of(logits: NDArray[np.float32], frame: _Frame) -> NDArray[np.bool_]:
    """Bring logits (num_prompts, num_masks, 4 h, 4 w) to the frame, cut off its padding, bring them to the image, and
    return where they are above 0; one mask at a time is held as logits of the image's size.
    """
    height, width = frame.scaled_size
    masks = np.empty((*logits.shape[:2], *frame.image_size), dtype=np.bool_)
    for place in np.ndindex(*logits.shape[:2]):
        in_frame = cv2.resize(logits[place], frame.padded_size[::-1], interpolation=cv2.INTER_LINEAR)
        cut = np.ascontiguousarray(in_frame[:height, :width])
        masks[place] = cv2.resize(cut, frame.image_size[::-1], interpolation=cv2.INTER_LINEAR) > 0
    return masks
