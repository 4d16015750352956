"""The command `synth`: writes a labelled synthetic data set, to try every stage without a download."""

from pathlib import Path
from typing import Literal

from densessl.commands.checked_arguments import checked_arguments
from densessl.data.synthetic import SYNTHETIC_CLASS_NAMES, render_data_set
from densessl.data.synthetic_nested import LEVELS
from densessl.data.synthetic_nested_set import render_nested_set
from densessl.errors import InputError


@checked_arguments
def synth(
    out: Path,
    num_images: int = 400,
    size_px: int = 128,
    seed: int = 0,
    scenes: Literal["classes", "nested"] = "classes",
    num_workers: int | None = None,
) -> None:
    """Render a synthetic data set with exact labels in the VOC layout; the same settings give the same bytes.

    Classes differ in outline and pattern and not in colour. Scenes of nested objects come in the COCO layout.
    A run that was stopped goes on where it ended when it is started again with the same settings.

    Args:
        out: folder to write; new, empty, or begun by this command with the same settings.
        num_images: how many images to render, at least 2; a quarter of them form the val split.
        size_px: long side of the images in pixels, 32 to 4096; a third of them are 4:3 or 3:4.
        seed: 0 or above; image i depends on the seed, the size and i alone.
        scenes: classes (objects of six classes, in the VOC layout) or nested (a body with a window with a knob, of 64
            pixels or more, in the COCO layout: each image has a whole, a part and a subpart, whose masks overlap).
        num_workers: processes that render scenes of nested objects; 0 for none but this one, null for as many as there
            are cores, fewer for small sets. They change no byte. Scenes of classes are rendered in one.

    Raises:
        InputError: for settings out of range, and for an output folder that holds anything else.
    """
    if scenes == "nested":
        render_nested_set(out, num_images, size_px, seed, num_workers=num_workers)
        print(f"{num_images} synthetic images of nested objects ({', '.join(LEVELS)}), in the COCO layout: {out}")
        return
    if num_workers is not None:
        raise InputError(
            f"num_workers is {num_workers}, but scenes of classes are rendered in one process; leave it out"
        )
    render_data_set(out, num_images, size_px, seed)
    num_classes = len(SYNTHETIC_CLASS_NAMES) - 1
    print(f"{num_images} synthetic images of {num_classes} classes and background, in the VOC layout: {out}")
