"""Data sets in the COCO layout: annotations/instances_<split>.json and the images in <split>/."""

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from densessl.data.coco_segments import SegmentError, segment_to_mask
from densessl.errors import InputError, MissingInputError
from densessl.files import read_json
from densessl.structures import IGNORE, ImageRef, ImageSet, InstanceMap, LabelMap, MaskArray

COCO_LAYOUT = "annotations/instances_<split>.json and the images in <split>/ (or images/<split>/)"

_PREFIX = "instances_"


@dataclass(frozen=True)
class CocoLabels:
    """Reads label and instance maps of one COCO split; cheap to pickle, so that worker processes can hold it.

    `records` holds for every stem the compressed JSON of `[height, width, [[label, is crowd, segmentation, id]]]`, and
    `image_ids` the id of its image in the file. `category_ids` are those of labels 1, 2, ...
    """

    source: Path
    num_classes: int
    num_stray_annotations: int
    records: Mapping[str, bytes] = field(repr=False)
    image_ids: Mapping[str, Any] = field(repr=False)
    category_ids: tuple[Any, ...]

    def __call__(self, ref: ImageRef) -> LabelMap:
        """Return the label map (height, width): 0 background, 1.. classes, `IGNORE` in crowds.

        Larger objects are painted first, so that smaller ones lie over them; objects lie over crowds.
        """
        height, width, annotated = self._masks(ref)
        label_map = np.zeros((height, width), dtype=np.int64)
        for _, is_crowd, mask in annotated:
            if is_crowd:
                label_map[mask] = IGNORE
        for label, is_crowd, mask in _largest_first(annotated):
            if not is_crowd:
                label_map[mask] = label
        return label_map

    def instances(self, ref: ImageRef) -> InstanceMap:
        """Return the instance map (height, width): 0 background and crowds, 1.. the visible objects."""
        height, width, annotated = self._masks(ref)
        objects = [(number, is_crowd, mask) for number, (_, is_crowd, mask) in enumerate(annotated, start=1)]
        instance_map = np.zeros((height, width), dtype=np.int64)
        for number, is_crowd, mask in _largest_first(objects):
            if not is_crowd:
                instance_map[mask] = number
        visible = np.unique(instance_map[instance_map > 0])
        return np.where(instance_map > 0, np.searchsorted(visible, instance_map) + 1, 0)

    def _masks(self, ref: ImageRef) -> tuple[int, int, list[tuple[int, bool, MaskArray]]]:
        if ref.stem not in self.records:
            raise MissingInputError(f"image {ref.stem} is not listed in {self.source}; add it there or leave it out")
        height, width, annotations = json.loads(zlib.decompress(self.records[ref.stem]))
        annotated = []
        for label, is_crowd, segmentation, identifier in annotations:
            try:
                annotated.append((label, bool(is_crowd), segment_to_mask(segmentation, height, width)))
            except SegmentError as error:
                raise InputError(
                    f"annotation {identifier} of image {ref.stem} in {self.source} has {error}; correct or remove it"
                ) from error
        return height, width, annotated


def open_coco(root: Path, split: str) -> ImageSet:
    """Return one split of a COCO tree as an image set.

    `split` is the name in `instances_<split>.json`, or a beginning of it that fits one file (`val` for
    `val2017`). Category ids become 1, 2, ... in ascending order, 0 is background. An image that is listed but
    absent stays in the set, and reading it raises `MissingInputError`.

    Raises `MissingInputError` for a missing file or folder, `InputError` for a file that is not COCO's.
    """
    name = _resolve_split(root, split)
    source = root / "annotations" / f"{_PREFIX}{name}.json"
    content = read_json(source, "the COCO instances format (images, annotations, categories)")
    folder = _image_folder(root, name)
    try:
        images, labels, class_names = _parse(content, folder, source)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{source} is not in the COCO instances format ({type(error).__name__}: {error}); it needs "
            "images (id, file_name, height, width), annotations (image_id, category_id, segmentation) and "
            "categories (id, name)"
        ) from error
    if not any(ref.path.is_file() for ref in images):
        raise MissingInputError(f"none of the {len(images)} images of {source} is in {folder}; expected {COCO_LAYOUT}")
    return ImageSet(name, images, class_names, labels)


def read_instances(image_set: ImageSet, ref: ImageRef) -> InstanceMap:
    """Return the instance map of an image of a set opened by `open_coco` (see `CocoLabels.instances`)."""
    if not isinstance(image_set.labels, CocoLabels):
        raise InputError(f"image set {image_set.name} has no instances; only sets in the COCO layout have")
    return image_set.labels.instances(ref)


