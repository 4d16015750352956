"""Prototypes of masks, or all pixels, from a feature store: what `embed_images` gives without another forward pass."""

from collections.abc import Sequence

from densessl.errors import InputError
from densessl.evaluation.extraction import (
    EmbeddedImage,
    Extraction,
    Foreground,
    ImageMasks,
    embed_dense,
    mask_weighting,
)
from densessl.evaluation.feature_store import FeatureStore
from densessl.evaluation.framed_images import MaskSource
from densessl.evaluation.protocols import ClusterProtocol
from densessl.structures import ImageRef, Rejection


def embed_stored(
    store: FeatureStore,
    images: Sequence[ImageRef],
    protocol: ClusterProtocol,
    foreground: Foreground,
    masks: MaskSource,
) -> Extraction:
    """Pool the stored features of each image by its masks, one image in memory at a time.

    Up to the rounding of stored features (float16) the result is that of `embed_images` with the same masks. Images
    that the store lacks, or that have no mask in the folder, are left out and named in the result.

    Args:
        store: features at the frame of the protocol.
        images: the data set that the store was made of, in any order.
        protocol: how masks pool.
        foreground: head, masks, all or labels; see `embed_images`.
        masks: where masks come from, for foreground masks and labels.

    Raises:
        InputError: a store of another frame, an encoder without a saliency head for foreground head, a mask that cannot
            be used.
    """
    framing = store.identity.framing
    if framing.size_px != protocol.image_size_px or framing.fit != "stretch":
        raise InputError(
            f"features in {store.folder} are of images {framing.fit}ed to {framing.size_px}, protocol {protocol.name} "
            f"wants them stretched to {protocol.image_size_px}; compute them at that size"
        )
    refs = {ref.stem: ref for ref in images}
    missing = set(masks.folder.missing) if masks.folder is not None else set()
    weighting = mask_weighting(protocol, foreground)
    embedded: list[EmbeddedImage] = []
    rejected = list(store.rejected)
    for index, stem in enumerate(store.stems):
        if stem in missing:
            rejected.append(Rejection(stem, "no mask"))
            continue
        size = store.sizes[index]
        item = ImageMasks(stem, size, masks.read(refs[stem], size))
        embedded += embed_dense(store.dense(index), [item], foreground, weighting)
    return Extraction(tuple(embedded), tuple(rejected))
