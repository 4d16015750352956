"""The synthetic data set of nested objects, in the COCO layout: the same bytes for the same settings."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from densessl.data.coco_annotations import mask_annotation
from densessl.data.synthetic import check_settings, encode_jpeg, open_folder, val_indices
from densessl.data.synthetic_nested import LEVELS, NestedScene, render_nested_scene
from densessl.data.worker_pool import choose_num_workers, in_order
from densessl.errors import InputError
from densessl.files import write_bytes, write_json

SPLITS = ("train", "val")
ANNOTATIONS_FILES = tuple(f"annotations/instances_{split}.json" for split in SPLITS)
NESTED_FORMAT = "densessl nested objects"
NESTED_RENDERER_VERSION = 1  # raised whenever the same settings give other bytes
_SMALLEST_PX = 64
_IMAGES_PER_WORKER = 128  # a scene takes a tenth of a second, and starting a process a second
_ImageAndMasks = tuple[dict[str, Any], list[dict[str, Any]]]  # what the json says of them; the masks have no number yet


def render_nested_set(
    out: Path, num_images: int, size_px: int, seed: int, val_fraction: float = 0.25, num_workers: int | None = None
) -> Path:
    """Render scenes of nested objects into `out` in the COCO layout and return `out`.

    Written are train/ and val/ with the images, annotations/instances_{train,val}.json with the three masks of each as
    annotations of the categories whole, part and subpart (which overlap: a part lies in its whole), and synth.json.
    Image i depends on `seed`, `size_px` and i alone. Images that are there are kept.

    num_images: at least 2. size_px: long side, 64-4096. seed: 0 or above. val_fraction: share of the images in the val
    split. num_workers: processes that share the work and change no byte; 0 for none but this one, `None` for as many as
    there are cores, fewer for small sets. Raises `InputError` for settings out of range, for an `out` that holds
    anything but this data set, and where a process was killed.
    """
    check_settings(num_images, size_px, seed, val_fraction)
    if num_workers is not None and num_workers < 0:
        raise InputError(f"num_workers is {num_workers}; it must be 0 or more")
    if size_px < _SMALLEST_PX:
        raise InputError(f"size_px is {size_px}, but nested objects need {_SMALLEST_PX} or more; pass such a size")
    settings: dict[str, Any] = {
        "num_images": num_images,
        "size_px": size_px,
        "seed": seed,
        "val_fraction": val_fraction,
    }
    description = {"format": NESTED_FORMAT, "version": NESTED_RENDERER_VERSION, "settings": settings}
    open_folder(out, description)
    in_val = val_indices(num_images, val_fraction)
    for split in SPLITS:
        indices = [index for index in range(num_images) if (index in in_val) == (split == "val")]
        workers = choose_num_workers(len(indices), _IMAGES_PER_WORKER) if num_workers is None else num_workers
        _write_split(out, split, indices, functools.partial(_write_image, out / split, size_px, seed), workers)
    return out


def render_nested_image(index: int, size_px: int, seed: int) -> NestedScene:
    """Render image `index` (from 0) of the data set of this size and seed, without writing it."""
    return render_nested_scene(size_px, np.random.default_rng((seed, index, 3)))


def _write_split(
    out: Path, split: str, indices: list[int], work: "functools.partial[_ImageAndMasks]", num_workers: int
) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, masks in in_order(work, indices, num_workers):
        images.append(image)
        annotations += [{"id": number, **mask} for number, mask in enumerate(masks, start=len(annotations) + 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(LEVELS, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(out / "annotations" / f"instances_{split}.json", content, indent=None)


def _write_image(folder: Path, size_px: int, seed: int, index: int) -> _ImageAndMasks:
    """Render a scene, write its image unless it is there, and return what the json says of it."""
    scene, name = render_nested_image(index, size_px, seed), f"nested_{index:06d}.jpg"
    height, width = scene.image.shape[:2]
    if not (folder / name).is_file():
        write_bytes(folder / name, encode_jpeg(scene.image))
    masks = [
        {"image_id": index + 1, "category_id": level, **mask_annotation(mask)}
        for level, mask in enumerate(scene.masks, start=1)
    ]
    return {"id": index + 1, "file_name": name, "height": height, "width": width}, masks
