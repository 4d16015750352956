"""Mask proposals for a whole set of images: in parallel, resumable, and the same whatever the number of workers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from densessl.data.coco import image_ids, result_category
from densessl.data.masks import SALIENCY_RECORD, MaskFolder, open_mask_folder
from densessl.errors import InputError
from densessl.files import check_unused_folder, make_folder, read_json, write_json
from densessl.saliency.estimators import NETWORK_METHODS
from densessl.saliency.feature_settings import DEEP_METHODS
from densessl.saliency.mask_provenance import made_elsewhere, masks_provenance, recorded_supervision
from densessl.saliency.processing import one_thread, process_images, reading_sha256
from densessl.saliency.proposal_store import (
    DESCRIPTION,
    LISTS,
    SEGMENTS_DESCRIPTION,
    ListedImage,
    is_written,
    write_lists,
    write_results,
)
from densessl.saliency.proposals import SaliencySettings
from densessl.saliency.record_journal import (
    ImageRecord,
    RecordPlace,
    append_record,
    drop_cut_line,
    index_records,
    open_records,
)
from densessl.structures import ImageRef, ImageSet

_OF_TEACHERS = ("encoder", "pretrained", "output_stride", "attention_layer", "attention_head", "attention_mass")
_KNOWN_ELSEWHERE = {"file": ("masks",), "self_trained": ("masks", "weights", *_OF_TEACHERS)}
"""Settings that may be others: paths of files that may move, because the records of the images, or of the network, hold
what is in them, and what the teachers of a network used, by whose file the masks are known."""
_BEFORE_RECORD = ("attention_head.json", "patch_training", "self_training", "network.safetensors")
"""What a run writes into its folder before the record: the choice of a head, networks."""


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 0) of `count` equal parts of a set of images: every `count`-th image, from `index` on."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(f"shard {self.index + 1}/{self.count} does not exist; give 1/{max(1, self.count)} or more")

    @property
    def journal(self) -> str:
        """The name of the file in which this part's finished images are recorded."""
        return "records.jsonl" if self.count == 1 else f"records-{self.index + 1}-of-{self.count}.jsonl"


@dataclass(frozen=True)
class SaliencySummary:
    """What a run of the stage did.

    num_images: images in the set, or in the shard; num_masks: those with a mask; num_rejected: those without;
    num_reused: those finished by an earlier run; images_per_second: of this run, 0 where it had nothing to do;
    is_whole: every image of the set is finished, and the lists are written; supervision: which labels touched the
    masks, in words.
    """

    folder: Path
    num_images: int
    num_masks: int
    num_rejected: int
    num_reused: int
    images_per_second: float
    is_whole: bool = True
    supervision: str = ""

    def __str__(self) -> str:
        done = f"{self.num_masks} masks from {self.num_images} images, {self.num_rejected} rejected"
        if self.num_reused == self.num_images:
            done = f"{done}; all were finished before: {self.folder}"
        else:
            reused = f", {self.num_reused} finished before" if self.num_reused else ""
            done = f"{done}{reused}; {self.images_per_second:.1f} images a second: {self.folder}"
        return done if self.is_whole else f"{done}; the lists are written when the other shards are finished"


@dataclass(frozen=True)
class FolderRecord:
    """What `saliency.json` says of a folder.

    weights: of an encoder or a network: `weights_sha256` of their file, by which they are compared, so that a file may
        move but not change, with `supervision` where labels may be behind it; of method `file` how the maps are read;
        None for all others.
    supervision: which labels touched the masks, in words, as far as it is known now: the masks of method `file` may
        move later.
    """

    settings: SaliencySettings
    weights: dict[str, Any] | None
    supervision: str

    def to_json(self, counts: dict[str, int] | None) -> dict[str, Any]:
        """Return the content of the file; counts: of images, masks and rejected images, None while some are to do."""
        features = {} if self.weights is None else {"features": self.weights}
        return {"settings": self.settings.plain(), "supervision": self.supervision, **features, "counts": counts}


