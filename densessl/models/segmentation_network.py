"""A network that gives every pixel a class, begun from the encoder of a pretraining run, and its file."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.decoders import DeepLabV3
from densessl.models.encoders import Encoder, build_encoder, whole_patches
from densessl.models.network_file import fill_network, load_network, save_network
from densessl.models.saliency_network import SIZE_RANGE_PX, build_unet, copy_levels, pad_to_stride
from densessl.structures import IGNORE

Decoder = Literal["unet", "deeplabv3", "linear"]

DEEPLAB_CHANNELS = 128
"""Channels of the DeepLabV3 decoder; half of the usual, for the sake of processors without a GPU."""
_HEADER_KEY = "segmentation_network"


@dataclass(frozen=True)
class SegmentationNetworkHeader:
    """What a segmentation network's file says of itself.

    encoder: timm name. decoder: unet, deeplabv3 or linear. output_stride: of the encoder below deeplabv3 or linear
    (unet does not use it). num_classes: the background, which is class 0, included. size_px: height and width of the
    views that it was trained on. view_share: mean share of an image's area that such a view showed, in (0, 1].
    backbone, masks: which labels touched the first weights, and the masks that it learned from, in words.
    """

    encoder: str
    decoder: Decoder
    output_stride: int
    num_classes: int
    size_px: int
    view_share: float
    backbone: str
    masks: str


class SegmentationNetwork(nn.Module):
    """A timm encoder with the decoder of a U-Net or of DeepLabV3, both by segmentation_models_pytorch, or with none.

    The U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) joins the encoder's levels of resolution and ends at the image's
    own. DeepLabV3 (Chen et al., arXiv:1706.05587) decodes the last feature map alone, here with depthwise-separable
    atrous convolutions; its logits are upsampled bilinearly. It takes vision transformers as well. So does linear, a
    1x1 convolution on the last feature map.

    Raises:
        InputError: an encoder that the decoder cannot work on, or an unknown name.
    """

    def __init__(self, encoder: str, decoder: Decoder, output_stride: int, num_classes: int) -> None:
        super().__init__()
        self.encoder_name = encoder
        self.body: nn.Module
        match decoder:
            case "unet":
                self.body = build_unet(encoder, num_classes)
            case "deeplabv3":
                self.body = _DeepLab(build_encoder(encoder, output_stride=output_stride), num_classes)
            case "linear":
                self.body = _Linear(build_encoder(encoder, output_stride=output_stride), num_classes)

    @property
    def encoder(self) -> nn.Module:
        """The part that begins with the weights of the run."""
        return self.body.encoder  # type: ignore[return-value]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 3, height, width), normalised, to logits (batch, num_classes, height, width)."""
        height, width = images.shape[-2:]
        logits: torch.Tensor = self.body(pad_to_stride(images))
        return logits[:, :, :height, :width]


class _DeepLab(nn.Module):
    def __init__(self, encoder: Encoder, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = DeepLabV3(encoder.num_channels, DEEPLAB_CHANNELS, is_separable=True, dropout=0.1)
        self.classifier = nn.Conv2d(DEEPLAB_CHANNELS, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.encoder(whole_patches(images, self.encoder))
        logits = self.classifier(self.decoder(features))  # (batch, num_classes, h, w)
        return nn.functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class _Linear(nn.Module):
    def __init__(self, encoder: Encoder, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Conv2d(encoder.num_channels, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.encoder(whole_patches(images, self.encoder))
        logits = self.classifier(features)  # (batch, num_classes, h, w)
        return nn.functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def build_segmentation_network(header: SegmentationNetworkHeader) -> SegmentationNetwork:
    """Build the network that a header describes, with random weights."""
    return SegmentationNetwork(header.encoder, header.decoder, header.output_stride, header.num_classes)


def copy_run_encoder(network: SegmentationNetwork, encoder: Encoder) -> None:
    """Give a network the weights of a run's encoder of the same name.

    Raises:
        InputError: an encoder whose tensors bear other names inside the U-Net.
    """
    if isinstance(network.body, _DeepLab | _Linear):
        network.encoder.load_state_dict(encoder.state_dict())
    else:
        copy_levels(encoder.backbone, network.encoder.model, network.encoder_name)  # type: ignore[arg-type]


def save_segmentation_network(path: Path, network: SegmentationNetwork, header: SegmentationNetworkHeader) -> None:
    """Write the network as safetensors, with its header."""
    save_network(path, network.state_dict(), _HEADER_KEY, asdict(header))


def load_segmentation_network(path: Path) -> tuple[SegmentationNetwork, SegmentationNetworkHeader]:
    """Rebuild the network of a file, in evaluation mode.

    Raises:
        MissingInputError: no such file.
        InputError: not a file of that kind, or one whose header or tensors make no sense.
    """
    origin = "the network.safetensors that `self_label` writes"
    tensors, content = load_network(path, _HEADER_KEY, kind="segmentation network", origin=origin)
    header = _check_header(path, content)
    network = build_segmentation_network(header)
    fill_network(network, tensors, path, f"a {header.decoder} of {header.num_classes} classes on {header.encoder}")
    return network.eval(), header


def _check_header(path: Path, content: Any) -> SegmentationNetworkHeader:
    """Return the header of a file, which may come from anywhere."""
    smallest, largest = SIZE_RANGE_PX
    match content:
        case {
            "encoder": str(encoder),
            "decoder": "unet" | "deeplabv3" | "linear" as decoder,
            "output_stride": int(output_stride),
            "num_classes": int(num_classes),
            "size_px": int(size_px),
            "view_share": int() | float() as view_share,
            "backbone": str(backbone),
            "masks": str(masks),
        } if smallest <= size_px <= largest and 0.01 <= view_share <= 1 and 2 <= num_classes <= IGNORE:
            return SegmentationNetworkHeader(
                encoder, decoder, output_stride, num_classes, size_px, float(view_share), backbone, masks
            )
    raise InputError(
        f"the header of segmentation network {path} is {str(content)[:300]!r}; it must give encoder, backbone and "
        f"masks in words, decoder ({' or '.join(get_args(Decoder))}), output_stride, num_classes in 2-{IGNORE}, "
        f"size_px in {smallest}-{largest} and view_share in 0.01-1: get or train it anew"
    )
