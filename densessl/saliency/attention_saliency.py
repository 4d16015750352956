"""Saliency by attention: the patches that hold a share of what the [CLS] token of a vision transformer looks at."""

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.attention.maps import attention_maps, layer_number
from densessl.attention.mass import mass_mask
from densessl.errors import InputError
from densessl.models.dense_encoder import TimmSource
from densessl.models.vision_encoder import VisionEncoder, open_vision_encoder
from densessl.models.vision_transformer import VisionTransformer
from densessl.saliency.attention_settings import DEFAULT_ATTENTION, AttentionSettings, Head
from densessl.saliency.colour import FloatMap, resize_map
from densessl.saliency.deep_estimator import FeatureRecord, check_size, resize_to_grid
from densessl.saliency.feature_settings import FeatureSettings
from densessl.saliency.patch_maps import JUST_BACKGROUND, split_at
from densessl.structures import ImageArray


def attention_saliency(image: ImageArray, features: FeatureSettings, chosen: AttentionSettings) -> FloatMap:
    """Return the soft map (height, width), in [0, 1], of a uint8 RGB image: one head's attention, or the heads' mean.

    Above 0.5 are the fewest patches that hold the share `mass` of the attention of [CLS] to patches, as in figure 3 of
    DINO (Caron et al., ICCV 2021, arXiv:2104.14294); each side of the split is scaled linearly, and the map is enlarged
    bilinearly from the grid of patches. An image of one colour is all background.

    Raises:
        InputError: an encoder without attention of a [CLS] token, no such layer or head, or head `best`, which only a
            set of images can settle (`densessl.saliency.head_choice`).
    """
    height, width = image.shape[:2]
    if (image == image[0, 0]).all():
        return np.zeros((height, width), dtype=np.float32)
    heads = attention_of_heads(image, features, chosen.layer)
    return np.clip(resize_map(soft_attention(_of_head(heads, chosen.head), chosen.mass), height, width), 0, 1)


def attention_of_heads(image: ImageArray, features: FeatureSettings, layer: int) -> NDArray[np.float32]:
    """Return the attention of [CLS] to the patches of a uint8 RGB image by head, (heads, grid height, grid width)."""
    encoder = open_attention_encoder(features)
    resized = resize_to_grid(image, features.size_px, encoder.stride)
    pixels = torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255
    return attention_maps(_transformer_of(encoder), encoder.normalise(pixels), (layer,)).maps[0, 0].numpy()


def soft_attention(attention: NDArray[np.float32], mass: float) -> FloatMap:
    """Return attention (height, width) scaled to [0, 1], above 0.5 where `mass_mask` keeps it and nowhere else.

    0.5 lies half-way between the least value that is kept and the largest that is not; of equal values on both sides of
    the split those that are kept come just above it.
    """
    kept = mass_mask(torch.from_numpy(attention), mass).numpy()
    least, most = float(attention[kept].min()), float(attention[~kept].max(initial=0))
    soft = split_at(attention, (least + most) / 2)
    above, below = np.float32(1 - JUST_BACKGROUND), np.float32(0.5)
    return np.where(kept, np.where(soft > 0.5, soft, above), np.minimum(soft, below)).astype(np.float32)


def open_attention_encoder(features: FeatureSettings) -> VisionEncoder:
    """Return the encoder of the settings, built once in each process.

    Raises:
        InputError: one without attention of a [CLS] token, weights that do not fit, or a size that does not.
    """
    path = features.weights
    changed_ns = path.stat().st_mtime_ns if path is not None and path.is_file() else 0
    encoder = _open(features.encoder, path, changed_ns, features.pretrained)
    _transformer_of(encoder)
    check_size(features.size_px, encoder.stride)
    return encoder


def attention_record(features: FeatureSettings, chosen: AttentionSettings = DEFAULT_ATTENTION) -> FeatureRecord:
    """Return what the masks' folder must say of the weights; loads them, so that unusable ones are noticed first.

    Raises:
        InputError: as `open_attention_encoder`, and a layer or a head that the encoder does not have.
    """
    encoder = open_attention_encoder(features)
    transformer = _transformer_of(encoder)
    layer_number(chosen.layer, transformer.num_layers)
    if isinstance(chosen.head, int):
        _check_head(chosen.head, transformer.num_heads)
    digest = None if features.weights is None else encoder.fingerprint
    return {"weights_sha256": digest, "supervision": encoder.supervision}


def _transformer_of(encoder: VisionEncoder) -> VisionTransformer:
    if encoder.transformer is None:
        reason = encoder.no_attention.partition(";")[0]  # what follows is advice for who wants to look at it
        raise InputError(
            f"saliency method attention needs attention of a [CLS] token: {reason}; choose a plain vision transformer, "
            "such as vit_small_patch16_224.dino, or another method, such as tokencut, which takes any encoder"
        )
    return encoder.transformer


def _of_head(heads: NDArray[np.float32], head: Head) -> NDArray[np.float32]:
    if head == "best":
        raise InputError(
            "attention_head best is chosen over a folder of images (`densessl saliency`); for a single image give a "
            "number or mean"
        )
    if head == "mean":
        return np.asarray(heads.mean(axis=0))
    _check_head(head, len(heads))
    return heads[head]


def _check_head(head: int, num_heads: int) -> None:
    if head >= num_heads:
        raise InputError(f"attention_head {head} does not exist; the layer has heads 0 to {num_heads - 1}")


@functools.lru_cache(maxsize=1)
def _open(name: str, weights: Path | None, changed_ns: int, pretrained: bool) -> VisionEncoder:
    return open_vision_encoder(TimmSource(name, weights=weights, pretrained=pretrained), torch.device("cpu"))