def generate_proposals(
    images: ImageSet,
    out: Path,
    settings: SaliencySettings,
    num_workers: int | None = None,
    shard: Shard = Shard(),
    max_workers: int | None = None,
) -> SaliencySummary:
    """Propose masks for every image of a set and write them below `out` (layout: `proposal_store`).

    A run that was killed goes on where it stopped; finished images are not done again unless their files hold something
    else now, broken files are tried anew.
    An image that cannot be read, or on which the estimator fails, costs one line and a place in `rejected.json`, and
    is tried again by the next run. `num_workers` processes share the work (0: none but this one; `None`: as many as
    there are cores, or as `max_workers` says, fewer for small sets) and change no result.
    Scripts that call this with workers need the usual `if __name__ == "__main__"` guard. No label is read.

    Of several shards each does its own images, at the same time or one after the other, on one machine or several that
    share `out`; the one that finds all images finished writes the lists. They change no result either.

    Raises `InputError` where `out` cannot be written or was begun with other settings or weights, where an encoder
    cannot be loaded, and where a worker dies.
    """
    if num_workers is not None and num_workers < 0:
        raise InputError(f"num_workers {num_workers} is negative; give 0 for this process alone, or more")
    make_folder(out)
    settings = _settled(images, out, settings)
    maps = _open_maps(settings.masks, images, out) if settings.method == "file" and settings.masks else None
    description = _describe_folder(settings, maps)
    claim_folder(out, description)
    journal = out / shard.journal
    drop_cut_line(journal)
    own = images.images[shard.index :: shard.count]
    changes = _Changes(images.images, own, maps)
    places = index_records(out, is_stale=changes.is_stale)
    if maps is not None and all(image.stem in places for image in images.images):
        description = _with_known_origin(description, out, maps)
    todo = [image for image in own if not is_written(out, image.stem, places.get(image.stem), settings.keep_soft)]
    if todo:
        _withdraw_lists(out)
    started = time.monotonic()
    for record in process_images(todo, out, settings, num_workers, max_workers, maps):
        append_record(journal, record)
        changes.note(record)
    seconds = time.monotonic() - started
    places = index_records(out, is_stale=changes.is_stale, is_quiet=True)
    is_whole = all(image.stem in places for image in images.images)
    if is_whole:
        _finish_folder(images, out, description, places)
        _tell_of_others(images, out, places)
    num_masks = sum(not places[image.stem].is_rejected for image in own)
    return SaliencySummary(
        folder=out,
        num_images=len(own),
        num_masks=num_masks,
        num_rejected=len(own) - num_masks,
        num_reused=len(own) - len(todo),
        images_per_second=len(todo) / max(seconds, 1e-9),
        is_whole=is_whole,
        supervision=description.supervision,
    )


class _Changes:
    """Which records are of other files than those that bear the images' names now, or of maps that were read otherwise.

    Those of images that another shard works on are looked at only where two of them differ.
    """

    def __init__(self, images: Sequence[ImageRef], own: Sequence[ImageRef], maps: MaskFolder | None) -> None:
        self._images, self._maps = {image.stem: image for image in images}, maps
        self._own = {image.stem for image in own}
        self._digests: dict[str, str | None] = {}
        self._seen: dict[str, str] = {}

    def note(self, record: ImageRecord) -> None:
        """Take a record that has just been made for the present state of its image."""
        self._digests[record.stem] = record.file_sha256

    def is_stale(self, record: ImageRecord) -> bool:
        """Say whether a record is known to be of another file; those of earlier versions do not say.

        A file that cannot be read now is given the benefit of the doubt.
        """
        image = self._images.get(record.stem)
        if image is None or record.file_sha256 is None:
            return False
        seen = self._seen.setdefault(record.stem, record.file_sha256)
        if record.stem not in self._own and seen == record.file_sha256:
            return False
        if record.stem not in self._digests:
            self._digests[record.stem] = reading_sha256(image, self._maps)
        return self._digests[record.stem] not in (None, record.file_sha256)


def _withdraw_lists(out: Path) -> None:
    """Remove the lists of a folder that is worked on again: those that are there say that all is done."""
    is_there = [path for name in LISTS if (path := out / name).exists()]
    if is_there:
        path = out / SALIENCY_RECORD
        write_json(path, read_json(path, "the settings of `saliency`") | {"counts": None})
    for path in is_there:
        path.unlink(missing_ok=True)  # another shard may have done it meanwhile


def _tell_of_others(images: ImageSet, out: Path, places: dict[str, RecordPlace]) -> None:
    """Say how many images the folder has records of that are none of the set's."""
    others = sorted(places.keys() - {image.stem for image in images.images})
    if others:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
            f"{out} also has {len(others)} finished images that are not among these {len(images)} ({others[0]}, ...): "
            "their masks stay in the folder and are in no list; another set of images belongs in another --out"
        )


def _finish_folder(images: ImageSet, out: Path, record: FolderRecord, places: dict[str, RecordPlace]) -> None:
    """Write the lists and the counts of a folder whose images are all finished."""
    listed = [
        ListedImage(identity, image.file_name) for identity, image in zip(image_ids(images), images.images, strict=True)
    ]
    with open_records([places[image.stem] for image in images.images]) as records:
        description = DESCRIPTION if record.settings.num_segments is None else SEGMENTS_DESCRIPTION
        write_lists(out, records, listed, record.supervision, description)
        write_results(out, records, listed, result_category(images))
    num_masks = sum(not places[image.stem].is_rejected for image in images.images)
    counts = {"images": len(images), "masks": num_masks, "rejected": len(images) - num_masks}
    write_json(out / SALIENCY_RECORD, record.to_json(counts))


def claim_folder(out: Path, record: FolderRecord) -> None:
    """Write `saliency.json`; raises `InputError` where the folder was begun with other settings or weights.

    So it does where a folder without that file holds something else, whose masks would be written over. Settings that a
    folder does not record, because it was written before they existed, count as the defaults.
    """
    path = out / SALIENCY_RECORD
    if not path.exists():
        refuse_foreign_folder(out)
        write_json(path, record.to_json(None))
        return
    _refuse_other_settings(out, record.settings.plain(), record.weights)


