"""One pass over a data set: masks, and one prototype for each, from any dense feature function."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from densessl.data.masks import MaskFolder
from densessl.errors import InputError
from densessl.evaluation.framed_images import BadMask, FramedImage, MaskSource, frame_image, load_framed_images
from densessl.evaluation.framing import Framing
from densessl.evaluation.protocols import ClusterProtocol, Weighting
from densessl.evaluation.prototypes import DenseFeatures, pool_prototypes, saliency_masks
from densessl.evaluation.segmentation import resize_nearest
from densessl.structures import ImageArray, ImageRef, InstanceMap, LabelReader, Rejection

FeatureFunction = Callable[[torch.Tensor], DenseFeatures]
"""Maps images (batch, 3, height, width), normalised, to features; saliency logits at the images' size, if any."""

Foreground = Literal["head", "masks", "all", "labels"]
"""The encoder's saliency head, a folder of masks, every pixel, or the true foreground of the labels (an oracle)."""


@dataclass(frozen=True)
class EmbeddedImage:
    """One image after the encoder.

    vectors: float32 (num_masks, dim), the prototypes of masks 1, 2, ...; zeros where a mask has none.
    has_prototype: bool (num_masks,).
    instances: the masks at native size, PNG-compressed; see `decode_instances`. Empty where all pixels are clustered.
    features: float16 (dim, h, w) on the feature grid where all pixels are clustered, else None.
    size: native (height, width).
    """

    stem: str
    vectors: NDArray[np.float32]
    has_prototype: NDArray[np.bool_]
    instances: bytes
    features: NDArray[np.float16] | None
    size: tuple[int, int]

    def grid(self) -> NDArray[np.float16]:
        """Return `features`; raises `InputError` where the image was embedded without its pixels."""
        if self.features is None:
            raise InputError(f"image {self.stem!r} was embedded without its pixels; embed it with foreground all")
        return self.features


@dataclass(frozen=True)
class ImageMasks:
    """An image to be embedded: native (height, width), and its masks at that size (None where none are given)."""

    stem: str
    size: tuple[int, int]
    instances: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Extraction:
    """All embedded images of a data set, in its order, and the images left out."""

    images: tuple[EmbeddedImage, ...]
    rejected: tuple[Rejection, ...]

    @property
    def is_pixelwise(self) -> bool:
        """Whether pixels were embedded instead of masks."""
        return bool(self.images) and self.images[0].features is not None


@torch.no_grad()  # not inference_mode: pooling by saliency logits takes a gradient inside (`pool_prototypes`)
def embed_images(
    images: Sequence[ImageRef],
    encode: FeatureFunction,
    protocol: ClusterProtocol,
    foreground: Foreground,
    masks: MaskFolder | None,
    *,
    split_instances: bool = False,
    batch_size: int = 8,
    num_workers: int = 0,
    device: torch.device | None = None,
    reject_bad_masks: bool = False,
    labels: LabelReader | None = None,
) -> Iterator[EmbeddedImage | Rejection]:
    """Yield one result for each image, in order; the result does not depend on batch size or number of workers.

    Args:
        images: what to embed; a broken image, or one without mask, yields a `Rejection`.
        encode: the dense feature function, in evaluation mode; its features are float32.
        protocol: gives the image size and how masks are pooled.
        foreground: head (the encoder's saliency logits), masks (from `masks`), all (every pixel is clustered), or
            labels (the true foreground, as one mask).
        masks: the mask folder for foreground masks.
        split_instances: count the connected regions of plain masks as masks of their own.
        batch_size: images per forward pass.
        num_workers: loader processes.
        device: where the encoder is; None for the CPU.
        reject_bad_masks: yield a `Rejection` for an image whose mask cannot be used, instead of raising.
        labels: reads the labels for foreground labels.

    Raises:
        InputError: foreground masks without masks or labels without labels, foreground head without a saliency head, a
            mask of another size, all pixels of features that float16 cannot hold.
    """
    if foreground == "labels" and labels is None:
        raise InputError("foreground labels needs a data set with labels; give one, or use foreground masks or all")
    if foreground == "masks" and masks is None:
        raise InputError("foreground masks needs a mask folder; give one, or use foreground head or all")
    source = MaskSource(
        masks if foreground == "masks" else None, labels if foreground == "labels" else None, split_instances
    )
    framing = Framing(protocol.image_size_px)
    for items in load_framed_images(images, framing, source, batch_size=batch_size, num_workers=num_workers):
        good = [item for item in items if isinstance(item, FramedImage)]
        embedded = iter(_embed(good, encode, foreground, mask_weighting(protocol, foreground), device) if good else [])
        for item in items:
            if isinstance(item, BadMask):
                if not reject_bad_masks:
                    raise item.error
                yield Rejection(item.stem, str(item.error))
            else:
                yield next(embedded) if isinstance(item, FramedImage) else item


