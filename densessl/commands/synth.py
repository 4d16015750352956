"""The command `synth`: writes a labelled synthetic data set, to try every stage without a download."""

from pathlib import Path

from densessl.data.synthetic import SYNTHETIC_CLASS_NAMES, render_data_set


def synth(out: Path, num_images: int = 400, size_px: int = 128, seed: int = 0) -> None:
    """Render a synthetic data set with exact labels in the VOC layout; the same settings give the same bytes.

    Classes differ in outline and pattern and not in colour. A run that was stopped goes on where it ended
    when it is started again with the same settings.

    Args:
        out: folder to write; new, empty, or begun by this command with the same settings.
        num_images: how many images to render, at least 2; a quarter of them form the val split.
        size_px: long side of the images in pixels, 32 to 4096; a third of them are 4:3 or 3:4.
        seed: 0 or above; image i depends on the seed, the size and i alone.

    Raises:
        InputError: for settings out of range, and for an output folder that holds anything else.
    """
    render_data_set(out, num_images, size_px, seed)
    num_classes = len(SYNTHETIC_CLASS_NAMES) - 1
    print(f"{num_images} synthetic images of {num_classes} classes and background, in the VOC layout: {out}")