def image_ids(image_set: ImageSet) -> tuple[Any, ...]:
    """Return the id of each image in the COCO file that the set was opened from; of other sets 1, 2, ... in order."""
    if isinstance(image_set.labels, CocoLabels):
        return tuple(image_set.labels.image_ids[ref.stem] for ref in image_set.images)
    return tuple(range(1, len(image_set) + 1))


def result_category(image_set: ImageSet) -> Any:
    """Return the category id that results without classes must have: 1, or else the first of the set's COCO file.

    `COCOeval` passes over results of categories that the data set lacks, with `useCats` 0 too.
    """
    known = image_set.labels.category_ids if isinstance(image_set.labels, CocoLabels) else ()
    return known[0] if known and 1 not in known else 1


def coco_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the splits that have an instances file, sorted; empty where the layout is not
    COCO's."""
    files = (root / "annotations").glob(f"{_PREFIX}*.json")
    return tuple(sorted(path.stem.removeprefix(_PREFIX) for path in files))


def _resolve_split(root: Path, split: str) -> str:
    splits = coco_splits(root)
    if split in splits:
        return split
    matches = [name for name in splits if name.startswith(split)]
    if len(matches) == 1:
        return matches[0]
    problem = "no" if not matches else f"more than one ({', '.join(matches)})"
    raise MissingInputError(
        f"{problem} split {split} in {root}/annotations (splits there: {', '.join(splits) or 'none'}); "
        f"expected {COCO_LAYOUT}"
    )


def _image_folder(root: Path, split: str) -> Path:
    for folder in (root / split, root / "images" / split):
        if folder.is_dir():
            return folder
    raise MissingInputError(f"no image folder {root / split}; expected {COCO_LAYOUT}")


def _parse(content: Any, folder: Path, source: Path) -> tuple[tuple[ImageRef, ...], CocoLabels, tuple[str, ...]]:
    categories = sorted((category["id"], str(category["name"])) for category in content["categories"])
    label_of = {identifier: label for label, (identifier, _) in enumerate(categories, start=1)}
    if len(label_of) < len(categories) or len(label_of) >= IGNORE:
        raise InputError(f"{source} has {len(categories)} categories; ids must differ and there may be {IGNORE - 1}")
    by_image: dict[Any, list[list[Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(_record(annotation, label_of, source))
    paths: dict[str, Path] = {}
    records: dict[str, bytes] = {}
    stems: dict[Any, str] = {}
    for image in content["images"]:
        stem, path = _locate(image["file_name"], folder, source)
        if stem in paths:
            raise InputError(f"{source} lists image {stem} twice; list every image once")
        first = stems.setdefault(image["id"], stem)
        if first != stem:
            raise InputError(
                f"{source} gives the images {first} and {stem} the id {image['id']!r}; ids must differ, since "
                "annotations name their image by it"
            )
        paths[stem] = path
        record = [
            _side(image, "height", source),
            _side(image, "width", source),
            by_image.pop(image["id"], []),
        ]
        records[stem] = zlib.compress(json.dumps(record, separators=(",", ":")).encode("utf-8"), level=1)
    if not paths:
        raise InputError(f"{source} lists no image; a split needs one at least")
    num_stray = sum(len(annotations) for annotations in by_image.values())
    ids = {stem: identity for identity, stem in stems.items()}
    labels = CocoLabels(source, len(label_of) + 1, num_stray, records, ids, tuple(label_of))
    images = tuple(ImageRef(stem, paths[stem]) for stem in sorted(paths))
    return images, labels, ("background", *(name for _, name in categories))


def _record(annotation: Any, label_of: Mapping[Any, int], source: Path) -> list[Any]:
    category, identifier = annotation["category_id"], annotation.get("id")
    if category not in label_of:
        raise InputError(
            f"annotation {identifier} in {source} has category_id {category}, which is not among the "
            "categories; add the category or correct the id"
        )
    return [label_of[category], annotation.get("iscrowd", 0), annotation.get("segmentation"), identifier]


def _locate(file_name: str, folder: Path, source: Path) -> tuple[str, Path]:
    relative = PurePosixPath(file_name)
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise InputError(f"{source} has the file_name {file_name!r}; it must lie below {folder}")
    return relative.with_suffix("").as_posix(), folder / file_name


def _side(image: Any, name: str, source: Path) -> int:
    value = image[name]
    if not isinstance(value, int) or not 0 < value < 65536:
        raise InputError(f"{source} gives image {image['file_name']} the {name} {value!r}; it must be 1-65535 pixels")
    return value


def _largest_first(annotated: list[tuple[int, bool, MaskArray]]) -> list[tuple[int, bool, MaskArray]]:
    return sorted(annotated, key=lambda entry: -int(np.count_nonzero(entry[2])))
