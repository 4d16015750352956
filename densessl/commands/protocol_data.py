"""What the named protocols read: images, labels, masks, and features that are computed once."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from densessl.commands.cluster_encoder import ClusteredEncoder, check_foreground
from densessl.commands.encoder import open_encoder
from densessl.data.layouts import open_data_set
from densessl.data.masks import open_mask_folder
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.cluster_segmentation import read_label
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.extraction import Foreground
from densessl.evaluation.feature_store import FeatureStore, stems_hash
from densessl.evaluation.feature_writing import store_features
from densessl.evaluation.framed_images import MaskSource
from densessl.evaluation.framing import Framing
from densessl.evaluation.image_objects import Instances, framed_instances
from densessl.evaluation.labelled_features import Classes
from densessl.evaluation.named_objects import REGIONS, ObjectTruth
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.saliency_instances import find_annotations
from densessl.evaluation.scores import check_classes
from densessl.files import state_of_files
from densessl.machine import loader_processes
from densessl.structures import ImageRef, ImageSet, LabelMap

AUGMENTED_TRAIN_SPLIT = "train_aug"
"""The split that linear probes, memories of patches and clusters of pixels are published with."""


@dataclass(frozen=True)
class DataSettings:
    """Which data a command reads.

    data: root of a data set in VOC or COCO layout. split: what is scored. train_split: what is fitted to; None for the
    split that each protocol is published with. foreground: where masks come from; None for `choose_foreground`.
    masks, train_masks: folders for foreground masks, of the scored and of the training images. classes: those that
    count, None for all. features: the folder of the feature stores. batch_size: images per call of the encoder.
    num_workers: loader processes; -1 chooses by the number of cores.
    """

    data: Path
    split: str
    train_split: str | None
    foreground: Foreground | None
    masks: Path | None
    train_masks: Path | None
    classes: tuple[int, ...] | None
    features: Path
    batch_size: int
    num_workers: int


@dataclass(frozen=True)
class StoredLabels:
    """Reads the label map of image i of a feature store, at native size or in a frame."""

    images: ImageSet
    refs: dict[str, ImageRef]
    stems: tuple[str, ...]
    framing: Framing | None = None

    def __call__(self, index: int) -> LabelMap:
        """Return the label map (height, width); raises `InputError` for one that is missing or out of range."""
        label_map = read_label(self.images, self.refs[self.stems[index]])
        return label_map if self.framing is None else self.framing.labels(label_map)


class ProtocolData:
    """The data of one encoder's evaluation: what was opened or computed stays open for the next protocol.

    encoder, settings: what it was made of. device: where features are computed. scored: the images that scores are
    computed on. classes: those that count. encoding_seconds: spent on features so far.

    Raises:
        InputError: no labels to score against, classes that are not there, a batch size below 1.
    """

    def __init__(self, encoder: ClusteredEncoder, settings: DataSettings, device: torch.device) -> None:
        if settings.batch_size < 1:
            raise InputError(f"batch_size is {settings.batch_size}; it must be at least 1")
        foreground = choose_foreground(settings.foreground, settings.masks, settings.train_masks, encoder.opened)
        self.settings = settings = replace(settings, foreground=foreground)
        self.encoder, self.device = encoder, device
        self._images: dict[str, ImageSet] = {}
        self._shared: dict[str, tuple[str, ...]] = {}
        self._stores: dict[tuple[str, Framing, FeatureMap | None], FeatureStore] = {}
        self._encoders: dict[FeatureMap | None, FeatureEncoder] = {None: encoder.opened}
        self.encoding_seconds = 0.0
        self.scored = self.images(settings.split)
        if self.scored.labels is None:
            raise InputError(
                f"split {settings.split} of {settings.data} has no labels to score against; give a labelled split"
            )
        num_labels = len(self.scored.class_names)
        self.classes = Classes(check_classes(settings.classes, num_labels), num_labels)

    def images(self, split: str) -> ImageSet:
        """Return the images of a split of the data set."""
        if split not in self._images:
            self._images[split] = open_data_set(self.settings.data, split)
        return self._images[split]

    def train_split(self, published: str = AUGMENTED_TRAIN_SPLIT) -> str:
        """Return the split to fit to: as asked, else the published one; never one that holds a scored image.

        Images are the same where their files are.

        Raises:
            InputError: the split is the one that is scored, or shares images with it.
            MissingInputError: no such split.
        """
        split, scored = self.settings.train_split or published, self.settings.split
        if split == scored:
            raise InputError(
                f"split {split} is to be scored and learned from; scores on what was learned say nothing: choose "
                "another --train_split or --split"
            )
        shared = self._shared_with_scored(split)
        if shared:
            raise InputError(
                f"split {split}, which is learned from, holds {len(shared)} of the {len(self.scored)} images of split "
                f"{scored}, which is scored (the first: {shared[0]}); scores on what was learned say nothing: choose a "
                "--train_split or --split that shares no image with the other"
            )
        return split

    def features(self, split: str, framing: Framing, feature_map: FeatureMap | None = None) -> FeatureStore:
        """Return the features of a split at a frame; computed once, by any call, and kept on disk.

        feature_map: of a run, another one than that which the encoder was opened with.
        """
        feature_map = self._other_map(feature_map)
        key = (split, framing, feature_map)
        if key not in self._stores:
            started = time.monotonic()
            self._stores[key] = store_features(
                self.settings.features / _folder_name(*key),
                self.images(split).images,
                self.feature_encoder(feature_map),
                framing,
                batch_size=self.settings.batch_size,
                num_workers=self.num_workers,
            )
            self.encoding_seconds += time.monotonic() - started
        return self._stores[key]

    def feature_encoder(self, feature_map: FeatureMap | None = None) -> FeatureEncoder:
        """Return the encoder; of a run, with another feature map than that which it was opened with."""
        feature_map = self._other_map(feature_map)
        if feature_map not in self._encoders and feature_map is not None:
            self._encoders[feature_map] = open_encoder(
                replace(self.encoder.settings, features=feature_map), self.device
            )
        return self._encoders[feature_map]

    @property
    def num_workers(self) -> int:
        """Number of loader processes."""
        return loader_processes(self.settings.num_workers)

    def labels(self, split: str, store: FeatureStore, framing: Framing | None = None) -> StoredLabels:
        """Return the reader of a store's labels, in the order of the store, at native size or in a frame."""
        images = self.images(split)
        return StoredLabels(images, {ref.stem: ref for ref in images.images}, store.stems, framing)

    def objects(self, frame: Callable[[LabelMap], LabelMap] | None = None) -> ObjectTruth:
        """Return the true objects of the scored images: annotated ones where there are any, else regions of the labels.

        frame: brings a map of native size to the size that is scored; None for native size.
        """
        source = find_annotations(self.scored, self.scored.images)
        if source is None:
            return ObjectTruth(REGIONS)
        refs = {ref.stem: ref for ref in self.scored.images}

        def read(stem: str) -> Instances:
            found = source.read(refs[stem])
            return found if frame is None else framed_instances(found, frame)

        return ObjectTruth(source.description, read)

    def foreground(self, protocol: str) -> Foreground:
        """Return where masks come from, for a protocol that needs to know.

        Raises:
            InputError: it was not said, or the encoder has no saliency head for `head`.
        """
        if self.settings.foreground is None:
            raise InputError(
                f"protocol {protocol} needs a foreground, and encoder {self.encoder.opened.description} has no "
                "saliency head; give --masks DIR (--foreground masks), --foreground all, or --foreground labels (the "
                "true foreground, an oracle)"
            )
        check_foreground(self.settings.foreground, self.encoder.opened)
        return self.settings.foreground

    def masks(self, split: str, foreground: Foreground) -> MaskSource:
        """Return where the masks of a split's images come from.

        Raises:
            InputError: foreground masks without a folder, or labels without labels.
        """
        images, is_scored = self.images(split), split == self.settings.split
        if foreground == "labels":
            if images.labels is None:
                raise InputError(f"--foreground labels needs labels, but split {split} has none; choose another split")
            return MaskSource(labels=images.labels)
        if foreground != "masks":
            return MaskSource()
        folder = self.settings.masks if is_scored else self.settings.train_masks
        if folder is None:
            flag = "--masks" if is_scored else "--train_masks"
            raise InputError(f"--foreground masks needs {flag} DIR, the folder of the masks of split {split}")
        return MaskSource(folder=open_mask_folder(folder, images.images))

    def identity(self, splits: Sequence[str], *, has_foreground: bool) -> dict[str, object]:
        """Return what tells this data and encoder from others, for the card of a protocol that reads `splits`.

        has_foreground: the protocol asks where the foreground is; in all images of the splits that it reads.
        """
        settings, opened = self.settings, self.encoder.opened
        has_masks = has_foreground and settings.foreground == "masks"
        return {
            "encoder": opened.description,
            "fingerprint": opened.fingerprint,
            "precision": opened.precision,
            "data": settings.data.resolve(),
            "split": settings.split,
            "splits": {split: self._images_identity(split) for split in splits},
            "foreground": settings.foreground if has_foreground else None,
            "masks": _folder_hash(settings.masks) if has_masks else None,
            "train_masks": _folder_hash(settings.train_masks) if has_masks and len(splits) > 1 else None,
            "classes": list(self.classes.labels),
        }

    def _images_identity(self, split: str) -> dict[str, str]:
        """Return what changes with the list of images, and with their files."""
        images = self.images(split).images
        return {
            "stems": stems_hash([ref.stem for ref in images]),
            "files": state_of_files(ref.path for ref in images),
        }

    def _shared_with_scored(self, split: str) -> tuple[str, ...]:
        """Return the stems of the scored images that another split holds too."""
        if split not in self._shared:
            try:
                images = self.images(split).images
            except MissingInputError as error:
                raise MissingInputError(f"{error}; it is to be learned from: --train_split names another") from error
            held = {ref.path.resolve() for ref in images}
            self._shared[split] = tuple(ref.stem for ref in self.scored.images if ref.path.resolve() in held)
        return self._shared[split]

    def _other_map(self, feature_map: FeatureMap | None) -> FeatureMap | None:
        """Return a feature map of a run that is not the one it was opened with, else None."""
        is_same = self.encoder.run is None or feature_map == self.encoder.settings.features
        return None if is_same else feature_map


def choose_foreground(
    asked: Foreground | None, masks: Path | None, train_masks: Path | None, encoder: FeatureEncoder
) -> Foreground | None:
    """Return where masks come from: as asked, else given masks, else a saliency head; None where there is neither.

    Raises:
        InputError: masks that the foreground would pass over.
    """
    if asked is None and masks is not None:
        return "masks"
    if asked is None and train_masks is None:
        return "head" if encoder.has_saliency else None
    given = masks if masks is not None else train_masks
    if asked != "masks" and given is not None:
        raise InputError(f"masks {given} are only used with --foreground masks; add it, or drop them")
    return asked


def _folder_name(split: str, framing: Framing, feature_map: FeatureMap | None) -> str:
    height, width = framing.size_px
    name = f"{split}_{height}x{width}_{framing.fit}"
    return name if feature_map is None else f"{name}_{feature_map}"


def _folder_hash(folder: Path | None) -> str | None:
    """Return the SHA-256 of the names, lengths and times of a folder's files, which change where its masks do."""
    if folder is None:
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