@torch.no_grad()
def embed_image(
    image: ImageArray,
    stem: str,
    encode: FeatureFunction,
    protocol: ClusterProtocol,
    foreground: Foreground,
    instances: NDArray[np.uint8] | None = None,
    device: torch.device | None = None,
) -> EmbeddedImage:
    """Embed one decoded image, uint8 RGB (height, width, 3), as `embed_images` embeds those of files.

    `instances` are the masks (height, width), 0 background and 1.. masks, for foreground masks or labels. Raises
    `InputError` where they are not there, or of another size than the image.
    """
    takes_masks = foreground in ("masks", "labels")
    if takes_masks and (instances is None or instances.shape != image.shape[:2]):
        given = "none" if instances is None else f"one of {instances.shape}"
        raise InputError(
            f"foreground {foreground} needs a mask of the size {image.shape[:2]} of image {stem!r} (height, width), "
            f"got {given}; give the image's own"
        )
    item = frame_image(stem, image, Framing(protocol.image_size_px), instances if takes_masks else None)
    (embedded,) = _embed([item], encode, foreground, mask_weighting(protocol, foreground), device)
    return embedded


def decode_instances(image: EmbeddedImage) -> InstanceMap:
    """Return the masks of an embedded image as an instance map (height, width) at native size.

    Raises `InputError` where the image was embedded without masks.
    """
    if not image.instances:
        raise InputError(f"image {image.stem!r} was embedded without masks; embed it with foreground head or masks")
    decoded = cv2.imdecode(np.frombuffer(image.instances, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(decoded, dtype=np.int64)


def mask_weighting(protocol: ClusterProtocol, foreground: Foreground) -> Weighting:
    """Return how masks pool: the published weights come from the head, masks from elsewhere weigh pixels equally."""
    if protocol.weighting == "saliency_logit" and foreground != "head":
        return "mask_sum"
    return protocol.weighting


def _embed(
    items: list[FramedImage],
    encode: FeatureFunction,
    foreground: Foreground,
    weighting: Weighting,
    device: torch.device | None,
) -> list[EmbeddedImage]:
    dense = encode(torch.stack([item.tensor for item in items]).to(device or "cpu"))
    return embed_dense(
        dense, [ImageMasks(item.stem, item.size, item.instances) for item in items], foreground, weighting
    )


@torch.no_grad()
def embed_dense(
    dense: DenseFeatures, items: Sequence[ImageMasks], foreground: Foreground, weighting: Weighting
) -> list[EmbeddedImage]:
    """Pool the features of a batch of images by their masks, or keep all pixels; see `embed_images`.

    Args:
        dense: of the images, in the order of `items`.
        items: their sizes, and their masks for foreground masks or labels.
        foreground, weighting: as in `embed_images` and `pool_prototypes`.
    """
    if foreground == "all":
        features = dense.pixels().half().cpu().numpy()
        _check_finite(items, features)
        nothing = np.zeros((0, features.shape[1]), dtype=np.float32), np.zeros(0, dtype=bool)
        return [
            EmbeddedImage(item.stem, *nothing, b"", grid, item.size) for item, grid in zip(items, features, strict=True)
        ]
    maps = [item.instances for item in items]
    if foreground == "head":
        maps = [
            resize_nearest(mask[0].cpu().numpy().astype(np.int64), item.size).astype(np.uint8)
            for mask, item in zip(saliency_masks(dense), items, strict=True)
        ]
        layers = list(saliency_masks(dense))
    else:
        layers = [_layers(instances).to(dense.features.device) for instances in maps if instances is not None]
    pooled = pool_prototypes(dense, layers, weighting)
    return [
        EmbeddedImage(
            item.stem,
            prototypes.vectors.float().cpu().numpy(),
            prototypes.has_prototype.cpu().numpy(),
            cv2.imencode(".png", instances)[1].tobytes(),
            None,
            item.size,
        )
        for item, prototypes, instances in zip(items, pooled, maps, strict=True)
        if instances is not None
    ]


def _check_finite(items: Sequence[ImageMasks], features: NDArray[np.float16]) -> None:
    for item, grid in zip(items, features, strict=True):
        if not np.isfinite(grid).all():
            raise InputError(
                f"features of image {item.stem!r} hold NaN, infinity or values beyond 65504; check the weights they "
                "come from (did training diverge?)"
            )


def _layers(instances: NDArray[np.uint8]) -> torch.Tensor:
    """Split an instance map into bool masks (num_masks, height, width)."""
    numbers = torch.arange(1, int(instances.max(initial=0)) + 1, dtype=torch.uint8)
    return torch.from_numpy(instances)[None] == numbers[:, None, None]
