"""The one place that opens the promptable model of a command: a file of weights, or a backbone with or without them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from densessl.commands.provenance import first_weights_provenance
from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.promptable.promptable_model import PromptableModel, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import load_backbone_weights, load_promptable_model
from densessl.training.run_folder import plain


@dataclass(frozen=True)
class PromptableSource:
    """Where a command's promptable model comes from.

    weights: file of a whole model. encoder: timm name of a backbone under a decoder of random weights; encoder_weights:
    file of that backbone; pretrained: timm's own for it; size_px: long side of the images it sees, 1024 where
    not given; seed: of what is random, 0 where not given.
    """

    weights: Path | None
    encoder: str | None
    encoder_weights: Path | None
    pretrained: bool
    size_px: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.encoder is None):
            given = "neither" if self.weights is None else "both"
            raise InputError(
                f"give either --weights FILE (SAM, MobileSAM, SamModel or densessl) or --encoder NAME (a timm "
                f"backbone, under a decoder of random weights), got {given}"
            )
        if self.encoder is None and (self.encoder_weights is not None or self.pretrained):
            raise InputError("encoder_weights and pretrained are those of a timm backbone; name it (--encoder)")
        if self.encoder is None and (self.size_px is not None or self.seed is not None):
            values = {"size_px": self.size_px, "seed": self.seed}
            given = " and ".join(f"{name} {value}" for name, value in values.items() if value is not None)
            raise InputError(
                f"size_px and seed are those of a model that is named (--encoder), but {given} is given; weights "
                f"{self.weights} bring their size, and nothing in them is random: leave it out"
            )
        if self.encoder_weights is not None and self.pretrained:
            raise InputError(f"give encoder_weights {self.encoder_weights} or pretrained true, not both")


@dataclass(frozen=True)
class OpenedModel:
    """A promptable model, which labels trained it, in words, and what tells it from others, for records.

    is_untrained: its decoder has random weights.
    """

    model: PromptableModel
    supervision: str
    identity: dict[str, Any]
    is_untrained: bool


def open_promptable_model(source: PromptableSource) -> OpenedModel:
    """Load or build the model.

    Raises:
        MissingInputError: no such file.
        InputError: a file that is no such model, or an unknown backbone.
    """
    if source.weights is not None:
        model, report = load_promptable_model(source.weights)
        identity = {"weights": source.weights.resolve(), "weights_sha256": file_sha256(source.weights)}
        return OpenedModel(model, report.supervision, {**identity, "model": plain(model.settings)}, is_untrained=False)
    settings = PromptableSettings(
        source.encoder or "", PromptableSettings.size_px if source.size_px is None else source.size_px
    )
    seed = source.seed or 0
    torch.manual_seed(seed)
    model = build_promptable_model(settings, pretrained=source.pretrained).eval()
    loaded = None if source.encoder_weights is None else load_backbone_weights(model, source.encoder_weights)
    encoder = first_weights_provenance(settings.encoder, loaded, pretrained=source.pretrained)
    identity = {
        "encoder_weights": source.encoder_weights and source.encoder_weights.resolve(),
        "encoder_weights_sha256": source.encoder_weights and file_sha256(source.encoder_weights),
        "pretrained": source.pretrained,
        "seed": seed,
    }
    supervision = f"encoder: {encoder}; decoder: none (random weights)"
    return OpenedModel(model, supervision, {**identity, "model": plain(settings)}, is_untrained=True)
