"""Dynamic int8 quantisation of exported ONNX files, and what it costs in masks.

Weights of the linear layers are stored in 8 bits, their inputs are brought to 8 bits when they are computed, each by
its own range; no calibration images are needed. Convolutions stay as they are.
"""

import contextlib
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.promptable.onnx_predictor import OnnxMasks, OnnxPredictor
from densessl.structures import ImageArray

_LINEAR = ["MatMul", "Gemm"]
_TIMED_CLICKS = 5  # of each image, one by one
_PROMPTS_AT_A_TIME = 4  # whose masks are held at the size of a photograph, twice


@dataclass(frozen=True)
class QuantisedLoss:
    """What quantised files lose against those in fp32, on all masks of all prompts.

    quantised: which parts are. mean_iou: of the masks in both, empty ones in both counting as 1. logit_difference: mean
    absolute difference of logits, outside the padding. iou_difference: the same of predicted IoU.
    """

    quantised: tuple[str, ...]
    mean_iou: float
    logit_difference: float
    iou_difference: float


@dataclass(frozen=True)
class Int8Measurement:
    """Losses of each quantised part and of all; medians of milliseconds for an image and for a click, by their file.

    mean_logit: mean absolute logit in fp32, beside which the differences are to be seen.
    """

    losses: tuple[QuantisedLoss, ...]
    mean_logit: float
    encoder_ms: dict[str, float]
    prompt_ms: dict[str, float]
    num_images: int
    num_prompts: int


def quantise_onnx(source: Path, destination: Path) -> int:
    """Write an ONNX file with its linear layers in int8, each column of weights with a scale of its own.

    Returns:
        How many layers it holds in int8; with none of them, no file is left.

    Raises:
        InputError: a file that onnxruntime cannot quantise.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    has_data = source.with_name(source.name + ".data").is_file()
    try:
        with _quiet():
            quantize_dynamic(
                str(source),
                str(destination),
                op_types_to_quantize=_LINEAR,
                per_channel=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=has_data,
            )
    except Exception as error:  # of onnx or onnxruntime, in any of their own ways
        raise InputError(
            f"{source.name} cannot be quantised ({str(error).strip()[:300]}); leave quantise out"
        ) from error
    graph = onnx.load(str(destination), load_external_data=False).graph
    count = sum(node.op_type == "MatMulInteger" for node in graph.node)
    if count == 0:
        destination.unlink()
        destination.with_name(destination.name + ".data").unlink(missing_ok=True)
    return count


def measure_int8(
    folder: Path,
    parts: Sequence[str],
    images: Sequence[Callable[[], ImageArray]],
    points_per_side: int,
    num_threads: int = 0,
) -> Int8Measurement:
    """Compare the masks of a folder's int8 files with those of its fp32 files.

    Args:
        folder: with encoder.onnx, decoder.onnx, export.json and NAME.int8.onnx of each part.
        parts: which there are in int8: encoder, decoder or both.
        images: each returns an image when it is called.
        points_per_side: of the grid of clicks on each image; each click is a prompt of its own.
        num_threads: of onnxruntime; 0 is its own choice.
    """
    combined = list(dict.fromkeys([*((part,) for part in parts), tuple(parts)]))
    fp32 = OnnxPredictor(folder, num_threads)
    others = [OnnxPredictor(folder, num_threads, **{part: f"{part}.int8.onnx" for part in one}) for one in combined]
    encoding: dict[str, list[float]] = {}
    prompting: dict[str, list[float]] = {}
    sums, logits, num_prompts = [_Sums() for _ in combined], _Sums(), 0
    for read in images:
        image = read()
        points = _grid(image.shape[:2], points_per_side)
        _timed(encoding, "fp32", partial(fp32.set_image, image))
        _time_prompts(prompting, "fp32", fp32, points)
        encoded = {False: fp32}
        for name, predictor in zip(combined, others, strict=True):
            quantised = "encoder" in name
            if quantised in encoded:
                predictor.set_image_of(encoded[quantised])
            else:
                _timed(encoding, "int8", partial(predictor.set_image, image))
                encoded[quantised] = predictor
            _time_prompts(prompting, "int8" if "decoder" in name else "fp32", predictor, points)
        inside = fp32.inside_padding
        for start in range(0, len(points), _PROMPTS_AT_A_TIME):
            some = points[start : start + _PROMPTS_AT_A_TIME]
            expected = fp32.predict(some)
            logits.add([np.abs(expected.low_resolution[..., inside[0], inside[1]])])
            for predictor, one in zip(others, sums, strict=True):
                one.add(_losses(predictor.predict(some), expected, inside))
        num_prompts += len(points)
    losses = tuple(QuantisedLoss(name, *one.means()) for name, one in zip(combined, sums, strict=True))
    return Int8Measurement(losses, logits.means()[0], _medians(encoding), _medians(prompting), len(images), num_prompts)


def mask_overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU (...) of masks (..., height, width); of two empty ones it is 1."""
    union = (first | second).sum((-2, -1))
    return np.where(union == 0, 1.0, (first & second).sum((-2, -1)) / np.maximum(union, 1))


class _Sums:
    """Means of several quantities over values that come in parts."""

    def __init__(self) -> None:
        self._parts: list[list[tuple[float, int]]] = []

    def add(self, values: Sequence[NDArray[Any]]) -> None:
        self._parts.append([(float(value.sum(dtype=np.float64)), value.size) for value in values])

    def means(self) -> list[float]:
        return [sum(part[0] for part in one) / sum(part[1] for part in one) for one in zip(*self._parts, strict=True)]


def _losses(found: OnnxMasks, expected: OnnxMasks, inside: tuple[slice, slice]) -> list[NDArray[Any]]:
    difference = np.abs(found.low_resolution - expected.low_resolution)[..., inside[0], inside[1]]
    return [
        mask_overlap(found.masks, expected.masks),
        difference,
        np.abs(found.predicted_iou - expected.predicted_iou),
    ]


def _grid(size: tuple[int, ...], points_per_side: int) -> NDArray[np.float64]:
    """Return the centres (num, 1, 2), `(x, y)` pixels, of equal parts of an image of (height, width)."""
    shares = (np.arange(points_per_side) + 0.5) / points_per_side
    x, y = np.meshgrid(shares * size[1], shares * size[0])
    return np.stack([x.ravel(), y.ravel()], axis=1)[:, None]


def _time_prompts(
    seconds: dict[str, list[float]], name: str, predictor: OnnxPredictor, points: NDArray[np.float64]
) -> None:
    for point in points[:_TIMED_CLICKS]:
        _timed(seconds, name, partial(predictor.predict, point[None]))


def _timed(seconds: dict[str, list[float]], name: str, call: Callable[[], object]) -> None:
    started = time.perf_counter()
    call()
    seconds.setdefault(name, []).append(time.perf_counter() - started)


def _medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser from advising its own preprocessing, which has nothing to do for files of torch."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
