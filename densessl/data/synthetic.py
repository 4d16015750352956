"""The synthetic data set: renders scenes into a VOC layout, the same bytes for the same settings."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densessl.data.label_maps import write_label_map
from densessl.data.synthetic_placement import OBJECT_CLASSES
from densessl.data.synthetic_scenes import Scene, render_scene
from densessl.errors import InputError
from densessl.files import make_folder, read_json, write_bytes, write_json, write_text
from densessl.structures import ImageArray

SYNTHETIC_CLASS_NAMES = ("background", *(shape for shape, _ in OBJECT_CLASSES))
"""Class names by index: background, then one class per pair of outline family and pattern family."""

RENDERER_VERSION = 1  # raised whenever the same settings give other bytes
JPEG_QUALITY = 95
RECORD_FILE = "synth.json"


def render_data_set(out: Path, num_images: int, size_px: int, seed: int, val_fraction: float = 0.25) -> Path:
    """Render `num_images` labelled scenes into `out` in the VOC layout and return `out`.

    Image i depends on `seed`, `size_px` and i alone. Written are JPEGImages, SegmentationClass (class per
    pixel), SegmentationObject (1 is the main object), ImageSets/Segmentation/{train,val,train_aug}.txt,
    class_names.txt and synth.json. Every block of six images holds each class once as the main object.
    A folder begun with the same settings is completed: images that are there are kept.

    num_images: at least 2. size_px: long side, 32-4096. seed: 0 or above. val_fraction: share of the images
    in the val split, above 0 and below 1; both splits get at least one image.
    Raises `InputError` for settings out of range and for an `out` that holds anything but this data set.
    """
    check_settings(num_images, size_px, seed, val_fraction)
    settings: dict[str, Any] = {
        "num_images": num_images,
        "size_px": size_px,
        "seed": seed,
        "val_fraction": val_fraction,
    }
    open_folder(out, {"format": "densessl synthetic data set", "version": RENDERER_VERSION, "settings": settings})
    stems = [f"synth_{index:06d}" for index in range(num_images)]
    for index, stem in enumerate(stems):
        paths = _image_files(out, stem)
        if not all(path.is_file() for path in paths):
            _write_scene(render_synthetic_image(index, size_px, seed), *paths)
    _write_lists(out, stems, val_indices(num_images, val_fraction))
    return out


def render_synthetic_image(index: int, size_px: int, seed: int) -> Scene:
    """Render image `index` (from 0) of the data set of this size and seed, without writing it."""
    generator = np.random.default_rng((seed, index, 1))
    return render_scene(_main_class(index, seed), size_px, generator)


def _main_class(index: int, seed: int) -> int:
    block, position = divmod(index, len(OBJECT_CLASSES))
    return 1 + int(np.random.default_rng((seed, block, 2)).permutation(len(OBJECT_CLASSES))[position])


def check_settings(num_images: int, size_px: int, seed: int, val_fraction: float) -> None:
    if num_images < 2:
        raise InputError(f"num_images is {num_images}, but train and val need an image each; pass 2 or more")
    if not 32 <= size_px <= 4096:
        raise InputError(f"size_px is {size_px}, but the long side must lie in 32-4096 pixels; pass such a size")
    if seed < 0:
        raise InputError(f"seed is {seed}, but a seed is 0 or above; pass such a seed")
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction is {val_fraction}, but it must lie between 0 and 1, both exclusive; pass 0.25")


def open_folder(out: Path, description: dict[str, Any]) -> None:
    """Make the folder and record the settings, or check that it was begun with the same ones."""
    make_folder(out)
    record = out / RECORD_FILE
    if record.is_file():
        found = read_json(record, "the settings of a synthetic data set")
        if found != description:
            raise InputError(
                f"{out} holds a synthetic data set of {_in_words(found)}, but {_in_words(description)} "
                "were asked for; pass the same settings or another output folder"
            )
    elif any(out.iterdir()):
        raise InputError(
            f"{out} is not empty and has no {RECORD_FILE}, so it is not a synthetic data set; "
            "pass a new or an empty output folder"
        )
    else:
        write_json(record, description)


def _in_words(description: Any) -> str:
    settings = description.get("settings") if isinstance(description, dict) else None
    if not isinstance(settings, dict):
        return "unknown settings"
    words = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{words}, renderer version {description.get('version')}"


def _image_files(out: Path, stem: str) -> tuple[Path, Path, Path]:
    return (
        out / "JPEGImages" / f"{stem}.jpg",
        out / "SegmentationClass" / f"{stem}.png",
        out / "SegmentationObject" / f"{stem}.png",
    )


def _write_scene(scene: Scene, image: Path, classes: Path, instances: Path) -> None:
    write_label_map(classes, scene.classes)
    write_label_map(instances, scene.instances)
    write_bytes(image, encode_jpeg(scene.image))


def encode_jpeg(image: ImageArray) -> bytes:
    is_encoded, content = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not is_encoded:
        raise RuntimeError(f"OpenCV could not encode an image of shape {image.shape} as JPEG")
    return content.tobytes()


def val_indices(num_images: int, val_fraction: float) -> set[int]:
    """Choose evenly spread images for val: image i where the running count of val images steps up."""
    chosen = {i for i in range(num_images) if int((i + 1) * val_fraction + 0.5) > int(i * val_fraction + 0.5)}
    if not chosen:
        return {num_images - 1}
    return chosen if len(chosen) < num_images else chosen - {0}


def _write_lists(out: Path, stems: list[str], val_indices: set[int]) -> None:
    train = [stem for index, stem in enumerate(stems) if index not in val_indices]
    val = [stem for index, stem in enumerate(stems) if index in val_indices]
    lists = out / "ImageSets" / "Segmentation"
    for name, split in (("train", train), ("val", val), ("train_aug", train)):
        write_text(lists / f"{name}.txt", "".join(f"{stem}\n" for stem in split))
    write_text(out / "class_names.txt", "".join(f"{name}\n" for name in SYNTHETIC_CLASS_NAMES))
