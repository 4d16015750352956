"""The stage `export_promptable`: a promptable model as ONNX and torch.export files, each compared with it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.export_folder import ExportFolder, claimed_export_folder
from densessl.commands.promptable_network import OpenedModel, PromptableSource, open_promptable_model
from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.synthetic import render_synthetic_image
from densessl.errors import InputError
from densessl.promptable.export_comparison import TOLERANCE, ComparedSize, compare_part
from densessl.promptable.framing import MEAN, STD
from densessl.promptable.int8_export import Int8Measurement, measure_int8, quantise_onnx
from densessl.promptable.model_parts import ExportSizes, ModelPart, decoder_part, encoder_part
from densessl.promptable.part_export import (
    EXTRA,
    SUFFIXES,
    ExportFormat,
    check_onnx_tools,
    is_installed,
    open_onnx,
    open_program,
    trace_part,
    write_onnx,
    write_program,
)
from densessl.promptable.promptable_settings import STRIDE
from densessl.structures import ImageArray
from densessl.training.run_folder import environment_record, plain

_NUM_SCENES = 8
_SCENE_PX = 512
_POINTS_PER_SIDE = 4

ImageReader = Callable[[], ImageArray]


@dataclass(frozen=True)
class PromptableExport:
    """What was written, and what was measured.

    compared: of each file the sizes at which it was compared with the model, none where onnxruntime is not installed.
    int8: what the int8 files lose, where there are any.
    """

    out: Path
    compared: dict[str, tuple[ComparedSize, ...]]
    int8: Int8Measurement | None


@checked_arguments
def export_promptable(
    weights: Path,
    out: Path,
    formats: str | list[str] = "onnx,torch_export",
    sizes: ExportSizes = "any",
    quantise: Literal["int8"] | None = None,
    images: Path | None = None,
    points_per_side: int | None = None,
) -> PromptableExport:
    """Write a promptable model as encoder.onnx, decoder.onnx, encoder.pt2 and decoder.pt2, each compared with it.

    One file serves any number of images, prompts and points, and any image size. Each is run at several sizes as soon
    as it is written; if it differs from the model by more than 1e-4 of the largest value, the command fails and the
    folder stays as it was. export.json has the inputs and outputs, how images are framed, the differences, and which
    labels trained the model (docs/promptable.md).

    Args:
        weights: file of a promptable model: SAM's, MobileSAM's, transformers' SamModel or densessl's.
        out: folder to write; new, empty, or an earlier export, which is replaced.
        formats: onnx, torch_export or both, with a comma.
        sizes: any (images of any size whose sides are multiples of 16), or square (size_px x size_px alone: position
            tables are not resampled at each call, and networks whose steps depend on the size can be exported).
        quantise: int8 also writes encoder.int8.onnx and decoder.int8.onnx with linear layers in 8 bits, and measures
            what that costs in masks.
        images: folder of images on which that is measured, all of them; without it, on 8 rendered scenes.
        points_per_side: of the grid of clicks on each of them; 4 where not given.

    Returns:
        The differences measured.

    Raises:
        InputError: input that cannot be used, a tool that is not installed, or an export that differs from the model.
    """
    chosen = parse_formats(formats)
    _check_settings(chosen, quantise, images, points_per_side)
    readers = [] if quantise is None else measured_images(images)
    opened = open_promptable_model(PromptableSource(weights, None, None, False))
    if sizes == "square" and opened.model.settings.padding != "square":
        raise InputError(
            "sizes is square, but this model's images are padded to multiples of 16 only (padding stride), so their "
            "sizes differ; leave sizes at any"
        )
    parts = (encoder_part(opened.model, sizes), decoder_part(opened.model, sizes))
    with claimed_export_folder(out) as folder:
        compared: dict[str, tuple[ComparedSize, ...]] = {}
        for part in parts:
            compared |= _export_part(part, chosen, folder)
        folder.record = _record(opened, parts, sizes)
        folder.describe(compared)
        loss = None if quantise is None else _quantise(folder, readers, images, points_per_side or _POINTS_PER_SIDE)
    return PromptableExport(out, compared, loss)


def parse_formats(formats: str | Sequence[str]) -> tuple[ExportFormat, ...]:
    """Return the formats that were asked for, each once; raises `InputError` for none, and for unknown ones."""
    words = formats.split(",") if isinstance(formats, str) else list(formats)
    names = {word.strip() for word in words if word.strip()}
    known: tuple[ExportFormat, ...] = get_args(ExportFormat)
    unknown = sorted(names - set(known))
    if unknown or not names:
        what = f"format {unknown[0]!r} is unknown" if unknown else "no format is named"
        raise InputError(f"{what}; formats are {', '.join(known)}, or both with a comma")
    return tuple(name for name in known if name in names)


def _check_settings(
    formats: tuple[ExportFormat, ...], quantise: str | None, images: Path | None, points_per_side: int | None
) -> None:
    measured_on = {"images": images, "points_per_side": points_per_side}
    given = [f"{name} {value}" for name, value in measured_on.items() if value is not None]
    if quantise is None and given:
        raise InputError(
            f"{' and '.join(given)}: of how int8 is measured, but quantise is not int8; leave "
            f"{'it' if len(given) == 1 else 'them'} out"
        )
    if quantise is not None and "onnx" not in formats:
        raise InputError("quantise int8 makes ONNX files of ONNX files; have onnx among the formats")
    if points_per_side is not None and points_per_side < 1:
        raise InputError(f"points_per_side is {points_per_side}; it must be at least 1")
    if "onnx" in formats:
        check_onnx_tools("onnx", "onnxscript", *(() if quantise is None else ("onnxruntime",)))


def _export_part(
    part: ModelPart, formats: tuple[ExportFormat, ...], folder: ExportFolder
) -> dict[str, tuple[ComparedSize, ...]]:
    """Trace a part, write it in each format, and compare each file with it; prints a line for each."""
    program = trace_part(part)
    compared: dict[str, tuple[ComparedSize, ...]] = {}
    for name in formats:
        path = folder.staging / f"{part.name}{SUFFIXES[name]}"
        if name == "torch_export":
            write_program(program, path)
            compared[path.name] = compare_part(part, open_program(path), path.name)
            ran = f"torch {torch.__version__}"
        else:
            write_onnx(program, part, path)
            if not is_installed("onnxruntime"):
                compared[path.name] = ()
                _say(f"{path.name}: {_megabytes(path)}, not compared with the model: onnxruntime is missing ({EXTRA})")
                continue
            compared[path.name] = compare_part(part, open_onnx(path), path.name)
            ran = f"onnxruntime {metadata.version('onnxruntime')}"
        worst = max(one.difference for one in compared[path.name])
        _say(
            f"{path.name}: {_megabytes(path)}, at {len(compared[path.name])} sizes within {worst:.1e} of the largest "
            f"value ({ran})"
        )
    return compared


def _quantise(
    folder: ExportFolder, readers: Sequence[ImageReader], images: Path | None, points_per_side: int
) -> Int8Measurement:
    """Write the int8 files beside the others, measure what they lose, and enter it into the record."""
    layers = {
        part: quantise_onnx(folder.staging / f"{part}.onnx", folder.staging / f"{part}.int8.onnx")
        for part in ("encoder", "decoder")
    }
    for part, count in layers.items():
        if count == 0:
            _say(f"{part}: no linear layers, so there is no {part}.int8.onnx; it stays in fp32")
    quantised = [part for part, count in layers.items() if count]
    measured = measure_int8(folder.staging, quantised, readers, points_per_side, torch.get_num_threads())
    source = f"{_NUM_SCENES} rendered scenes" if images is None else f"images {images.resolve().name}"
    folder.enter_int8({"layers": layers, "images": source, "points_per_side": points_per_side, **asdict(measured)})
    for part in quantised:
        before, after = (folder.staging / f"{part}{suffix}" for suffix in (".onnx", ".int8.onnx"))
        times = measured.encoder_ms if part == "encoder" else measured.prompt_ms
        unit = "an image" if part == "encoder" else "a click"
        _say(
            f"{after.name}: {layers[part]} layers in int8, {_megabytes(before)} -> {_megabytes(after)}, "
            f"{times['fp32']:.1f} -> {times['int8']:.1f} ms {unit}"
        )
    for loss in measured.losses:
        _say(
            f"int8 {' and '.join(loss.quantised)}: mean IoU with the masks in fp32 {loss.mean_iou:.3f}, logits off by "
            f"{loss.logit_difference:.3g} (mean |logit| {measured.mean_logit:.3g}), predicted IoU by "
            f"{loss.iou_difference:.3f}; {measured.num_prompts} clicks on {source}"
        )
    return measured


def _record(opened: OpenedModel, parts: Sequence[ModelPart], sizes: ExportSizes) -> dict[str, Any]:
    settings = opened.model.settings
    return plain(
        {
            "supervision": opened.supervision,
            **opened.identity,
            "size_px": settings.size_px,
            "padding": settings.padding,
            "stride": STRIDE,
            "mean": MEAN,
            "std": STD,
            "sizes": sizes,
            "parts": {
                part.name: {
                    "inputs": [form.described() for form in part.inputs],
                    "outputs": [form.described() for form in part.outputs],
                }
                for part in parts
            },
            "tolerance": TOLERANCE,
            "versions_of_export": {
                name: metadata.version(name) for name in ("onnx", "onnxscript", "onnxruntime") if is_installed(name)
            },
            "environment": environment_record(torch.device("cpu")),
        }
    )


def measured_images(folder: Path | None) -> list[ImageReader]:
    """Return the images on which int8 is measured; each file is opened once now, before the export's long work."""
    if folder is None:
        return [partial(_scene, index) for index in range(_NUM_SCENES)]
    paths = [ref.path for ref in open_image_folder(folder).images]
    for path in paths:
        read_image(path)
    return [partial(read_image, path) for path in paths]


def _scene(index: int) -> ImageArray:
    return render_synthetic_image(index, _SCENE_PX, seed=0).image


def _megabytes(path: Path) -> str:
    data = path.with_name(path.name + ".data")
    size = path.stat().st_size + (data.stat().st_size if data.is_file() else 0)
    return f"{size / 1e6:.1f} MB"


def _say(text: str) -> None:
    Console(soft_wrap=True, highlight=False, markup=False).print(text)
