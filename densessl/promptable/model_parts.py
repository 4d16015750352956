"""A promptable model in two parts as exporters take them: image encoder and decoder, of tensors alone, for any size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from densessl.promptable.mask_decoder import DecodedMasks
from densessl.promptable.promptable_model import PromptableModel, PromptBatch
from densessl.promptable.promptable_settings import STRIDE
from densessl.promptable.prompts import MASK_SCALE, NOT_A_POINT

ExportSizes = Literal["any", "square"]
"""Images of any size whose sides are multiples of 16, or of size_px x size_px alone."""

Sizes = Mapping[str, int]
"""A length for each axis that has a name: batch, rows, columns, num_prompts, num_points."""

_TRACED = {"batch": 2, "rows": 17, "columns": 20, "num_prompts": 3, "num_points": 4}
"""What parts are traced with: the general case of windows, more than one in each direction, and padded at every stride
(of 14 or 7 cells). What is traced for a single window holds for a single window alone.
"""


class Axis(NamedTuple):
    """An axis of any length: `unit` times the length that bears the name."""

    name: str
    unit: int = 1

    def __str__(self) -> str:
        return self.name if self.unit == 1 else f"{self.unit}*{self.name}"


@dataclass(frozen=True)
class TensorForm:
    """Name, type and axes of an input or output; an axis of a fixed length is a number."""

    name: str
    dtype: Literal["float32", "int64", "bool"]
    axes: tuple[int | Axis, ...]

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Return the lengths of the axes."""
        return tuple(axis if isinstance(axis, int) else axis.unit * sizes[axis.name] for axis in self.axes)

    def described(self) -> dict[str, object]:
        """Return what export.json says of it."""
        axes = [axis if isinstance(axis, int) else str(axis) for axis in self.axes]
        return {"name": self.name, "dtype": self.dtype, "shape": axes}


@dataclass(frozen=True)
class ModelPart:
    """A part of a model: a module in evaluation mode whose forward takes and returns tensors.

    inputs, outputs: in the order of the arguments and results. traced: the sizes to trace it with. compared: those at
    which an export of it is compared with it.
    """

    name: Literal["encoder", "decoder"]
    module: nn.Module
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]
    traced: Sizes
    compared: tuple[Sizes, ...]

    def draw(self, sizes: Sizes, seed: int = 0) -> tuple[torch.Tensor, ...]:
        """Draw inputs: normal values, points in a square of the image's side, labels of every kind, some masks.

        Prompts are for the images in turn, the first for the last image.
        """
        generator = torch.Generator().manual_seed(seed)
        return tuple(_draw(form, sizes, generator) for form in self.inputs)


def encoder_part(model: PromptableModel, sizes: ExportSizes = "any") -> ModelPart:
    """Return the image encoder: framed, normalised images to their embeddings."""
    rows, columns = _grid(model, sizes)
    images = TensorForm("images", "float32", (Axis("batch"), 3, _times(rows, STRIDE), _times(columns, STRIDE)))
    embedding = TensorForm("image_embedding", "float32", (Axis("batch"), _num_channels(model), rows, columns))
    side = model.settings.size_px // STRIDE
    compared = [{"batch": 1, "rows": side, "columns": side}]
    if sizes == "square":
        compared.append({"batch": 2, "rows": side, "columns": side})
    else:
        compared.append({"batch": 2, "rows": max(2, side // 2), "columns": max(3, side // 3)})
        compared += [{"batch": 3, "rows": 6, "columns": 4}, {"batch": 1, "rows": 20, "columns": 13}]
    return ModelPart("encoder", _Encoder(model.image_encoder).eval(), (images,), (embedding,), _TRACED, tuple(compared))


def decoder_part(model: PromptableModel, sizes: ExportSizes = "any") -> ModelPart:
    """Return prompt encoder and mask decoder: embeddings of images and prompts to all masks and their IoU.

    Inputs are the embeddings (batch, channels, rows, columns) and those of `PromptBatch`. `masks` are given in any
    case, and count where `has_mask` is true; so is `image`. Outputs are the masks of `MaskOutputs` all.
    """
    rows, columns = _grid(model, sizes)
    prompts, points = Axis("num_prompts"), Axis("num_points")
    mask_axes = (_times(rows, MASK_SCALE), _times(columns, MASK_SCALE))
    inputs = (
        TensorForm("image_embedding", "float32", (Axis("batch"), _num_channels(model), rows, columns)),
        TensorForm("points", "float32", (prompts, points, 2)),
        TensorForm("labels", "int64", (prompts, points)),
        TensorForm("masks", "float32", (prompts, 1, *mask_axes)),
        TensorForm("has_mask", "bool", (prompts,)),
        TensorForm("image", "int64", (prompts,)),
    )
    num_masks = model.mask_decoder.num_masks
    outputs = (
        TensorForm("logits", "float32", (prompts, num_masks, *mask_axes)),
        TensorForm("predicted_iou", "float32", (prompts, num_masks)),
    )
    side = model.settings.size_px // STRIDE
    compared = [
        {"batch": 1, "num_prompts": 1, "num_points": 2, "rows": side, "columns": side},
        {"batch": 2, "num_prompts": 4, "num_points": 3, "rows": side, "columns": max(2, side // 2)},
        {"batch": 2, "num_prompts": 1, "num_points": 1, "rows": 7, "columns": 5},
        {"batch": 1, "num_prompts": 3, "num_points": 0, "rows": 4, "columns": 6},  # masks alone
    ]
    if sizes == "square":
        compared = [{**one, "rows": side, "columns": side} for one in compared]
    return ModelPart("decoder", _Decoder(model).eval(), inputs, outputs, _TRACED, tuple(compared))


class _Encoder(nn.Module):
    def __init__(self, image_encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.image_encoder(images)


class _Decoder(nn.Module):
    def __init__(self, model: PromptableModel) -> None:
        super().__init__()
        self.model = PromptableModel(nn.Identity(), model.prompt_encoder, model.mask_decoder, model.settings)

    def forward(
        self,
        image_embedding: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor,
        has_mask: torch.Tensor,
        image: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prompts = PromptBatch(points, labels, masks, has_mask, image)
        decoded: DecodedMasks = self.model.decode(image_embedding, prompts)
        return decoded.logits, decoded.predicted_iou


def _grid(model: PromptableModel, sizes: ExportSizes) -> tuple[int | Axis, int | Axis]:
    if sizes == "any":
        return Axis("rows"), Axis("columns")
    side = model.settings.size_px // STRIDE
    return side, side


def _times(axis: int | Axis, unit: int) -> int | Axis:
    return unit * axis if isinstance(axis, int) else Axis(axis.name, unit * axis.unit)


def _num_channels(model: PromptableModel) -> int:
    """Return the channels of an embedding, finer maps included (`densessl.promptable.fine_features`)."""
    return model.settings.dim * (4 if model.settings.fine_features else 1)


def _draw(form: TensorForm, sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
    shape = form.shape(sizes)
    if form.dtype == "bool":
        return torch.arange(shape[0]) % 2 == 0
    if form.name == "image":
        return (torch.arange(shape[0]) - 1) % sizes["batch"]
    if form.dtype == "int64":
        return torch.randint(NOT_A_POINT, 4, shape, generator=generator)
    if form.name == "points":
        return 16 * sizes["rows"] * torch.rand(shape, generator=generator)
    return torch.randn(shape, generator=generator)
