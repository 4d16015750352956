"""What a pretrained encoder says of each patch of an image: keys and attention, or cells of its last feature map."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import Attention
from torch import nn

from densessl.errors import InputError
from densessl.models.encoders import Encoder, build_encoder
from densessl.models.weights import load_encoder_weights


@dataclass(frozen=True)
class PatchFeatures:
    """Features of the cells of a grid laid over one image, in reading order (cell = row * width + column).

    values: float64 (height * width, dim); the parts of the heads stand side by side.
    attention: float64 (num_heads, height * width), at least 0; what each cell receives from each head.
    height, width: of the grid.
    """

    values: NDArray[np.float64]
    attention: NDArray[np.float64]
    height: int
    width: int


@dataclass(frozen=True)
class PatchEncoder:
    """An encoder whose weights mean something, in evaluation mode, and what its images are normalised by.

    supervision: which labels trained the weights, in words.
    mean, std: of the colour channels of images in [0, 1].
    """

    encoder: Encoder
    supervision: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def has_keys(self) -> bool:
        """Whether `extract` returns keys of the last attention layer; otherwise it returns the last feature map."""
        return _last_attention(self.encoder) is not None

    def extract(self, image: torch.Tensor) -> PatchFeatures:
        """Return the features of one image, float (1, 3, height, width) in [0, 1], sides multiples of the stride.

        Vision transformers (timm's plain ones: DINO, DeiT, MoCo v3, DINOv2, registers or not): the keys of the last
        attention layer before any normalisation, without class and register tokens, and the attention of the class
        token to the patches; of networks without a class token, the mean attention of all patches.

        All others (convolutional networks, and transformers with attention of another kind: BEiT, EVA): the
        last feature map less its mean over the image, because rectified activations have no negative products,
        which every method here needs. There is no attention to speak of; the norm of the feature, before the mean is
        taken off, stands in for it as one head.
        """
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        with torch.inference_mode():
            return patch_features(self.encoder, (image - mean) / std)


def load_patch_encoder(
    name: str, *, weights: Path | None = None, pretrained: bool = False, output_stride: int = 16
) -> PatchEncoder:
    """Build the encoder of a timm name with the weights of a file, or with timm's published ones (a download).

    Images are normalised by ImageNet's mean and standard deviation for a file, as DINO, MoCo, torchvision and densessl
    do, and by what timm records for its own weights.

    Raises:
        InputError: neither weights nor `pretrained`, or both; an unknown name; a file that does not fit it; a download
            that fails.
        MissingInputError: no such file.
    """
    if (weights is None) == (not pretrained):
        found = "neither a weights file nor pretrained" if weights is None else f"weights {weights} and pretrained"
        raise InputError(f"encoder {name} is given {found}; features need one of the two")
    try:
        encoder = build_encoder(name, output_stride=output_stride, pretrained=pretrained).eval()
    except (OSError, RuntimeError) as error:  # no network, or timm has no weights for that name
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"timm's weights for {name} cannot be had ({reason}); give a file with its weights instead"
        ) from error
    if weights is not None:
        report = load_encoder_weights(encoder.backbone, weights, encoder_name=name)
        return PatchEncoder(encoder, report.supervision, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    published = encoder.backbone.pretrained_cfg
    supervision = f"timm's published weights for {name} (see its model card for their labels)"
    return PatchEncoder(encoder, supervision, tuple(published["mean"]), tuple(published["std"]))  # type: ignore[index]


def patch_features(encoder: Encoder, image: torch.Tensor) -> PatchFeatures:
    """Return the features of one normalised image, float (1, 3, height, width); see `PatchEncoder.extract`."""
    attention = _last_attention(encoder)
    if attention is None:
        return _of_feature_map(encoder(image))
    found: list[torch.Tensor] = []
    hook = attention.qkv.register_forward_hook(lambda module, given, output: found.append(output))
    try:
        height, width = encoder(image).shape[-2:]
    finally:
        hook.remove()
    has_class_token = getattr(encoder.backbone, "cls_token", None) is not None
    num_prefix = int(getattr(encoder.backbone, "num_prefix_tokens", 0))
    keys, received = _keys_and_attention(attention, found[0], num_prefix, has_class_token)
    return PatchFeatures(_to_array(keys), _to_array(received), height, width)


def _keys_and_attention(
    attention: Attention, projected: torch.Tensor, num_prefix: int, has_class_token: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys (cells, heads * head dim) and received attention (heads, cells) from queries, keys and values."""
    _, num_tokens, _ = projected.shape
    split = projected[0].reshape(num_tokens, 3, attention.num_heads, -1)
    keys = split[num_prefix:, 1].flatten(1)  # (cells, heads * head dim)
    query, key = attention.q_norm(split[:, 0]), attention.k_norm(split[:, 1])  # (tokens, heads, head dim)
    asking = query[:1] if has_class_token else query[num_prefix:]
    scores = torch.einsum("qhd,khd->hqk", asking, key) * attention.scale
    received = scores.softmax(dim=2).mean(dim=1)  # (heads, tokens)
    return keys, received[:, num_prefix:]


def _of_feature_map(feature_map: torch.Tensor) -> PatchFeatures:
    _, _, height, width = feature_map.shape
    values = _to_array(feature_map[0].flatten(1).T)  # (cells, channels)
    norm = np.linalg.norm(values, axis=1)
    return PatchFeatures(values - values.mean(axis=0), norm[None], height, width)


def _last_attention(encoder: Encoder) -> Attention | None:
    blocks = getattr(encoder.backbone, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or len(blocks) == 0:
        return None
    attention = getattr(blocks[-1], "attn", None)
    return attention if isinstance(attention, Attention) else None


def _to_array(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.double().contiguous().numpy()
