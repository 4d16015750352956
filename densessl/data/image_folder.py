"""A plain folder of images, without labels, as an image set."""

from pathlib import Path

from densessl.data.images import list_images
from densessl.structures import ImageSet


def open_image_folder(folder: Path) -> ImageSet:
    """Return every image below `folder` as an image set without labels, named after the folder.

    Raises as `densessl.data.images.list_images` does: no folder, no image, two images with one stem.
    """
    return ImageSet(name=folder.resolve().name, images=list_images(folder))
