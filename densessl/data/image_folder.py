"""A plain folder of images, without labels, as an image set."""

from pathlib import Path

from densessl.data.images import list_images
from densessl.errors import InputError
from densessl.structures import ImageSet


def open_image_folder(folder: Path, out: Path | None = None) -> ImageSet:
    """Return every image below `folder` as an image set without labels, named after the folder.

    out: where pictures will be written. Below `folder` they would count as images of it from then on.

    Raises as `densessl.data.images.list_images` does: no folder, no image, two images with one stem; and `InputError`
    where `out` is the folder or lies in it.
    """
    if out is not None and out.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"output folder {out} lies in the image folder {folder}, so that what is written there would be taken for "
            "images of it; choose an output folder elsewhere (--out)"
        )
    return ImageSet(name=folder.resolve().name, images=list_images(folder))
