"""The command `explain`: what the loss sees of one image at the end of a run, as pictures and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.explanation import EndOfRun, describe_pair, gather_similar
from densessl.data.images import read_image
from densessl.data.layouts import open_images
from densessl.data.masks import MaskFolder, judge_encoding, open_mask_folder
from densessl.data.view_settings import ViewSettings
from densessl.data.views import PairedViews, SampleKey
from densessl.errors import InputError, MissingInputError
from densessl.files import make_folder, read_json
from densessl.models.precision import on_device
from densessl.objectives.settings import ObjectiveSettings
from densessl.report.explanation import write_explanation
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageRef, ImageSet
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.run_folder import load_run_model, read_config, rebuild

SettingsT = TypeVar("SettingsT")


@checked_arguments
def explain(
    run: Path,
    image: Path,
    out: Path,
    mask: Path | None = None,
    seed: int = 0,
    num_images: int = 256,
    num_similar: int = 8,
) -> Path:
    """Draw what the loss sees of one image at the end of a run: views, positive, hardest negatives, loss by pixel.

    Network, momentum twin and memory bank are those of the run's last checkpoint, in evaluation mode.

    Args:
        run: the run folder of `pretrain`.
        image: the image to explain; it need not be one that the run was trained on.
        out: receives index.html, views.png, similarity.png, loss.png, negatives.png and explanation.json.
        mask: its mask; without one the run's own mask is taken where the image is one of the run's, else one is
            proposed with the run's saliency settings, into OUT/proposals. The page says which.
        seed: of the two views; the same seed gives the same pictures.
        num_images: training images, spread evenly over all, among whose masks the most similar are looked for.
        num_similar: how many of those are shown.

    Returns:
        The path of the page.

    Raises:
        InputError: no finished run, no mask, or a mask of which no two views show both sides; the message says what to
            change.
    """
    if seed < 0 or num_images < 1 or num_similar < 1:
        raise InputError(
            f"seed is {seed}, num_images {num_images} and num_similar {num_similar}; the first must be 0 or more, the "
            "others 1 or more"
        )
    read_image(image)  # says what is wrong with it before anything is loaded
    config = read_config(run)
    views = replace(_settings(ViewSettings, config, "views", run), neighbours=0, num_local=0)
    end = _load_end(run, _settings(ObjectiveSettings, config, "objective", run))
    image_set = open_images(*_source(config))
    run_masks = open_mask_folder(_mask_folder(run, config), image_set.images)
    make_folder(out)
    chosen = _choose_mask(image, mask, image_set, run_masks, _settings(SaliencySettings, config, "saliency", run), out)
    pair = PairedViews((chosen.ref,), chosen.masks, views)[SampleKey(seed, 0, 0)]
    notes = [chosen.note]
    if config.get("views", {}).get("neighbours"):
        notes.append("The run draws the key view from neighbours of the image; here both views show the image itself.")
    described = describe_pair(pair, end)
    others = tuple(ref for ref in image_set.images if ref.path.resolve() != image.resolve())
    similar = gather_similar(others, run_masks, end.model, described.prototype, views, num_images, num_similar)
    source = {"run": str(run.resolve()), "image": str(image.resolve()), "mask": chosen.note, "seed": seed}
    page = write_explanation(described.to_explanation(chosen.ref.stem, similar, notes, source), out)
    print(f"explanation: {page}")
    return page


@dataclass(frozen=True)
class _ChosenMask:
    """The image with the folder that holds its mask, and the sentence that says where the mask is from."""

    ref: ImageRef
    masks: MaskFolder
    note: str


def _choose_mask(
    image: Path, mask: Path | None, image_set: ImageSet, run_masks: MaskFolder, saliency: SaliencySettings, out: Path
) -> _ChosenMask:
    own = next((ref for ref in image_set.images if ref.path.resolve() == image.resolve()), None)
    ref = own or ImageRef(image.stem, image)
    if mask is not None:
        code, num_judged = judge_encoding([mask])
        masks = MaskFolder(mask.parent, code, (), num_judged, {ref.stem: mask})
        return _ChosenMask(ref, masks, f"The mask was given: {mask}.")
    if own is not None and own.stem in run_masks.files:
        return _ChosenMask(ref, run_masks, f"The mask is the one that the run was trained on, from {run_masks.folder}.")
    Console(stderr=True).print(f"the run has no mask of {image}; proposing one", highlight=False, soft_wrap=True)
    generate_proposals(ImageSet(image.name, (ref,)), out / "proposals", saliency, 0)
    rejected = read_json(out / "proposals" / "rejected.json", "the images that saliency rejected")
    if rejected:
        raise InputError(f"no mask could be proposed for {image}: {rejected[0]['reason']}; give one with --mask FILE")
    masks = open_mask_folder(out / "proposals", (ref,))
    note = f"The run has no mask of this image; it was proposed with the run's saliency settings ({saliency.method})."
    return _ChosenMask(ref, masks, note)


def _load_end(run: Path, objective: ObjectiveSettings) -> EndOfRun:
    """Load network, twin and memory bank of a finished run from its last checkpoint."""
    _, model = load_run_model(run)
    found = list_checkpoints(run / "checkpoints")
    if not found:
        raise MissingInputError(
            f"{run / 'checkpoints'} holds no checkpoint, and momentum twin and memory bank are stored nowhere else; "
            "expected step-<number>.pt of `pretrain`"
        )
    checkpoint = load_checkpoint(found[-1])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, twin = (rebuild(model, checkpoint[name], str(found[-1])) for name in ("model", "twin"))
    queue = checkpoint["bank"]["prototypes"].to(device)
    num_steps = int(checkpoint["step"])
    return EndOfRun(on_device(network, device), on_device(twin, device), queue, objective, num_steps, device)


def _settings(kind: type[SettingsT], config: Mapping[str, Any], section: str, run: Path) -> SettingsT:
    """Rebuild one section of a run's configuration; settings that the run did not know yet take their defaults."""
    values = dict(config.get(section) or {})
    for name in ("weights", "network", "masks"):
        if isinstance(values.get(name), str):
            values[name] = Path(values[name])
    unknown = values.keys() - {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown:
        raise InputError(
            f"{run / 'config.yaml'} has {section}.{', '.join(sorted(unknown))}, which this version does not know; use "
            "the version that wrote the run"
        )
    return kind(**values)


def _source(config: Mapping[str, Any]) -> tuple[Path | None, Path | None, str]:
    images, data = (Path(config[name]) if config.get(name) else None for name in ("images", "data"))
    return images, data, str(config.get("split", ""))


def _mask_folder(run: Path, config: Mapping[str, Any]) -> Path:
    return Path(config["masks"]) if config.get("masks") else run / "proposals"
