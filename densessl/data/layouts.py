"""Opening and checking a data set by its root folder: the layout (VOC, COCO, plain images) is found by
looking."""

from pathlib import Path

from densessl.data.checks import DataReport, Progress, check_coco, check_image_folder, check_voc
from densessl.data.coco import COCO_LAYOUT, coco_splits, open_coco
from densessl.data.image_folder import open_image_folder
from densessl.data.voc import VOC_LAYOUT, find_voc_tree, open_voc
from densessl.errors import InputError, MissingInputError
from densessl.structures import ImageSet

__all__ = ["DataReport", "check_data_set", "open_data_set", "open_images"]

_VOC_PARTS = ("JPEGImages", "SegmentationClass", "ImageSets")
_VOC_PLACES = ("", "VOC2012", "VOCdevkit/VOC2012")


def open_data_set(root: Path, split: str) -> ImageSet:
    """Return one split of a labelled data set in the VOC or the COCO layout.

    Raises `MissingInputError` where `root` is absent or has neither layout, and whatever `open_voc` and
    `open_coco` raise.
    """
    _check_folder(root)
    if coco_splits(root):
        return open_coco(root, split)
    if find_voc_tree(root) is not None:
        return open_voc(root, split)
    raise MissingInputError(
        f"{root} is neither in the VOC layout ({VOC_LAYOUT}) nor in the COCO layout ({COCO_LAYOUT}); "
        "arrange it so, or give a plain folder of images as such"
    )


def open_images(images: Path | None, data: Path | None, split: str, out: Path | None = None) -> ImageSet:
    """Return the images of a plain folder (`images`) or of one split of a data set (`data`).

    Raises `InputError` unless exactly one of the two is given, and where `out`, in which pictures will be written,
    lies in the plain folder.
    """
    if images is not None and data is None:
        return open_image_folder(images, out)
    if data is not None and images is None:
        return open_data_set(data, split)
    given = "neither" if images is None else f"both ({images} and {data})"
    raise InputError(
        f"give either a folder of images or a data set with splits, got {given}: give --images DIR "
        "(images=) or --data ROOT (data=)"
    )


def check_data_set(root: Path, progress: Progress | None = None) -> DataReport:
    """Decode every image and label map below `root` and report what is missing, broken or inconsistent.

    Broken files are faults in the report. Raises `MissingInputError` only where `root` is absent, and
    `InputError` where it holds no data set and no image at all.
    """
    _check_folder(root)
    if (root / "annotations").is_dir():
        return check_coco(root, progress)
    places = [root / place for place in _VOC_PLACES]
    if any((place / part).is_dir() for place in places for part in _VOC_PARTS) or find_voc_tree(root) is not None:
        return check_voc(root, progress)
    return check_image_folder(root, progress)


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise MissingInputError(f"no data folder {root}; expected {VOC_LAYOUT} or {COCO_LAYOUT}")
    if not root.is_dir():
        raise InputError(f"{root} is a file, not a folder; give the root folder of the data set")
