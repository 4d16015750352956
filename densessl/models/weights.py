"""Loading of weight files into an encoder or the whole network: strict, and reported in words."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from densessl.errors import InputError
from densessl.models.checkpoint_file import read_checkpoint
from densessl.models.vit_weight_names import timm_vit_tensors
from densessl.models.weight_formats import recognise_weights, state_dict_of
from densessl.models.weight_names import guess_encoder, maskcontrast_name

_HEADS = (
    *("fc", "head", "head_dist", "classifier", "classification_head"),
    *("projector", "projection_head", "predictor", "prototypes", "mask_token", "masked_embed"),
    *("pooler", "rope_embed", "local_cls_norm"),
)
_MAE_DECODER = "decoder_"
_FLAGS = "(--model.encoder, or --encoder of commands with that flag)"


@dataclass(frozen=True)
class WeightReport:
    """What was loaded from a weight file, for the run record and the report's provenance.

    Attributes:
        format: the checkpoint's format, told from its tensor names.
        path: the file.
        num_loaded: tensors taken from the file.
        missing: tensors of the network that the file lacks; only step counters of batch norm may be missing.
        unused: tensors of the file that the network has no place for (heads, twins, queues), by their names
            there without what all of them begin with.
        notes: what was changed on the way, such as resampled position embeddings.
        supervision: which labels trained the weights, inferred from the format, or "unknown".
    """

    format: str
    path: Path
    num_loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    supervision: str

    def describe(self) -> str:
        """Return the report as one paragraph."""
        sentences = [f"{self.num_loaded} tensors loaded from {self.path} (format: {self.format})."]
        sentences.append(f"Supervision: {self.supervision}.")
        if self.unused:
            parts = Counter(_part(name) for name in self.unused)
            listed = ", ".join(f"{part} ({count})" for part, count in parts.items())
            sentences.append(f"Not used: {listed}.")
        if self.missing:
            sentences.append(f"Left at their initial values: {len(self.missing)} batch-norm step counters.")
        sentences.extend(f"{note[0].upper()}{note[1:]}." for note in self.notes)
        return " ".join(sentences)


def load_encoder_weights(encoder: nn.Module, path: Path, *, encoder_name: str, keep_grid: bool = False) -> WeightReport:
    """Load a published or own checkpoint into a timm network, in place.

    The format (torchvision, timm, transformers, MoCo, DINO, DINOv2, DINOv3, iBOT, MAE, SimSiam, BYOL, MaskContrast,
    densessl) is told from the tensor names. Every tensor of the encoder must be in the file with its shape;
    classifiers, projectors and decoders are left out and reported. Position embeddings of another patch grid are
    resampled.

    Args:
        encoder: a timm network without classifier (`num_classes=0`).
        path: the checkpoint file.
        encoder_name: the network's timm name, for messages.
        keep_grid: give a vision transformer the patch grid of the file instead of resampling its position embeddings.

    Raises:
        MissingInputError: no such file.
        InputError: the file cannot be read safely, or holds another architecture.
    """
    recognised = recognise_weights(read_checkpoint(path), path)
    translated, translation = timm_vit_tensors(recognised.tensors, encoder, encoder_name)
    if keep_grid:
        _take_grid(encoder, translated.get("pos_embed"))
    expected = encoder.state_dict()
    tensors = {name: value for name, value in translated.items() if not _is_head(name, expected)}
    heads = [name for name in translated if name not in tensors]
    tensors, notes = _fit_position_embedding(encoder, tensors)
    mismatch = _mismatch(expected, tensors)
    if mismatch:
        raise InputError(
            f"{path} ({recognised.format}) is a checkpoint of another architecture than encoder "
            f"{encoder_name}: {mismatch}; {_remedy(guess_encoder(translated), encoder_name)}"
        )
    return _assign(
        encoder,
        tensors,
        path,
        weight_format=recognised.format,
        unused=(*heads, *recognised.unused),
        notes=(*recognised.notes, *translation, *notes),
        supervision=recognised.supervision,
    )


def load_network_weights(model: nn.Module, path: Path) -> WeightReport:
    """Load encoder, decoder and heads into a `MaskContrastModel`, in place, from a densessl or MaskContrast file.

    Raises:
        MissingInputError: no such file.
        InputError: the file cannot be read safely, holds an encoder alone, or does not fit the model.
    """
    _, state = state_dict_of(read_checkpoint(path), path)
    if not any(name.startswith("embedding_head.") for name in state):
        return load_maskcontrast_checkpoint(model, path)
    expected = model.state_dict()
    mismatch = _mismatch(expected, state)
    if mismatch:
        raise InputError(
            f"{path} (densessl) is a checkpoint of another architecture than the model: {mismatch}; give the model "
            "settings that it was trained with (config.yaml of its run)"
        )
    return _assign(
        model,
        state,
        path,
        weight_format="densessl",
        supervision="unknown: see the record of the run that wrote the file",
    )


def load_maskcontrast_checkpoint(model: nn.Module, path: Path) -> WeightReport:
    """Load a checkpoint published with MaskContrast (arXiv:2102.06191) into a `MaskContrastModel`, in place.

    The model must be built as published: encoder resnet18 or resnet50 at output stride 8, decoder deeplabv3
    with 256 channels and ordinary convolutions, 32 embedding dimensions. The momentum network and the queue
    are left out.

    Raises:
        MissingInputError: no such file.
        InputError: the file cannot be read safely, is not such a checkpoint, or does not fit the model.
    """
    checkpoint = read_checkpoint(path)
    _, state = state_dict_of(checkpoint, path)
    prefix = "model_q." if any(name.startswith("model_q.") for name in state) else ""
    names = {name: maskcontrast_name(name.removeprefix(prefix)) for name in state if name.startswith(prefix)}
    tensors = {ours: state[name] for name, ours in names.items() if ours is not None}
    if not any(name.startswith("decoder.") for name in tensors):
        raise InputError(
            f"{path} is not a published MaskContrast checkpoint: no tensor is named {prefix}decoder.*; "
            "give it as --model.weights to load its encoder alone"
        )
    expected = model.state_dict()
    mismatch = _mismatch(expected, tensors)
    if mismatch:
        backbone = {name.removeprefix("encoder.backbone."): value for name, value in tensors.items()}
        raise InputError(
            f"{path} (maskcontrast) is a checkpoint of another architecture than the model: {mismatch}; "
            f"choose --model.encoder {guess_encoder(backbone) or 'resnet50'} with --model.decoder deeplabv3, "
            "256 decoder channels, no separable convolutions and 32 embedding dimensions"
        )
    return _assign(
        model,
        tensors,
        path,
        weight_format="maskcontrast",
        unused=tuple(name for name in state if names.get(name) is None),
        notes=("the published network runs at output stride 8; its embeddings differ at another",),
        supervision="unknown: the file does not say which weights and masks MaskContrast started from",
    )


def _fit_position_embedding(
    encoder: nn.Module, tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Resample square position embeddings (1, prefix + cells, dim) to the encoder's patch grid, bicubic."""
    found, wanted = tensors.get("pos_embed"), getattr(encoder, "pos_embed", None)
    if found is None or wanted is None or found.shape == wanted.shape or found.ndim != 3:
        return tensors, ()
    side, num_prefix = _square_grid(encoder, found)
    if side == 0 or found.shape[2] != wanted.shape[2]:
        return tensors, ()  # refused by the shape check
    height, width = encoder.patch_embed.grid_size  # type: ignore[union-attr, misc]
    resampled = resample_abs_pos_embed(found, [height, width], [side, side], num_prefix_tokens=num_prefix)
    note = f"position embeddings resampled (bicubic) from {side}x{side} to {height}x{width} patches"
    return {**tensors, "pos_embed": resampled}, (note,)


