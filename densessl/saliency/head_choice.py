"""Which head of a vision transformer looks at things: the one that agrees best with masks made without labels."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from densessl.attention.mass import head_ious
from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.files import read_json, write_json
from densessl.saliency.attention_saliency import attention_of_heads, attention_record, soft_attention
from densessl.saliency.colour import resize_map
from densessl.saliency.processing import raise_unless_of_image
from densessl.saliency.proposals import SaliencySettings, propose
from densessl.structures import ImageArray, ImageRef, ImageSet, Rejection

HEAD_FILE = "attention_head.json"
NUM_JUDGED = 64
"""At most so many images, spread evenly over the set, are looked at."""


def settle_head(images: ImageSet, out: Path, settings: SaliencySettings) -> SaliencySettings:
    """Return the settings with the number of a head in place of `best`; others are returned as they are.

    On a sample of the images the default masks (method `fused`, refined; no weights, no labels) are compared with what
    each head's attention keeps; the head with the highest mean IoU is taken, of equals the first. What was found is
    written to attention_head.json in `out`, and read from there by a later call.

    Raises:
        InputError: an encoder without attention, no image with a default mask, or a folder that was begun with others.
    """
    if settings.method != "attention" or settings.attention_head != "best":
        return settings
    now = _made_from(settings)
    path = out / HEAD_FILE
    if path.is_file():
        found = read_json(path, "the choice of a head by `saliency --method attention`")
        if not isinstance(found, dict) or found.get("made_from") != now or not isinstance(found.get("head"), int):
            raise InputError(
                f"{path} holds the choice of a head for another encoder, layer, share or size; use those, or another "
                "output folder"
            )
        return replace(settings, attention_head=found["head"])
    step = -(-len(images) // NUM_JUDGED)
    stems, ious = _judge(images.images[::step], settings)
    means = np.mean(ious, axis=0)
    head = int(means.argmax())
    record = {
        "head": head,
        "iou_with_default_masks": means.tolist(),
        "num_images": len(stems),
        "images": stems,
        "made_from": now,
    }
    write_json(path, record)
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
        f"head {head} agrees best with the default masks: IoU {means[head]:.3f} over {len(stems)} images, "
        f"heads in all {means.min():.3f} to {means.max():.3f}"
    )
    return replace(settings, attention_head=head)


def ious_of_heads(image: ImageArray, foreground: np.ndarray, settings: SaliencySettings) -> list[float]:
    """Return the IoU with a foreground, bool (height, width), of what each head keeps of a uint8 RGB image."""
    heads = attention_of_heads(image, settings.features, settings.attention_layer)
    height, width = foreground.shape
    kept = np.stack([resize_map(soft_attention(head, settings.attention_mass), height, width) > 0.5 for head in heads])
    return head_ious(torch.from_numpy(kept), torch.from_numpy(foreground)).tolist()  # type: ignore[no-any-return]


def _judge(refs: Sequence[ImageRef], settings: SaliencySettings) -> tuple[list[str], list[list[float]]]:
    """Return the stems of the images that could be judged, and the IoU of each head with their default masks."""
    stems, ious = [], []
    reason = "there is none"
    for ref in track(refs, "heads", console=Console(stderr=True), transient=True):
        try:
            image = read_image(ref.path)
            proposed = propose(image, ref.stem, SaliencySettings())
        except Exception as error:
            raise_unless_of_image(error, ref)
            reason = str(error)
            continue
        if isinstance(proposed, Rejection):
            reason = f"{ref.stem}: {proposed.reason}"
            continue
        stems.append(ref.stem)
        ious.append(ious_of_heads(image, proposed.foreground, settings))
    if not stems:
        raise InputError(
            f"none of {len(refs)} images has a default mask to choose a head by ({reason}); give attention_head as a "
            "number, or mean"
        )
    return stems, ious


def _made_from(settings: SaliencySettings) -> dict[str, Any]:
    record = attention_record(settings.features)
    default = {name: value for name, value in asdict(SaliencySettings()).items() if name in ("method", "min_area")}
    return {
        "encoder": settings.encoder,
        "weights_sha256": record["weights_sha256"],
        "layer": settings.attention_layer,
        "mass": settings.attention_mass,
        "feature_size_px": settings.feature_size_px,
        "masks": {**default, "refine": SaliencySettings().refinement},
    }
