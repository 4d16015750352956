"""A data set of pasted scenes, in the COCO layout: every image of a set with objects of other images in it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densessl.data.coco_annotations import mask_annotation
from densessl.data.images import image_size, read_image
from densessl.data.object_masks import ChosenObjects
from densessl.data.pasted_scenes import PasteSettings, Scene, cut_out, paste
from densessl.data.synthetic import encode_jpeg
from densessl.data.worker_pool import choose_num_workers, in_order
from densessl.errors import InputError
from densessl.files import (
    check_unused_folder,
    describe_difference,
    make_folder,
    read_json,
    remove_abandoned_writes,
    state_of_files,
    write_bytes,
    write_json,
)
from densessl.structures import ImageRef, ImageSet, Rejection

SPLIT = "train"
RECORD_FILE = "pasted.json"
ANNOTATIONS_FILE = f"annotations/instances_{SPLIT}.json"
VERSION = 1  # raised whenever the same settings give other bytes

_TRIALS = 8
"""Objects and places that are drawn before an image gets one object less."""
_DONOR_AREAS = (0.03, 0.5)
"""Shares of its image that an object may cover to be pasted: smaller ones are blurred, larger ones often scenery."""
_IMAGES_PER_WORKER = 64


@dataclass(frozen=True)
class PastedSet:
    """What was written: images, their objects, those of them that were pasted, and images left out with the reason."""

    folder: Path
    num_images: int
    num_objects: int
    num_pasted: int
    rejected: tuple[Rejection, ...]

    @property
    def annotations(self) -> Path:
        """The objects, in the COCO instances format."""
        return self.folder / ANNOTATIONS_FILE


@dataclass(frozen=True)
class _Result:
    """One image after its turn; `masks` as run lengths, the last `num_pasted` of them pasted."""

    stem: str
    size: tuple[int, int]
    masks: tuple[dict[str, Any], ...]
    num_pasted: int
    reason: str | None = None


def write_pasted_set(
    images: ImageSet,
    objects: ChosenObjects,
    out: Path,
    settings: PasteSettings,
    seed: int,
    supervision: str,
    num_workers: int | None = None,
) -> PastedSet:
    """Paste objects of other images into the images of a set, and write all of them into `out`, in the COCO layout.

    Pasted are objects that are the only one of their image within the areas of `objects`, and cover 3 to 50 % of it: of
    several it is not known whether they are parts of one. Written are train/STEM.jpg (train/STEM_scene2.jpg and so on
    for further scenes of an image), annotations/instances_train.json with the visible masks, and pasted.json. What
    becomes of an image depends on the seed, its place in the set, and the set; its first scene is the same however many
    there are. A call that was stopped is repeated with the same settings: images that are there are not written again.

    Args:
        images: the set. objects: of its images.
        out: new, empty, or begun by this function with the same settings, images and objects.
        settings: how objects are pasted.
        seed: 0 or above.
        supervision: which labels touched the masks, in words; pasted.json and the annotations say so. A folder that was
            begun keeps what it says.
        num_workers: processes that share the work and change no byte; 0 for none but this one, `None` for as many as
            there are cores, fewer for small sets.

    Raises:
        InputError: numbers out of range, a folder of something else, no image with a single object, and where a process
            was killed.
    """
    if seed < 0 or (num_workers is not None and num_workers < 0):
        raise InputError(f"seed is {seed} and num_workers {num_workers}; neither may be negative")
    names = _scene_names(images.images, settings.scenes_per_image)
    donors = _donors(images.images, objects)
    if not donors:
        low, high = _DONOR_AREAS
        raise InputError(
            f"none of {len(images)} images has a single object of {low:.0%} to {high:.0%} of its area, so there is "
            f"nothing to paste{_first_fault(images.images, objects)}; check the masks"
        )
    supervision = _claim(out, images.images, objects, settings, seed, supervision)
    paster = _Paster(images.images, names, objects, donors, settings, seed, out / SPLIT)
    workers = choose_num_workers(len(names), _IMAGES_PER_WORKER) if num_workers is None else num_workers
    results = list(in_order(paster, range(len(names)), workers))
    good = [result for result in results if result.reason is None]
    if not good:
        raise InputError(f"none of {len(images)} images can be read; the first: {results[0].reason}")
    _write_annotations(out / ANNOTATIONS_FILE, good, supervision)
    bad = {place: result.reason for place, result in enumerate(results) if result.reason is not None}
    of_images = {place // settings.scenes_per_image: reason for place, reason in bad.items()}
    rejected = tuple(Rejection(images.images[index].stem, reason) for index, reason in of_images.items())
    num_objects, num_pasted = sum(len(item.masks) for item in good), sum(item.num_pasted for item in good)
    return PastedSet(out, len(good), num_objects, num_pasted, rejected)


def _scene_names(images: Sequence[ImageRef], scenes_per_image: int) -> tuple[str, ...]:
    """Return the stems of the scenes, image by image; raises `InputError` where two are alike."""
    numbers = range(1, scenes_per_image + 1)
    names = tuple(ref.stem if number == 1 else f"{ref.stem}_scene{number}" for ref in images for number in numbers)
    if len(set(names)) < len(names):
        taken = next(ref.stem for ref in images if names.count(ref.stem) > 1)
        raise InputError(
            f"image {taken} has the name of a further scene of another image; rename it, or leave "
            "pasting.scenes_per_image at 1"
        )
    return names


def _donors(images: Sequence[ImageRef], objects: ChosenObjects) -> tuple[int, ...]:
    """Return the places of the images whose only object may be pasted."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda ref: _is_donor(ref, objects), images))
    return tuple(np.flatnonzero(found).tolist())