def _take_grid(encoder: nn.Module, positions: torch.Tensor | None) -> None:
    """Set a vision transformer to the square patch grid that position embeddings (1, prefix + cells, dim) are for."""
    wanted = getattr(encoder, "pos_embed", None)
    if positions is None or wanted is None or positions.ndim != 3 or positions.shape[1] == wanted.shape[1]:
        return
    side, _ = _square_grid(encoder, positions)
    if side:
        height, width = encoder.patch_embed.patch_size  # type: ignore[union-attr, misc]
        encoder.set_input_size(img_size=(side * height, side * width))  # type: ignore[operator]


def _square_grid(encoder: nn.Module, positions: torch.Tensor) -> tuple[int, int]:
    """Return the side of the square grid of position embeddings, 0 if it is none, and the prefix tokens among them."""
    num_prefix = 0 if getattr(encoder, "no_embed_class", False) else int(getattr(encoder, "num_prefix_tokens", 1))
    side = round(max(positions.shape[1] - num_prefix, 0) ** 0.5)
    return (side if side**2 + num_prefix == positions.shape[1] else 0), num_prefix


def _mismatch(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str:
    """Say which tensors are missing, wrongly shaped or unknown, the first few by name; "" where all fit."""
    missing = [name for name in expected if name not in found and not _is_counter(name)]
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    unknown = [name for name in found if name not in expected]
    groups = (("tensors missing", missing), ("of another shape", shapes), ("unknown", unknown))
    return ", ".join(f"{what}: {len(names)} ({_first(names)})" for what, names in groups if names)


def _remedy(guess: str | None, encoder_name: str) -> str:
    if guess is None:
        return f"choose the encoder that the file was written for {_FLAGS}"
    if guess == encoder_name.split(".")[0]:
        return f"the file looks like an incomplete or altered {guess}; download or export it again"
    return f"choose encoder {guess}, which its shapes fit {_FLAGS}"


def _assign(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    *,
    weight_format: str,
    supervision: str,
    unused: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> WeightReport:
    """Copy the tensors in and report it; batch-norm counters that the file lacked stay as they were."""
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(
            f"{path} holds values that are not finite in {len(broken)} tensors ({_first(broken)}); its "
            "training diverged or the file is damaged, take an earlier checkpoint"
        )
    expected = module.state_dict()
    missing = tuple(name for name in expected if name not in tensors)
    module.load_state_dict({**{name: expected[name] for name in missing}, **tensors}, strict=True)
    return WeightReport(weight_format, path, len(tensors), missing, unused, notes, supervision)


def _is_head(name: str, expected: Mapping[str, torch.Tensor]) -> bool:
    """Whether a tensor belongs to a head, to a decoder of pretraining, or to a mask of biases that is fixed."""
    first, last = name.split(".")[0], name.split(".")[-1]
    is_known = first in _HEADS or first.startswith(_MAE_DECODER) or last == "bias_mask"
    return is_known and name not in expected


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _part(name: str) -> str:
    parts = name.split(".")
    return parts[0] if parts[0] not in {"module", "model"} or len(parts) == 1 else ".".join(parts[:2])


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
