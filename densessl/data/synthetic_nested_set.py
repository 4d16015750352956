"""The synthetic data set of nested objects, in the COCO layout: the same bytes for the same settings."""

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from densessl.data.synthetic import check_settings, encode_jpeg, open_folder, val_indices
from densessl.data.synthetic_nested import LEVELS, NestedScene, render_nested_scene
from densessl.errors import InputError
from densessl.files import write_bytes, write_json
from densessl.structures import MaskArray

NESTED_RENDERER_VERSION = 1  # raised whenever the same settings give other bytes
_SMALLEST_PX = 64


def render_nested_set(out: Path, num_images: int, size_px: int, seed: int, val_fraction: float = 0.25) -> Path:
    """Render scenes of nested objects into `out` in the COCO layout and return `out`.

    Written are train/ and val/ with the images, annotations/instances_{train,val}.json with the three masks of each as
    annotations of the categories whole, part and subpart (which overlap: a part lies in its whole), and synth.json.
    Image i depends on `seed`, `size_px` and i alone. Images that are there are kept.

    num_images: at least 2. size_px: long side, 64-4096. seed: 0 or above. val_fraction: share of the images in the val
    split. Raises `InputError` for settings out of range and for an `out` that holds anything but this data set.
    """
    check_settings(num_images, size_px, seed, val_fraction)
    if size_px < _SMALLEST_PX:
        raise InputError(f"size_px is {size_px}, but nested objects need {_SMALLEST_PX} or more; pass such a size")
    settings: dict[str, Any] = {
        "num_images": num_images,
        "size_px": size_px,
        "seed": seed,
        "val_fraction": val_fraction,
    }
    description = {"format": "densessl nested objects", "version": NESTED_RENDERER_VERSION, "settings": settings}
    open_folder(out, description)
    in_val = val_indices(num_images, val_fraction)
    for split in ("train", "val"):
        indices = [index for index in range(num_images) if (index in in_val) == (split == "val")]
        _write_split(out, split, indices, size_px, seed)
    return out


def render_nested_image(index: int, size_px: int, seed: int) -> NestedScene:
    """Render image `index` (from 0) of the data set of this size and seed, without writing it."""
    return render_nested_scene(size_px, np.random.default_rng((seed, index, 3)))


def _write_split(out: Path, split: str, indices: list[int], size_px: int, seed: int) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in indices:
        scene, name = render_nested_image(index, size_px, seed), f"nested_{index:06d}.jpg"
        height, width = scene.image.shape[:2]
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for level, mask in enumerate(scene.masks, start=1):
            identity = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": level}
            annotations.append({**identity, **_annotation(mask)})
        if not (out / split / name).is_file():
            write_bytes(out / split / name, encode_jpeg(scene.image))
    categories = [{"id": number, "name": name} for number, name in enumerate(LEVELS, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(out / "annotations" / f"instances_{split}.json", content, indent=None)


def _annotation(mask: MaskArray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    encoded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
        "bbox": [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1],
        "area": int(mask.sum()),
        "iscrowd": 0,
    }
