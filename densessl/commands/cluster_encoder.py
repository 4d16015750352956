"""Which encoder `cluster` works with: that of a run, or any other."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from densessl.commands.encoder import (
    EncoderKind,
    EncoderSettings,
    check_encoder_settings,
    encoder_kind,
    in_precision,
    network_of_run,
    open_encoder,
    open_run_encoder,
)
from densessl.errors import InputError
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.extraction import Foreground


@dataclass(frozen=True)
class ClusteredEncoder:
    """An encoder that is being clustered.

    run: the run folder; None where it is no run. kind: what it is. settings: how it was asked for.
    """

    run: Path | None
    kind: EncoderKind
    settings: EncoderSettings
    opened: FeatureEncoder

    @property
    def name(self) -> str:
        """What it was called."""
        encoder = self.settings.encoder
        return encoder if isinstance(encoder, str) else self.opened.description

    def record(self) -> dict[str, Any]:
        """Return what clusters.json says of an encoder that is no run; nothing for a run."""
        if self.run is not None:
            return {}
        settings, opened = self.settings, self.opened
        return {
            "encoder": {
                "kind": self.kind,
                "name": self.name,
                "description": opened.description,
                "fingerprint": opened.fingerprint,
                "supervision": opened.supervision,
                "weights": settings.weights if isinstance(settings.weights, Path) else None,
            }
        }


def open_clustered_encoder(run: Path | None, settings: EncoderSettings, device: torch.device) -> ClusteredEncoder:
    """Open the run, or the encoder of the settings; a run folder given as encoder is a run.

    Raises:
        InputError: both or neither, or an encoder that cannot be opened.
    """
    has_encoder = settings.encoder != ""
    if (run is None) != has_encoder:
        given = "neither" if run is None else f"both ({run} and {settings.encoder})"
        raise InputError(f"give either a run or an encoder, got {given}: --run RUN (run=) or --encoder E (encoder=)")
    settings = network_of_run(settings) if run is None else settings
    if run is None and encoder_kind(settings.encoder) != "run":
        return ClusteredEncoder(None, encoder_kind(settings.encoder), settings, open_encoder(settings, device))
    if run is None:
        opened, folder = open_encoder(settings, device), Path(str(settings.encoder))
    else:
        settings, folder = replace(settings, encoder=str(run)), run
        check_encoder_settings(settings, "run")
        opened = open_run_encoder(run, str(settings.weights), settings.features, device)
        opened = in_precision(opened, settings.precision, "run", device)
    return ClusteredEncoder(folder, "run", settings, opened)


def check_foreground(foreground: Foreground, encoder: FeatureEncoder) -> None:
    """Raise `InputError` where the head of an encoder without one is to find the foreground."""
    if foreground == "head" and not encoder.has_saliency:
        raise InputError(
            f"foreground head needs a saliency head, which encoder {encoder.description} has not; give --foreground "
            "masks with --masks DIR, all, or labels (the true foreground, an oracle)"
        )
