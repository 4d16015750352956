"""Fitted clusters applied to new images: `Segmenter.from_run(path).predict(image)`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.data.cluster_names import read_cluster_names
from densessl.data.images import read_image
from densessl.data.masks import MaskFolder
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.cluster_segmentation import label_map_of
from densessl.evaluation.clustering import Clustering, assign
from densessl.evaluation.encoder_features import AutocastFeatures
from densessl.evaluation.extraction import EmbeddedImage, FeatureFunction, Foreground, embed_image, embed_images
from densessl.evaluation.network_features import NetworkFeatures
from densessl.evaluation.reopened_encoder import check_weights, reopen_encoder
from densessl.evaluation.segmentation import NO_CLUSTER
from densessl.evaluation.segmenter_file import SEGMENTER_FILE, ProposedMasks, SegmenterHeader, load_segmenter
from densessl.files import file_sha256
from densessl.models.precision import on_device
from densessl.saliency.estimators import NETWORK_METHODS
from densessl.saliency.processing import one_thread
from densessl.saliency.proposals import SaliencySettings, propose
from densessl.structures import ImageArray, ImageRef, InstanceMap, LabelMap, MaskArray, Rejection
from densessl.training.run_folder import load_weights

_MAX_MASKS = 255


class Segmenter:
    """The network, projection, centroids and names of a clusters folder; gives an image the labels of its clusters.

    folder: the clusters folder. header: where the features come from. clustering: projection and centroids.
    names: cluster id to name, as names.yaml in the folder gives them; clusters may have none.
    """

    def __init__(
        self,
        folder: Path,
        header: SegmenterHeader,
        clustering: Clustering,
        encode: FeatureFunction,
        device: torch.device,
        names: Mapping[int, str],
    ) -> None:
        self.folder, self.header, self.clustering, self.names = folder, header, clustering, dict(names)
        self._encode, self._device = encode, device
        self._proposal_settings: SaliencySettings | None = None

    @classmethod
    def from_run(
        cls, path: str | Path, run: str | Path | None = None, device: torch.device | str | None = None
    ) -> "Segmenter":
        """Load a clusters folder, or `clusters` of a run folder.

        Args:
            path: the --out of `cluster`, or that of `run`.
            run: the run folder of the network, or the file of an encoder's weights, where it does not lie any more as
                it lay when `cluster` ran.
            device: where the network works; by default a GPU where there is one, as for `cluster`.

        Raises:
            MissingInputError: no such folder, or the network's run is gone.
            InputError: weights that are not those which were clustered, a broken file, names that do not fit, or an
                encoder that a clusters folder cannot bring back (a program or a Python function).
        """
        folder = clusters_folder(Path(path))
        header, clustering = load_segmenter(folder / SEGMENTER_FILE)
        names = read_cluster_names(folder, clustering.num_clusters)
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        encode: FeatureFunction
        if header.encoder is not None:
            encode = reopen_encoder(header.encoder, header, folder, run, place)
        else:
            weights = (folder / header.run if run is None else Path(run)) / header.weights
            check_weights(weights, header, folder)
            model, _ = load_weights(weights)
            encode = NetworkFeatures(on_device(model, place), header.features)
        if header.precision == "bf16":
            encode = AutocastFeatures(encode, place)
        return cls(folder, header, clustering, encode, place, names)

    @property
    def has_background(self) -> bool:
        """Whether a foreground was clustered: label maps hold 0 for background and c + 1 for cluster c, else c."""
        return self.header.foreground != "all"

    @property
    def value_names(self) -> dict[int, str]:
        """The name of every value of a label map; a cluster without a name is called by its id."""
        num_clusters = self.clustering.num_clusters
        names = {
            number + self.has_background: self.names.get(number, f"cluster {number}") for number in range(num_clusters)
        }
        return {0: "background", **names} if self.has_background else names

    @property
    def proposal_settings(self) -> SaliencySettings:
        """How masks are proposed for images that come without.

        Raises:
            InputError: the clustered masks were made elsewhere, or the weights that proposed them have changed.
        """
        if self._proposal_settings is None:
            self._proposal_settings = _proposal_settings(self.header.proposals, self.folder)
        return self._proposal_settings

    def predict(self, image: ImageArray | str | Path, mask: MaskArray | InstanceMap | None = None) -> LabelMap:
        """Return the label map (height, width) of an image: what `cluster` would have written for it.

        Args:
            image: uint8 RGB (height, width, 3), or the path of a file.
            mask: its foreground, bool (height, width), or integers, 0 for background and 1, 2, ... (to 255) for masks
                that each get their own cluster. Without it the foreground is found as that of the clustered images
                was: by the saliency head, or by a proposal.

        Returns:
            int64: 0 for background and c + 1 for cluster c; where all pixels were clustered, c for cluster c.

        Raises:
            InputError: an image or mask that cannot be used, no foreground in the image, or a foreground that only
                masks made elsewhere can give.
        """
        pixels, stem = _read(image)
        instances = None if mask is None else _instances(mask, stem, pixels.shape[:2])
        foreground = self.foreground_with(has_masks=mask is not None)
        if foreground == "masks" and instances is None:
            instances = self._proposed(pixels, stem)
        embedded = embed_image(
            pixels, stem, self._encode, self.clustering.protocol, foreground, instances, self._device
        )
        return self._label_map(embedded)

    def predict_all(
        self, images: Sequence[ImageRef], masks: MaskFolder | None = None, batch_size: int = 8, num_workers: int = 0
    ) -> Iterator[tuple[str, LabelMap] | Rejection]:
        """Yield stem and label map of each image, in order, or why it has none; batches change no result.

        Nothing is proposed here: where the clusters are those of masks, give masks.
        """
        embedded = embed_images(
            images,
            self._encode,
            self.clustering.protocol,
            self.foreground_with(has_masks=masks is not None),
            masks,
            batch_size=batch_size,
            num_workers=num_workers,
            device=self._device,
            reject_bad_masks=True,
        )
        for item in embedded:
            yield (item.stem, self._label_map(item)) if isinstance(item, EmbeddedImage) else item

    def foreground_with(self, *, has_masks: bool) -> Foreground:
        """Return what is segmented: given masks take the place of the saliency head; raises where they cannot."""
        if not has_masks:
            if self.header.foreground == "labels":
                raise InputError(
                    f"the clusters in {self.folder} are those of the true foreground, which only labels give; give "
                    "masks"
                )
            return self.header.foreground
        if not self.has_background:
            raise InputError(
                f"a mask is given, but in {self.folder} all pixels were clustered, background included; leave it out"
            )
        return "masks"

    def _proposed(self, image: ImageArray, stem: str) -> NDArray[np.uint8]:
        with one_thread():  # as in the stage `saliency`: rounding may depend on the number of threads
            found = propose(image, stem, self.proposal_settings)
        if isinstance(found, Rejection):
            raise InputError(f"image {stem!r} has no mask: {found.reason}; give its mask")
        return found.foreground.astype(np.uint8)

    def _label_map(self, image: EmbeddedImage) -> LabelMap:
        ids = np.full(len(image.has_prototype), NO_CLUSTER, dtype=np.int64)
        if image.has_prototype.any():
            ids[image.has_prototype] = assign(image.vectors[image.has_prototype], self.clustering)
        return label_map_of(image, ids, self.clustering)


def clusters_folder(path: Path) -> Path:
    """Return the clusters folder that a path, the --out of `cluster` or of `run`, is or holds."""
    for folder in (path, path / "clusters"):
        if (folder / SEGMENTER_FILE).is_file():
            return folder
    raise MissingInputError(
        f"no {SEGMENTER_FILE} in {path} or {path / 'clusters'}; expected the --out of `cluster` or of `run`; clusters "
        "of an earlier version have none, cluster again"
    )


def _proposal_settings(proposals: ProposedMasks | None, folder: Path) -> SaliencySettings:
    if proposals is None:
        raise InputError(
            f"the clusters in {folder} are those of masks that were made elsewhere, so that no mask can be proposed "
            "for another image; give its mask"
        )
    values: dict[str, Any] = dict(proposals.settings)
    if proposals.weights is not None:
        path = folder / proposals.weights
        _check_proposal_weights(path, proposals)
        values["network" if values.get("method") in NETWORK_METHODS else "weights"] = path.resolve()
    if values.get("method") == "self_trained":
        values |= {"weights": None, "masks": None}  # of its training
    values |= {"keep_soft": False, "num_segments": None}  # of what a folder holds beside the masks
    known = {field.name for field in fields(SaliencySettings)}
    if values.keys() - known:
        raise InputError(
            f"the masks clustered in {folder} were proposed with settings that this version does not know "
            f"({', '.join(sorted(values.keys() - known))}); use the version that wrote them, or give masks"
        )
    return SaliencySettings(**values)


def _check_proposal_weights(path: Path, proposals: ProposedMasks) -> None:
    if not path.is_file():
        raise MissingInputError(
            f"no file {path}, with which the clustered masks were proposed; put it back, or give masks"
        )
    digest = file_sha256(path)
    if proposals.weights_sha256 not in (None, digest):
        raise InputError(
            f"{path} has SHA-256 {digest}, but the clustered masks were proposed with {proposals.weights_sha256}; "
            "bring the old file back, or give masks"
        )


def _read(image: ImageArray | str | Path) -> tuple[ImageArray, str]:
    if isinstance(image, str | Path):
        return read_image(Path(image)), Path(image).stem
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            f"image has shape {image.shape} and type {image.dtype}; a segmenter takes uint8 RGB (height, width, 3)"
        )
    return image, "image"


def _instances(mask: MaskArray | InstanceMap, stem: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
    if mask.shape != size or not (mask.dtype == np.bool_ or np.issubdtype(mask.dtype, np.integer)):
        raise InputError(
            f"mask of image {stem!r} has shape {mask.shape} and type {mask.dtype}; give bool or whole numbers of the "
            f"image's size {size} (height, width)"
        )
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > _MAX_MASKS:
        raise InputError(
            f"mask of image {stem!r} holds {low}-{high}; 0 is background, and masks are numbered 1-{_MAX_MASKS}"
        )
    return mask.astype(np.uint8)
