"""The MaskContrast network: encoder, decoder, an embedding head and a saliency head."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from densessl.errors import InputError, check_at_least
from densessl.models.decoders import DeepLabV3
from densessl.models.encoders import Encoder, build_encoder


@dataclass(frozen=True)
class ModelSettings:
    """What the network is made of.

    Args:
        encoder: timm name of the encoder, e.g. resnet18, resnet50, mobilenetv2_100, vit_small_patch16_224.
        weights: file with the encoder's initial weights (torchvision, timm, MoCo or DINO, or a densessl or published
            MaskContrast checkpoint; told apart by their keys). Without it the encoder starts from random weights.
        whole_network: take decoder and heads from the weights file too (densessl and published MaskContrast files).
        pretrained: let timm download its published weights for the encoder's name.
        output_stride: image pixels per cell of the feature map (8, 16 or 32; ignored by vision transformers).
        decoder: deeplabv3, or none to put the heads on the encoder's features.
        decoder_channels: channels of the decoder's output.
        separable_decoder: depthwise-separable atrous convolutions, about nine times cheaper.
        dropout: dropout after the pyramid pooling.
        embedding_dim: dimensions of the embedding.
        embedding_hidden: channels of a hidden layer of the embedding head (MoCo v2, arXiv:2003.04297); 0 for none, as
            published.
        embedding_of: pixels (the head sees the features of each pixel, as published) or masks (the head sees the mean
            features of each mask, as in DetCon, arXiv:2103.10957, section 3.1, here scaled to unit root mean square).
        num_prototypes: learned unit vectors, a layer without bias behind the embedding, to which objective.swav_weight
            assigns masks; 0 for none, as published. They are brought back to unit length before each step (SwAV,
            arXiv:2006.09882). The momentum twin carries a copy, as of every layer; codes and predictions use these.
        frozen: names of encoder parts (prefixes of parameter names, e.g. conv1, layer1) that are not trained and
            whose batch norm is kept in evaluation mode.
        batch_norm: train, or frozen to keep every batch norm of the encoder at its loaded statistics.
    """

    encoder: str = "resnet18"
    weights: Path | None = None
    whole_network: bool = False
    pretrained: bool = False
    output_stride: Literal[8, 16, 32] = 8
    decoder: Literal["deeplabv3", "none"] = "deeplabv3"
    decoder_channels: int = 256
    separable_decoder: bool = False
    dropout: float = 0.5
    embedding_dim: int = 32
    embedding_hidden: int = 0
    embedding_of: Literal["pixels", "masks"] = "pixels"
    num_prototypes: int = 0
    frozen: tuple[str, ...] = ()
    batch_norm: Literal["train", "frozen"] = "train"

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout is {self.dropout}; a probability below 1 is needed (published 0.5)")
        check_at_least("model", self, {"decoder_channels": 1, "embedding_dim": 1})
        if self.num_prototypes < 0 or self.num_prototypes == 1:
            raise InputError(f"model.num_prototypes is {self.num_prototypes}; it must be 0 (none), or 2 or more")
        if self.embedding_hidden < 0:
            raise InputError(f"model.embedding_hidden is {self.embedding_hidden}; it must be 0 (none) or more")


class ViewMasks(NamedTuple):
    """The masks of a batch: bool or float (num_masks, height, width) at the images' size, and int64 (num_masks,),
    the image that each lies in.
    """

    membership: torch.Tensor
    image: torch.Tensor


class DenseOutput(NamedTuple):
    """What the network says of a batch of images, all on the feature grid (h, w).

    A named tuple because distributed wrappers rebuild the outputs that they pass on.

    encoder: (batch, encoder channels, h, w), the encoder's last feature map.
    decoder: (batch, decoder channels, h, w), what both heads see.
    embedding: (batch, dim, h, w), or (num_masks, dim) of the masks where masks were given; not normalised.
    saliency: (batch, 1, h, w), logits.
    local_embedding: the embedding of further, smaller images, where such were given.
    prototypes: (num_prototypes, dim), unit vectors, where the network has any.
    """

    encoder: torch.Tensor
    decoder: torch.Tensor
    embedding: torch.Tensor
    saliency: torch.Tensor
    local_embedding: torch.Tensor | None = None
    prototypes: torch.Tensor | None = None


class MaskContrastModel(nn.Module):
    """Encoder, decoder, 1x1 embedding head (with bias) and 1x1 saliency head (without), as in arXiv:2102.06191.

    `embed` is the embedding head with what comes before it; see `ModelSettings.embedding_of`.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        decoder_channels: int,
        embedding_dim: int,
        frozen: tuple[str, ...],
        *,
        embedding_hidden: int = 0,
        embedding_of: Literal["pixels", "masks"] = "pixels",
        num_prototypes: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.embedding_head = _embedding_head(decoder_channels, embedding_hidden, embedding_dim)
        self.embedding_of = embedding_of
        self.saliency_head = nn.Conv2d(decoder_channels, 1, 1, bias=False)
        self.prototypes = nn.Linear(embedding_dim, num_prototypes, bias=False) if num_prototypes else None
        self.normalise_prototypes()
        self.frozen = frozen
        self.has_frozen_batch_norm = False
        for name, parameter in encoder.backbone.named_parameters():
            parameter.requires_grad = not _is_part_of(name, frozen)

    def forward(
        self,
        images: torch.Tensor,
        masks: ViewMasks | None = None,
        local_images: torch.Tensor | None = None,
        local_masks: ViewMasks | None = None,
    ) -> DenseOutput:
        """Map images (batch, 3, height, width), normalised, to a `DenseOutput` on the feature grid.

        `masks` are embedded as wholes in place of the pixels, by a network whose `embedding_of` is masks.
        `local_images`, of another size, go through the network after them, in a pass of their own (one call for both,
        because distributed wrappers count calls): in training, batch norm normalises them by their own statistics and
        moves its running ones once more. `local_masks` are for them what `masks` are for the images.
        """
        if (masks is not None or local_masks is not None) and self.embedding_of != "masks":
            raise ValueError("this network embeds pixels; build it with embedding_of masks to embed whole masks")
        features = self.encoder(images)
        decoded = self.decoder(features)
        embedding = self.embed(decoded if masks is None else masked_mean(decoded, masks))
        saliency = self.saliency_head(decoded)
        local_embedding = None
        if local_images is not None:
            local = self.decoder(self.encoder(local_images))
            local_embedding = self.embed(local if local_masks is None else masked_mean(local, local_masks))
        prototypes = None if self.prototypes is None else nn.functional.normalize(self.prototypes.weight, dim=1)
        return DenseOutput(features, decoded, embedding, saliency, local_embedding, prototypes)

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        """Bring the prototypes, if there are any, back to unit length, in place."""
        if self.prototypes is not None:
            self.prototypes.weight.copy_(nn.functional.normalize(self.prototypes.weight, dim=1))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Apply the embedding head to decoder features (num, channels) or (batch, channels, h, w), not normalised.

        Where the network embeds masks, features are first brought to a root mean square of 1 over their channels, so
        that their length, and with it the size of mask and image, does not matter.
        """
        maps = features if features.ndim == 4 else features[:, :, None, None]
        if self.embedding_of == "masks":
            maps = nn.functional.normalize(maps.float(), dim=1) * maps.shape[1] ** 0.5
        embedded = self.embedding_head(maps)
        return embedded if features.ndim == 4 else embedded.flatten(1)

    def train(self, mode: bool = True) -> "MaskContrastModel":
        """Set training mode, keeping the frozen parts and frozen batch norms of the encoder in evaluation mode."""
        super().train(mode)
        for name, module in self.encoder.backbone.named_modules():
            if (name and _is_part_of(name, self.frozen)) or (
                self.has_frozen_batch_norm and isinstance(module, nn.modules.batchnorm._BatchNorm)
            ):
                module.eval()
        return self


def build_model(settings: ModelSettings) -> MaskContrastModel:
    """Assemble the network of these settings; initial weights are loaded by the caller (`densessl.models.weights`).

    Raises:
        InputError: a setting out of range, or a frozen part that names nothing.
    """
    encoder = build_encoder(settings.encoder, output_stride=settings.output_stride, pretrained=settings.pretrained)
    names = [name for name, _ in encoder.backbone.named_parameters()]
    for part in settings.frozen:
        if not any(_is_part_of(name, (part,)) for name in names):
            parts = sorted({name.split(".")[0] for name in names})
            raise InputError(f"model.frozen names {part!r}, which {settings.encoder} does not have; it has {parts}")
    decoder: nn.Module
    match settings.decoder:
        case "deeplabv3":
            channels = settings.decoder_channels
            decoder = DeepLabV3(
                encoder.num_channels,
                channels,
                is_separable=settings.separable_decoder,
                dropout=settings.dropout,
            )
        case "none":
            channels = encoder.num_channels
            decoder = nn.Identity()
    model = MaskContrastModel(
        encoder,
        decoder,
        channels,
        settings.embedding_dim,
        settings.frozen,
        embedding_hidden=settings.embedding_hidden,
        embedding_of=settings.embedding_of,
        num_prototypes=settings.num_prototypes,
    )
    model.has_frozen_batch_norm = settings.batch_norm == "frozen"
    return model


def _embedding_head(channels: int, hidden: int, dim: int) -> nn.Module:
    if hidden == 0:
        return nn.Conv2d(channels, dim, 1)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1))


def masked_mean(features: torch.Tensor, masks: ViewMasks) -> torch.Tensor:
    """Return the mean features of each mask (num_masks, channels); masks are area-averaged to the feature grid."""
    grid = (features.shape[-2], features.shape[-1])
    share = nn.functional.adaptive_avg_pool2d(masks.membership.float().unsqueeze(1), grid).squeeze(1)
    sums = torch.einsum("mhw,mchw->mc", share, features.float()[masks.image])
    return sums / share.sum((1, 2)).clamp_min(1e-6)[:, None]


def _is_part_of(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)
