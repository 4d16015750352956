"""One protocol as a command of its own (`linear`, `knn`, `retrieve`): label maps, scores, and what they follow from."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from densessl.commands.benchmark_cards import labels_that_touched
from densessl.commands.cluster_encoder import open_clustered_encoder
from densessl.commands.encoder import EncoderSettings
from densessl.commands.evaluate_output import print_scores
from densessl.commands.protocol_data import DataSettings, ProtocolData
from densessl.commands.protocol_result import ProtocolResult, ProtocolSettings
from densessl.commands.protocol_runs import check_requirements, named_protocol, run_protocol
from densessl.data.label_maps import write_label_map
from densessl.files import make_folder, remove_abandoned_writes, write_json
from densessl.models.network_file import save_network
from densessl.training.run_folder import environment_record, plain

PROBE_FILE = "probe.safetensors"


@dataclass(frozen=True)
class ProtocolOutcome:
    """What a command of one protocol found: its folder, and the result."""

    out: Path
    result: ProtocolResult


def run_alone(
    name: str, out: Path, encoder: EncoderSettings, source: DataSettings, settings: ProtocolSettings
) -> ProtocolOutcome:
    """Run a protocol and write label_maps/, scores.json and, of a linear protocol, probe.safetensors.

    Raises:
        InputError: whatever the protocol raises.
    """
    protocol = named_protocol(name, settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = ProtocolData(open_clustered_encoder(None, encoder, device), source, device)
    check_requirements(protocol, data)  # before earlier results are removed
    make_folder(out)
    remove_abandoned_writes(out)
    if (out / "scores.json").is_file():  # of an earlier call
        shutil.rmtree(out / "label_maps", ignore_errors=True)
        for file in ("scores.json", PROBE_FILE):
            (out / file).unlink(missing_ok=True)
    started = time.monotonic()
    keep = replace(settings, keep=lambda stem, labels: write_label_map(out / "label_maps" / f"{stem}.png", labels))
    result = run_protocol(protocol, data, keep)
    seconds = time.monotonic() - started - data.encoding_seconds
    if result.probe is not None:
        _save_probe(out / PROBE_FILE, result, data)
    _write_scores(out / "scores.json", result, data, seconds, device)
    _print(result, data)
    return ProtocolOutcome(out, result)


def _write_scores(path: Path, result: ProtocolResult, data: ProtocolData, seconds: float, device: torch.device) -> None:
    opened, settings = data.encoder.opened, data.settings
    content = {
        **result.scores_json(),
        "class_names": [data.scored.class_names[label] for label in result.scores.scores.classes],
        "protocol": result.name,
        "protocol_settings": result.protocol,
        "fitted": result.fitted,
        "labels": labels_that_touched(result, data),
        "encoder": {
            "kind": data.encoder.kind,
            "name": data.encoder.name,
            "description": opened.description,
            "fingerprint": opened.fingerprint,
            "precision": opened.precision,
            "supervision": opened.supervision,
        },
        "data": settings.data.resolve(),
        "split": settings.split,
        "foreground": settings.foreground if result.uses_masks else None,
        "masks": settings.masks if result.uses_masks else None,
        "left_out": [{"stem": item.stem, "reason": item.reason} for item in result.left_out],
        "notes": result.notes,
        "seconds": seconds,
        "environment": environment_record(device),
    }
    write_json(path, plain(content))


def _save_probe(path: Path, result: ProtocolResult, data: ProtocolData) -> None:
    """Write the weights of a linear probe, with its classes and the encoder that it belongs to."""
    probe, opened = result.probe, data.encoder.opened
    if probe is None:
        return
    labels = probe.classes.labels
    header = {
        "protocol": result.name,
        "classes": list(labels),
        "class_names": [data.scored.class_names[label] for label in labels],
        "num_labels": probe.classes.num_labels,
        "image_size_px": list(result.image_size_px),
        "features": "decoder" if data.encoder.run is not None else None,
        "encoder": data.encoder.name,
        "encoder_description": opened.description,
        "encoder_fingerprint": opened.fingerprint,
        "encoder_precision": opened.precision,
    }
    tensors = {
        "weight": torch.from_numpy(np.ascontiguousarray(probe.weight)),
        "bias": torch.from_numpy(np.ascontiguousarray(probe.bias)),
    }
    save_network(path, tensors, "linear_probe", header)


def _print(result: ProtocolResult, data: ProtocolData) -> None:
    print_scores(result.scores.scores, data.scored.class_names)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"{result.name}: mIoU {100 * result.miou:.2f} %; {result.fitted}; labels of the fit: {result.fit_labels}"
    )
    for note in (*result.notes, *(f"left out {item.stem}: {item.reason}" for item in result.left_out)):
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"Note: {note}")
