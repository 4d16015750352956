"""Which images can be trained on: those with a mask of the right size that is neither empty nor everything."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from densessl.data.images import image_size, read_image
from densessl.data.masks import MaskFolder
from densessl.data.object_masks import ChosenObjects
from densessl.errors import InputError
from densessl.structures import ImageRef, ImageSet, Rejection


def usable_images(
    images: ImageSet, masks: MaskFolder, min_foreground: float, max_foreground: float
) -> tuple[tuple[ImageRef, ...], tuple[Rejection, ...]]:
    """Split a data set into the images to train on and those left out, each with the reason.

    Args:
        images: the data set.
        masks: its masks.
        min_foreground, max_foreground: shares of the image, in [0, 1], between which the foreground must lie.

    Raises:
        InputError: a mask of another size than its image (the masks belong to other images), or no image is usable.
    """
    missing = set(masks.missing)
    with ThreadPoolExecutor() as pool:
        reasons = list(
            pool.map(
                lambda ref: "no mask" if ref.stem in missing else _fault(ref, masks, min_foreground, max_foreground),
                images.images,
            )
        )
    usable = tuple(ref for ref, reason in zip(images.images, reasons, strict=True) if reason is None)
    rejected = tuple(Rejection(ref.stem, reason) for ref, reason in _pairs(images, reasons))
    if not usable:
        examples = "; ".join(f"{item.stem}: {item.reason}" for item in rejected[:3])
        raise InputError(f"none of {len(images)} images has a usable mask ({examples}); check the masks")
    return usable, rejected


def readable_images(images: tuple[ImageRef, ...]) -> tuple[tuple[ImageRef, ...], tuple[Rejection, ...]]:
    """Decode every image once, so that a damaged one is left out and does not stop the training.

    Raises:
        InputError: none can be read.
    """

    def fault(ref: ImageRef) -> Rejection | None:
        try:
            read_image(ref.path)
        except InputError as error:
            return Rejection(ref.stem, str(error))
        return None

    with ThreadPoolExecutor() as pool:
        faults = list(pool.map(fault, images))
    broken = tuple(item for item in faults if item is not None)
    if len(broken) == len(images):
        raise InputError(f"none of {len(images)} images can be read; the first: {broken[0].reason}")
    return tuple(ref for ref, item in zip(images, faults, strict=True) if item is None), broken


def images_with_objects(images: ImageSet, objects: ChosenObjects) -> tuple[tuple[ImageRef, ...], tuple[Rejection, ...]]:
    """Split a data set into the images that can be read and have an object, and those left out with the reason.

    Raises:
        InputError: no image is usable.
    """
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(lambda ref: _object_fault(ref, objects), images.images))
    usable = tuple(ref for ref, reason in zip(images.images, reasons, strict=True) if reason is None)
    rejected = tuple(Rejection(ref.stem, reason) for ref, reason in _pairs(images, reasons))
    if not usable:
        examples = "; ".join(f"{item.stem}: {item.reason}" for item in rejected[:3])
        raise InputError(f"none of {len(images)} images has an object ({examples}); check the masks")
    return usable, rejected


def _object_fault(ref: ImageRef, objects: ChosenObjects) -> str | None:
    try:
        image = read_image(ref.path)
        if objects.read(ref, (image.shape[0], image.shape[1])):
            return None
    except InputError as error:
        return str(error)
    lowest, highest = objects.settings.min_area, objects.settings.max_area
    return f"no object of {lowest:.1%} to {highest:.1%} of the image"


def _pairs(images: ImageSet, reasons: list[str | None]) -> Iterator[tuple[ImageRef, str]]:
    return ((ref, reason) for ref, reason in zip(images.images, reasons, strict=True) if reason is not None)


def _fault(ref: ImageRef, masks: MaskFolder, lowest: float, highest: float) -> str | None:
    try:
        size = image_size(ref.path)
    except InputError as error:
        return str(error)
    share = float(masks.read(ref, size).foreground.mean())
    if share < lowest:
        return f"foreground {share:.1%} is under {lowest:.0%} of the image"
    if share > highest:
        return f"foreground {share:.1%} is over {highest:.0%} of the image"
    return None