def refuse_before_training(out: Path, settings: SaliencySettings) -> None:
    """Raise `InputError` for a folder that this stage did not begin, or began with settings other than its network."""
    refuse_foreign_folder(out)
    if (out / SALIENCY_RECORD).exists():
        _refuse_other_settings(out, settings.plain(), None, but="network")


def _refuse_other_settings(out: Path, settings: dict[str, Any], weights: object, but: str | None = None) -> None:
    """Raise `InputError` where `saliency.json` has other settings or weights, the setting `but` left aside."""
    path = out / SALIENCY_RECORD
    content = read_json(path, "the settings of a run of `densessl saliency`")
    recorded = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(recorded, dict):
        raise InputError(f"{path} holds no saliency settings; choose another output folder")
    before = _compared({**_defaults(), **recorded}, content.get("features"))
    differences = [
        f"{name} {before.get(name)!r} there, {value!r} now"
        for name, value in _compared(settings, weights).items()
        if name != but and before.get(name) != value
    ]
    if differences:
        raise InputError(
            f"{out} was begun with other settings ({'; '.join(differences)}); use those, or another output folder"
        )


def refuse_foreign_folder(out: Path) -> None:
    """Raise `InputError` for a folder that holds something and was not begun by this stage."""
    if not out.is_dir() or (out / SALIENCY_RECORD).exists():
        return
    try:
        check_unused_folder(out, "saliency", SALIENCY_RECORD, allowed=_BEFORE_RECORD)
    except InputError:
        if not (out / SALIENCY_RECORD).exists():  # another shard may have begun the folder meanwhile
            raise


def _compared(settings: dict[str, Any], weights: object) -> dict[str, Any]:
    """Return the settings with the digest of the file of weights, or of the network, in place of its path."""
    digest = weights.get("weights_sha256") if isinstance(weights, dict) else None
    key = "network" if settings.get("method") in NETWORK_METHODS else "weights"
    known = settings if digest is None else {**settings, key: f"with SHA-256 {str(digest)[:16]}"}
    elsewhere = _KNOWN_ELSEWHERE.get(str(settings.get("method")), ())
    return {name: value for name, value in known.items() if name not in elsewhere}


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(SaliencySettings)}


def _settled(images: ImageSet, out: Path, settings: SaliencySettings) -> SaliencySettings:
    """Return the settings with a number in place of the head `best` of method `attention`."""
    if settings.method != "attention":
        return settings
    refuse_foreign_folder(out)  # before the choice of a head is written there
    from densessl.saliency.head_choice import settle_head  # timm again

    with one_thread():
        return settle_head(images, out, settings)


def _describe_folder(settings: SaliencySettings, maps: MaskFolder | None) -> FolderRecord:
    weights = _describe_weights(settings) if maps is None else _describe_maps(maps)
    supervision = recorded_supervision({"settings": settings.plain(), "features": weights})
    return FolderRecord(settings, weights, supervision or "unknown")


def _describe_weights(settings: SaliencySettings) -> dict[str, Any] | None:
    if settings.method == "self_trained":
        from densessl.saliency.network_saliency import network_record  # timm again

        return network_record(settings.network)
    if settings.method == "learned_patches":
        from densessl.saliency.learned_patches import patch_network_record  # files of networks

        return patch_network_record(settings.network)
    if settings.method == "attention":
        from densessl.saliency.attention_saliency import attention_record  # timm again

        return dict(attention_record(settings.features, settings.attention))
    if settings.method not in DEEP_METHODS:
        return None
    from densessl.saliency.deep_estimator import feature_record  # timm, which the other methods need not wait for

    return dict(feature_record(settings.features))


def _with_known_origin(record: FolderRecord, out: Path, maps: MaskFolder) -> FolderRecord:
    """Return the record with the origin of maps that the folder tells, where they do not tell it themselves any more.

    For folders whose images and maps are all those of the earlier run: other maps would be of another origin.
    """
    if record.supervision != made_elsewhere(maps.folder):
        return record
    match read_json(out / SALIENCY_RECORD, "the settings of a run of `densessl saliency`"):
        case {"supervision": str(known)} | {"features": {"supervision": str(known)}}:
            return replace(record, weights={**(record.weights or {}), "supervision": known}, supervision=known)
    return record


def _open_maps(masks: Path, images: ImageSet, out: Path) -> MaskFolder:
    """Open the masks of method `file`, and say how they are read; raises `InputError` where they lie in `out`."""
    if out.resolve() in (masks.resolve(), masks.resolve().parent):
        raise InputError(f"masks {masks} would be written over by the output folder {out}; choose another one (--out)")
    maps = open_mask_folder(masks, images.images)
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(maps.describe())
    return maps


def _describe_maps(maps: MaskFolder) -> dict[str, Any]:
    """Return what the folder must say of masks that somebody else made."""
    return {"encoding": str(maps.code), "supervision": masks_provenance(maps.folder)}