def _first_fault(images: Sequence[ImageRef], objects: ChosenObjects) -> str:
    """Return what is wrong with the first image or mask that cannot be read, for a sentence; empty where all can."""
    for ref in images:
        try:
            objects.read(ref, image_size(ref.path))
        except InputError as error:
            return f" (the first that cannot be read: {error})"
    return ""


def _is_donor(ref: ImageRef, objects: ChosenObjects) -> bool:
    try:
        masks = objects.read(ref, image_size(ref.path))
    except InputError:
        return False  # said where the image has its own turn
    return len(masks) == 1 and _DONOR_AREAS[0] <= float(masks[0].mean()) <= _DONOR_AREAS[1]


def _claim(
    out: Path,
    images: Sequence[ImageRef],
    objects: ChosenObjects,
    settings: PasteSettings,
    seed: int,
    supervision: str,
) -> str:
    """Make the folder one of these settings; raises `InputError` where it is one of others, or of something else.

    Returns the supervision that the folder records: of the same masks, it is in the words of the version that began it.
    """
    make_folder(out)
    remove_abandoned_writes(out)
    now = {
        "version": VERSION,
        "images": state_of_files(ref.path for ref in images),
        "masks": state_of_files(objects.source.files),
        "objects": asdict(objects.settings),
        "paste": asdict(settings),
        "seed": seed,
    }
    record = out / RECORD_FILE
    if not record.is_file():
        check_unused_folder(out, "paste", RECORD_FILE)
        write_json(record, {**now, "supervision": supervision})
        return supervision
    found = read_json(record, "the settings of `paste`")
    known = found if isinstance(found, dict) else {}
    if isinstance(known.get("paste"), dict):
        known = {**known, "paste": {"scenes_per_image": 1, **known["paste"]}}  # earlier versions knew one scene
    differences = [describe_difference(key, known.get(key), now[key]) for key in now if known.get(key) != now[key]]
    if differences:
        raise InputError(
            f"{out} was begun with other settings ({'; '.join(differences)}); use those, or another output folder"
        )
    return str(known.get("supervision", supervision))


@dataclass(frozen=True)
class _Paster:
    """Makes one scene after the other; `donors` are places in `images`, `names` has those of each image in turn."""

    images: Sequence[ImageRef]
    names: Sequence[str]
    objects: ChosenObjects
    donors: Sequence[int]
    settings: PasteSettings
    seed: int
    folder: Path

    def __call__(self, place: int) -> _Result:
        """Make the scene at a place of `names`, and write it unless it is there."""
        index, number = divmod(place, self.settings.scenes_per_image)
        ref, stem = self.images[index], self.names[place]
        try:
            scene = self._read(ref)
        except InputError as error:
            return _Result(stem, (0, 0), (), 0, str(error))
        generator = np.random.default_rng((self.seed, index, number) if number else (self.seed, index))
        num_own = len(scene.masks)
        if generator.random() < self.settings.share:
            for _ in range(int(generator.integers(1, self.settings.max_objects + 1))):
                scene = self._with_another(scene, index, generator)
        path = self.folder / f"{stem}.jpg"
        if not path.is_file():
            write_bytes(path, encode_jpeg(scene.image))
        height, width = scene.image.shape[:2]
        masks = tuple(mask_annotation(mask) for mask in scene.masks)
        return _Result(stem, (height, width), masks, len(masks) - num_own)

    def _read(self, ref: ImageRef) -> Scene:
        image = read_image(ref.path)
        return Scene(image, self.objects.read(ref, (image.shape[0], image.shape[1])))

    def _with_another(self, scene: Scene, index: int, generator: np.random.Generator) -> Scene:
        """Return the scene with one more object, or as it is where none can be placed."""
        for _ in range(_TRIALS):
            chosen = self.donors[int(generator.integers(len(self.donors)))]
            if chosen == index:
                continue
            try:
                donor = self._read(self.images[chosen])
            except InputError:
                continue  # said where that image has its own turn
            pasted = paste(scene, cut_out(donor.image, donor.masks[0]), self.settings, generator)
            if pasted is not None:
                return pasted
        return scene


def _write_annotations(path: Path, results: Sequence[_Result], supervision: str) -> None:
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, result in enumerate(results, start=1):
        height, width = result.size
        name = {"file_name": f"{result.stem}.jpg", "stem": result.stem}
        entries.append({"id": number, **name, "height": height, "width": width})
        for mask in result.masks:
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **mask})
    content = {
        "info": {"description": "objects of images, some of them pasted in", "supervision": supervision},
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    write_json(path, content, indent=None)
