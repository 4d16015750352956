"""The objects of images as separate masks, which may overlap, from any source: proposals, COCO json, id maps, masks."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.coco_segments import SegmentError, segment_to_mask
from densessl.data.masks import FILTER_RECORD, SALIENCY_RECORD, SEGMENT_RECORD, MaskFolder, open_mask_folder
from densessl.errors import InputError, MissingInputError
from densessl.files import read_json
from densessl.structures import ImageRef, MaskArray

PROPOSALS_FILE = "proposals.json"
"""The list of masks in a proposals folder, in the COCO layout, with the `stem` of each image."""

_RECORDS = (SALIENCY_RECORD, SEGMENT_RECORD, FILTER_RECORD)
"""Of the commands that write the file above when they have ended."""

_INSTANCE_FOLDER = "SegmentationObject"

Parts = Literal["auto", "ids", "connected"]


@dataclass(frozen=True)
class ObjectSettings:
    """Which masks are objects to learn.

    Args:
        parts: how maps of ids are read: ids (each id is an object, as in VOC's SegmentationObject), connected (each
            8-connected part of an id is one, as with class maps or binary masks) or auto (ids in a folder named
            SegmentationObject, else connected). COCO files and proposals say themselves what an object is.
        min_area: objects that cover less of their image are left out, a share in [0, 1).
        max_area: objects that cover more are left out (published: 0.9), a share in (0, 1].
    """

    parts: Parts = "auto"
    min_area: float = 0.01
    max_area: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.min_area < self.max_area <= 1:
            raise InputError(
                f"objects.min_area {self.min_area} and objects.max_area {self.max_area} are shares of the image with "
                "0 <= min_area < max_area <= 1; 0.01 and 0.9 are usual"
            )


class ObjectSource(Protocol):
    """Reads the objects of an image; cheap to pickle, so that loader processes can hold it."""

    @property
    def files(self) -> Iterable[Path]:
        """The files that the objects are read from."""
        ...

    def describe(self) -> str:
        """Say in one line what the objects are read from."""
        ...

    def read(self, ref: ImageRef, size: tuple[int, int]) -> tuple[MaskArray, ...]:
        """Return the masks of an image, each bool of the (height, width) `size`; none where it has none.

        Raises `InputError` for masks of another size, and for a file that is broken.
        """
        ...


@dataclass(frozen=True)
class ChosenObjects:
    """The objects of a source within the areas of the settings, largest first (of equals, the first in the source)."""

    source: ObjectSource
    settings: ObjectSettings

    def read(self, ref: ImageRef, size: tuple[int, int]) -> tuple[MaskArray, ...]:
        """Return the objects of an image, each bool of the (height, width) `size`."""
        num_pixels = size[0] * size[1]
        found = [(int(np.count_nonzero(mask)), mask) for mask in self.source.read(ref, size)]
        lowest, highest = self.settings.min_area * num_pixels, self.settings.max_area * num_pixels
        kept = [(area, mask) for area, mask in found if area > 0 and lowest <= area <= highest]
        return tuple(mask for _, mask in sorted(kept, key=lambda entry: -entry[0]))


def open_objects(masks: Path, images: Iterable[ImageRef], settings: ObjectSettings) -> ChosenObjects:
    """Find out what `masks` is, and return the objects of the images in it.

    A file is read as COCO json, a folder with `proposals.json` as proposals, any other as a folder of masks, one file
    for each image (`densessl.data.masks`); void pixels belong to no object.

    Raises:
        MissingInputError: nothing is there.
        InputError: none of the images has masks there, a file is of another kind, or `saliency`, `segment` or
            `filter_masks` has begun the folder and not ended.
    """
    refs = tuple(images)
    source: ObjectSource
    if masks.is_file():
        source = open_coco_objects(masks, refs)
    elif (masks / PROPOSALS_FILE).is_file():
        source = open_coco_objects(masks / PROPOSALS_FILE, refs)
    elif begun := [name for name in _RECORDS if (masks / name).is_file()]:
        raise InputError(
            f"{masks} has {begun[0]} and no {PROPOSALS_FILE}: what makes its masks was stopped, or still runs; repeat "
            "that command, which goes on where it stopped"
        )
    else:
        parts = settings.parts
        if parts == "auto":
            parts = "ids" if masks.name == _INSTANCE_FOLDER else "connected"
        source = MaskFolderObjects(open_mask_folder(masks, refs), parts)
    return ChosenObjects(source, settings)


@dataclass(frozen=True)
class MaskFolderObjects:
    """The objects of a folder of masks: its ids, or the connected parts of each id or of the foreground."""

    folder: MaskFolder
    parts: Literal["ids", "connected"]

    @property
    def files(self) -> Iterable[Path]:
        return self.folder.files.values()

    def describe(self) -> str:
        what = "each id an object" if self.parts == "ids" else "each connected part of an id an object"
        return f"{self.folder.describe()}; {what}"

    def read(self, ref: ImageRef, size: tuple[int, int]) -> tuple[MaskArray, ...]:
        if ref.stem not in self.folder.files:
            return ()
        reading = self.folder.read(ref, size)
        ids = reading.foreground.astype(np.int64) if reading.instances is None else reading.instances
        masks = [ids == identifier for identifier in np.unique(ids[ids > 0])]
        if self.parts == "ids":
            return tuple(masks)
        return tuple(part for mask in masks for part in _connected(mask))


@dataclass(frozen=True)
class CocoObjects:
    """The annotated objects of a COCO file, crowds left out; `records` are as in `densessl.data.coco.CocoLabels`."""

    path: Path
    records: Mapping[str, bytes] = field(repr=False)

    @property
    def files(self) -> Iterable[Path]:
        return (self.path,)

    def describe(self) -> str:
        return f"objects of {len(self.records):,} images in {self.path}"

    def read(self, ref: ImageRef, size: tuple[int, int]) -> tuple[MaskArray, ...]:
        record = self.records.get(ref.stem)
        if record is None:
            return ()
        height, width, segmentations = json.loads(zlib.decompress(record))
        if segmentations and (height, width) != tuple(size):
            raise InputError(
                f"{self.path} describes image {ref.stem} as {height} x {width}, but it is {size[0]} x {size[1]} "
                "(height x width); give the annotations of these images"
            )
        try:
            return tuple(segment_to_mask(segmentation, height, width) for segmentation in segmentations)
        except SegmentError as error:
            raise InputError(
                f"an object of image {ref.stem} in {self.path} has {error}; correct or remove it"
            ) from error


def open_coco_objects(path: Path, images: Sequence[ImageRef]) -> CocoObjects:
    """Read a COCO instances file, in which images are known by `stem`, or else by `file_name` without its suffix.

    Annotations of images that it does not list count for nothing, as in pycocotools.

    Raises:
        MissingInputError: no such file.
        InputError: a file that is not COCO's, an annotation without a segmentation, or a file that describes none of
            the images.
    """
    content = read_json(path, "the COCO instances format (images, annotations)")
    wanted = {ref.stem for ref in images}
    try:
        by_image: dict[Any, list[Any]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            if annotation.get("iscrowd", 0) or annotation["image_id"] not in by_image:
                continue
            if "segmentation" not in annotation:
                raise InputError(
                    f"annotation {annotation.get('id')} of {path} has no segmentation, only a box or nothing; remove "
                    "it, or give masks"
                )
            by_image[annotation["image_id"]].append(annotation["segmentation"])
        records: dict[str, bytes] = {}
        for image in content["images"]:
            stem = str(image.get("stem", PurePosixPath(image["file_name"]).with_suffix("")))
            if stem in wanted:
                record = [int(image["height"]), int(image["width"]), by_image[image["id"]]]
                records[stem] = zlib.compress(json.dumps(record, separators=(",", ":")).encode("utf-8"), level=1)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is not in the COCO instances format ({type(error).__name__}: {error}); it needs images (id, "
            "file_name, height, width) and annotations (image_id, segmentation)"
        ) from error
    if not records:
        names = ", ".join(sorted(wanted)[:3])
        raise MissingInputError(
            f"{path} describes none of the {len(wanted)} images ({names}, ...); its images need a `stem`, or a "
            "file_name, that is the path below the image folder"
        )
    return CocoObjects(path, records)


def _connected(mask: NDArray[np.bool_]) -> list[MaskArray]:
    """Return the 8-connected parts of a mask, in reading order."""
    num_labels, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [labels == label for label in range(1, num_labels)]
