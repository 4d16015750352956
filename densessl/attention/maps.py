"""Attention of the [CLS] token to the patches of an image, from one forward pass with fused attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from densessl.errors import InputError
from densessl.models.vision_transformer import VisionTransformer, Watcher


@dataclass(frozen=True)
class Attention:
    """What the [CLS] token attends to, for a batch of images of one size.

    maps: float32 (batch, layers, heads, height, width) over the grid of patches, each value the share of a head's
        attention that a patch receives; the shares of a head sum to 1 less what [CLS] and registers receive.
    layers: the number of each layer of `maps`, from 0.
    image_size: (height, width) of the images in pixels. patch_size: pixels; the grid may stick out over the image.
    num_prefix_tokens: [CLS] and registers, which come first among the tokens.
    queries, keys: of every layer of the network, scaled, (batch, heads, tokens, head dim), where `rollout` was asked
        for; else empty.
    features: float (batch, dim, height, width), the patches after the last layer and its normalisation, where they were
        asked for.
    """

    maps: torch.Tensor
    layers: tuple[int, ...]
    image_size: tuple[int, int]
    patch_size: int
    num_prefix_tokens: int
    queries: tuple[torch.Tensor, ...] = ()
    keys: tuple[torch.Tensor, ...] = ()
    features: torch.Tensor | None = None


@torch.no_grad()
def attention_maps(
    model: nn.Module,
    images: torch.Tensor,
    layers: Sequence[int] = (-1,),
    *,
    for_rollout: bool = False,
    with_features: bool = False,
) -> Attention:
    """Return the attention of the [CLS] token to the patches of images: softmax(q_cls k^T / sqrt(d)).

    As drawn by DINO (Caron et al. 2021). One pass; every layer runs its fused kernel, and of the layers asked for only
    the row of [CLS] is computed beside it, from the queries and keys that the layer has made anyway. Without features
    and rollout the pass ends after the last layer asked for. No gradient flows.

    Args:
        model: a `VisionTransformer`, in evaluation mode.
        images: (batch, 3, height, width), normalised, of any height and width.
        layers: numbers from 0, or from the end (-1 is the last), in the order of the result.
        for_rollout: keep queries and keys of all layers, 2 * layers * batch * tokens * dim numbers.
        with_features: keep the patches after the last layer too.

    Raises:
        InputError: a network without attention, no such layer, or images of another shape.
    """
    if not isinstance(model, VisionTransformer):
        raise InputError(
            f"model is a {type(model).__module__}.{type(model).__name__}; give the transformer of "
            "densessl.models.vision_encoder.open_vision_encoder(TimmSource(name, weights=file), device), or look at "
            "feature_energy and pca_rgb where an encoder has no attention"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise InputError(f"images have shape {tuple(images.shape)}; they must be (batch, 3, height, width), not empty")
    asked = tuple(layer_number(layer, model.num_layers) for layer in layers)
    if not asked:
        raise InputError("no layer is asked for; give at least one, such as -1, the last")
    size = (images.shape[-2], images.shape[-1])
    rows: dict[int, torch.Tensor] = {}
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def watcher_of(layer: int) -> Watcher:
        def watch(queries: torch.Tensor, keys: torch.Tensor) -> None:
            if layer in asked:
                rows[layer] = _class_row(queries, keys)[..., model.num_prefix_tokens :]
            if for_rollout:
                kept[layer] = (queries, keys)

        return watch

    watched = range(model.num_layers) if for_rollout else sorted(set(asked))
    stop = None if with_features or for_rollout else max(asked) + 1
    tokens = model(images, {layer: watcher_of(layer) for layer in watched}, stop)
    maps = torch.stack([rows[layer].unflatten(-1, model.grid(size)) for layer in asked], dim=1)
    queries, keys = ((), ()) if not kept else zip(*(kept[layer] for layer in sorted(kept)), strict=True)
    features = model.to_grid(tokens, size) if with_features else None
    return Attention(
        maps, asked, size, model.patch_size, model.num_prefix_tokens, tuple(queries), tuple(keys), features
    )


def to_pixels(
    maps: torch.Tensor, image_size: tuple[int, int], patch_size: int, *, mode: str = "nearest"
) -> torch.Tensor:
    """Return maps (..., grid height, grid width) at the size of the image: patches enlarged, the padding cropped off.

    Args:
        maps: float. image_size: (height, width) in pixels, at most what the grid covers. patch_size: in pixels.
        mode: nearest, which shows the patches, or bilinear.
    """
    covered = (maps.shape[-2] * patch_size, maps.shape[-1] * patch_size)
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    enlarged = F.interpolate(flat, size=covered, mode=mode, align_corners=None if mode == "nearest" else False)
    return enlarged[:, 0, : image_size[0], : image_size[1]].reshape(*maps.shape[:-2], *image_size)


def _class_row(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return the attention of the first token to all tokens, float32 (batch, heads, tokens)."""
    scores = (queries[:, :, :1] @ keys.transpose(-2, -1)).float()  # (batch, heads, 1, tokens)
    return scores.softmax(dim=-1)[:, :, 0]


def layer_number(layer: int, num_layers: int) -> int:
    """Return the number of a layer from 0; raises `InputError` for one that the network does not have."""
    if not -num_layers <= layer < num_layers:
        raise InputError(
            f"layer {layer} does not exist; the network has {num_layers}: 0 to {num_layers - 1}, or -1, -2, ..."
        )
    return layer % num_layers
