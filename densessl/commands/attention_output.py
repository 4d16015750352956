"""What `attention` writes beside pictures: its record, whose folder it is, what the page lists, and what is printed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console

from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.files import check_unused_folder, read_json, remove_abandoned_writes, write_atomically, write_json
from densessl.models.vision_encoder import VisionEncoder
from densessl.report.attention_page import AttentionPage
from densessl.structures import ImageArray
from densessl.training.run_folder import environment_record, plain

_COMPARED = ("encoder", "fingerprint", "layer", "image_size", "sharpness")


@dataclass(frozen=True)
class AttentionFolder:
    """Where the files of an image are."""

    out: Path

    def arrays(self, stem: str) -> Path:
        return self.out / "arrays" / f"{stem}.npz"

    def sheet(self, stem: str) -> Path:
        return self.out / "sheets" / f"{stem}.png"

    def panel(self, stem: str, name: str) -> Path:
        return self.out / "panels" / stem / f"{name}.png"

    def remove_pictures(self, stem: str) -> None:
        """Remove the sheet and the panels of an image."""
        self.sheet(stem).unlink(missing_ok=True)
        for panel in (self.out / "panels" / stem).glob("*.png"):
            panel.unlink()

    def read_sheet(self, stem: str) -> ImageArray:
        return read_image(self.sheet(stem))


def attention_record(
    network: VisionEncoder, layer: int | None, image_size: int | None, sizes: tuple[int, ...], device: torch.device
) -> dict[str, Any]:
    """Return what makes the arrays, for attention.json; `layer` counts from 0, None where there is no attention."""
    report = network.weights
    return plain(
        {
            "encoder": network.description,
            "fingerprint": network.fingerprint,
            "supervision": network.supervision,
            "weights": None if report is None else report,
            "layer": layer,
            "image_size": image_size,
            "sharpness": sizes,
            "no_attention": network.no_attention,
            "environment": environment_record(device),
        }
    )


def claim_folder(folder: AttentionFolder, record: dict[str, Any]) -> None:
    """Make the folder this record's own, or raise `InputError` where it was begun with something else."""
    path = folder.out / "attention.json"
    if not path.is_file():
        check_unused_folder(folder.out, "attention", path.name)
    else:
        old = read_json(path, "the record of `attention`")
        known = old if isinstance(old, dict) else {}
        differences = [
            f"{key} {known.get(key)!r} there, {record[key]!r} now" for key in _COMPARED if known.get(key) != record[key]
        ]
        if differences:
            raise InputError(
                f"{folder.out} was begun with something else ({'; '.join(differences)}); choose another output folder "
                "(--out)"
            )
    remove_abandoned_writes(folder.out)
    write_json(path, record)


def write_attention_record(
    folder: AttentionFolder, record: dict[str, Any], page: AttentionPage, ious: dict[str, dict[str, float]]
) -> None:
    """Write attention.json with what was found; `ious` are those of each image."""
    heads = {name: value for name, value in page.head_ious.items() if name.startswith("head ")}
    found = {
        "num_images": page.num_images,
        "head_ious": page.head_ious,
        "best_head": max(heads, key=lambda name: heads[name]) if heads else None,
        "head_ious_by_image": ious,
        "half_distance_px": page.sharpness,
        "rejected": list(page.rejected),
    }
    write_json(folder.out / "attention.json", plain({**record, **found}))


def page_facts(network: VisionEncoder, layer: int | None, image_size: int | None, mass: float) -> dict[str, str]:
    """Return what the page lists of encoder and settings."""
    facts = {"Encoder": network.description, "Labels": network.supervision}
    if network.weights is not None:
        facts["Weights"] = network.weights.describe()
    if network.transformer is not None:
        facts["Layer"] = f"{layer} of 0 to {network.transformer.num_layers - 1}"
        facts["Masks keep"] = f"{mass:.0%} of the attention"
    facts["Long side"] = "as stored" if image_size is None else f"{image_size} px"
    return facts


def print_end(page: AttentionPage, out: Path, num_reused: int) -> None:
    """Print which head agrees best with masks, how many images there are, and where the page is."""
    if page.head_ious:
        heads = {name: value for name, value in page.head_ious.items() if name.startswith("head ")}
        best = max(heads, key=lambda name: heads[name])
        mean = page.head_ious["mean of the heads"]
        found = f"best {best} {heads[best]:.3f}, mean of the heads {mean:.3f}"
        say(f"IoU with masks ({page.num_with_masks} images): {found}")
    reused = f", {num_reused} looked at before" if num_reused else ""
    images = "1 image" if page.num_images == 1 else f"{page.num_images} images"
    say(f"{images}{reused}: {out / 'index.html'}")


def write_png(path: Path, picture: ImageArray) -> None:
    """Write a picture atomically."""
    write_atomically(path, lambda temporary: Image.fromarray(picture).save(temporary, format="PNG"))


def say(text: str) -> None:
    """Print a line to the user."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(text)
