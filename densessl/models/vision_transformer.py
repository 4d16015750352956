"""Vision transformers for images of any size and shape, whose queries and keys can be watched on their way through."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import timm.models.eva
import timm.models.vision_transformer
import torch
from timm.layers import AttentionRope, PatchEmbed, apply_rot_embed_cat
from torch import nn
from torch.nn import functional as F

from densessl.errors import InputError

Watcher = Callable[[torch.Tensor, torch.Tensor], None]
"""Is handed the scaled queries and the keys of a layer, each (batch, heads, tokens, head dim), as they are compared."""

_NETWORKS = (timm.models.vision_transformer.VisionTransformer, timm.models.eva.Eva)
_ATTENTION = (timm.models.vision_transformer.Attention, timm.models.eva.EvaAttention, AttentionRope)
_NOTHING_WATCHED: Mapping[int, Watcher] = {}


class VisionTransformer(nn.Module):
    """A timm vision transformer with a [CLS] token, for images of any size and shape.

    Images are padded at the bottom and right to whole patches by repeating their last row and column, so that no edge
    appears that is not in the image. Position embeddings are
    interpolated to the grid of the image by target size, bicubic, where published code (DINO, DINOv2) multiplies by a
    factor, which needs a correction of 0.1 to hit the size. As published, the interpolation is antialiased for networks
    with register tokens and not for others. All attention runs through fused kernels, watched or not.

    Args:
        backbone: a timm network of the classes VisionTransformer (DINO, DINOv2, MAE, MoCo v3, iBOT, supervised) or Eva
            (DINOv3), with patches of any size, with or without register tokens.
        name: for messages.

    Attributes:
        patch_size: pixels. num_layers, num_heads, dim: of the network. num_prefix_tokens: [CLS] and registers.

    Raises:
        InputError: a network of another kind, or without [CLS] token; says which.
    """

    def __init__(self, backbone: nn.Module, name: str = "") -> None:
        super().__init__()
        network: Any = backbone
        _check(network, name or type(backbone).__name__)
        self.backbone = network
        self.patch_size = int(network.patch_embed.patch_size[0])
        self.num_prefix_tokens = int(network.num_prefix_tokens)
        self.num_layers = len(network.blocks)
        self.num_heads = int(network.blocks[-1].attn.num_heads)
        self.dim = int(network.embed_dim)
        self.has_antialiased_positions = network.reg_token is not None

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width in patches of the grid that covers an image of `size` (height, width)."""
        return -(-size[0] // self.patch_size), -(-size[1] // self.patch_size)

    def forward(
        self, images: torch.Tensor, watchers: Mapping[int, Watcher] = _NOTHING_WATCHED, num_layers: int | None = None
    ) -> torch.Tensor:
        """Return the tokens (batch, prefix + patches, dim) after the last layer and its normalisation.

        Args:
            images: (batch, 3, height, width), normalised.
            watchers: by number of the layer, from 0; each is called once, when its layer has run.
            num_layers: stop after that many layers; the tokens are then returned as they are, without normalisation.
        """
        tokens, rotation = self._embed(images)
        for number, block in enumerate(self.backbone.blocks[:num_layers]):
            with self._watched(block.attn, watchers.get(number), rotation):
                tokens = block(tokens) if rotation is None else block(tokens, rope=rotation)
        return tokens if num_layers is not None and num_layers < self.num_layers else self.backbone.norm(tokens)

    def to_grid(self, tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return the patches among the tokens as a map (batch, dim, grid height, grid width); `size` is the image's."""
        patches = tokens[:, self.num_prefix_tokens :]
        return patches.transpose(1, 2).reshape(len(tokens), -1, *self.grid(size))

    def _embed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        network = self.backbone
        height, width = self.grid((images.shape[-2], images.shape[-1]))
        missing = (width * self.patch_size - images.shape[-1], height * self.patch_size - images.shape[-2])
        patches = network.patch_embed.proj(F.pad(images, (0, missing[0], 0, missing[1]), mode="replicate"))
        patches = network.patch_embed.norm(patches.flatten(2).transpose(1, 2))  # (batch, height * width, dim)
        prefix = torch.cat([token for token in (network.cls_token, network.reg_token) if token is not None], dim=1)
        if network.pos_embed is not None:
            num_embedded = 0 if network.no_embed_class else self.num_prefix_tokens
            patches = patches + resample_positions(
                network.pos_embed[:, num_embedded:],
                network.patch_embed.grid_size,
                (height, width),
                antialias=self.has_antialiased_positions,
            )
            if num_embedded:
                prefix = prefix + network.pos_embed[:, :num_embedded]
        tokens = torch.cat([prefix.expand(len(images), -1, -1).to(patches.dtype), patches], dim=1)
        rope = getattr(network, "rope", None)
        return network.norm_pre(tokens), None if rope is None else rope.get_embed(shape=(height, width))

    @contextlib.contextmanager
    def _watched(self, attention: Any, watcher: Watcher | None, rotation: torch.Tensor | None) -> Iterator[None]:
        """Hand the queries and keys that a layer computes in the block to its watcher; nothing is computed twice."""
        if watcher is None:
            yield
            return
        found: list[torch.Tensor] = []
        hooks = [
            norm.register_forward_hook(lambda module, given, output: found.append(output))
            for norm in (attention.q_norm, attention.k_norm)  # each sees (batch, heads, tokens, head dim), once
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        queries, keys = (self._rotated(projected, rotation, attention) for projected in found)
        watcher(queries * attention.scale, keys)

    def _rotated(self, projected: torch.Tensor, rotation: torch.Tensor | None, attention: Any) -> torch.Tensor:
        """Return queries or keys with the patches rotated by their position, as DINOv3's attention does."""
        if rotation is None:
            return projected
        prefix, patches = projected[:, :, : self.num_prefix_tokens], projected[:, :, self.num_prefix_tokens :]
        rotated = apply_rot_embed_cat(patches, rotation, half=bool(getattr(attention, "rotate_half", False)))
        return torch.cat([prefix, rotated.to(projected.dtype)], dim=2)


def resample_positions(
    positions: torch.Tensor, grid: tuple[int, int], new_grid: tuple[int, int], *, antialias: bool
) -> torch.Tensor:
    """Return position embeddings (1, height * width, dim) of one grid for another, bicubic, by target size.

    Args:
        positions: (1, height * width, dim) of `grid`, in reading order.
        grid, new_grid: (height, width) in patches. The same grid gives the same embeddings.
        antialias: as for DINOv2 with registers; torch's bicubic kernel is another one then, also where a grid grows.
    """
    if tuple(grid) == tuple(new_grid):
        return positions
    laid_out = positions.float().reshape(1, *grid, -1).permute(0, 3, 1, 2)  # (1, dim, height, width)
    resampled = F.interpolate(laid_out, size=new_grid, mode="bicubic", align_corners=False, antialias=antialias)
    return resampled.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)


def _check(network: Any, name: str) -> None:
    """Raise `InputError` where attention of [CLS] cannot be read from a network, and say why."""
    if type(network) not in _NETWORKS:
        raise InputError(
            f"encoder {name} is a {type(network).__name__}, which is no plain vision transformer with attention of a "
            "[CLS] token; choose one such as vit_small_patch16_224, or look at feature energy and principal components"
        )
    if network.cls_token is None:
        raise InputError(f"encoder {name} has no [CLS] token whose attention could be drawn; choose one that has")
    if type(network.patch_embed) is not PatchEmbed or len(set(network.patch_embed.patch_size)) > 1:
        raise InputError(
            f"encoder {name} does not cut images into square patches by one convolution; choose one that does"
        )
    kinds = {type(getattr(block, "attn", None)) for block in network.blocks}
    is_grouped = any(getattr(block.attn, "num_kv_groups", 1) != 1 for block in network.blocks if hasattr(block, "attn"))
    if not kinds <= set(_ATTENTION) or is_grouped or getattr(network, "rope_mixed", False):
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"encoder {name} has attention of another kind ({found}), which cannot be drawn here")
