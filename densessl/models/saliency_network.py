"""A small U-Net that maps an image to one foreground logit per pixel, and its file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import segmentation_models_pytorch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from densessl.errors import InputError, MissingInputError
from densessl.files import write_atomically
from densessl.models.encoders import build_encoder
from densessl.models.weights import load_encoder_weights

DECODER_CHANNELS = (128, 64, 48, 32, 16)
"""Channels of the decoder from coarse to fine; half of the usual, for the sake of processors without a GPU."""
_STRIDE = 32
"""Image sides are brought to multiples of this."""


@dataclass(frozen=True)
class SaliencyNetworkHeader:
    """What a saliency network's file says of itself.

    encoder: timm name. size_px: long side of the images that it was trained on. supervision: which labels touched
    it, upstream weights and targets included, in words.
    """

    encoder: str
    size_px: int
    supervision: str


class SaliencyNetwork(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) on a timm encoder, by segmentation_models_pytorch.

    Raises:
        InputError: an encoder without the five levels of resolution that a U-Net joins (vision transformers), or an
            unknown name.
    """

    def __init__(self, encoder: str) -> None:
        super().__init__()
        build_encoder(encoder)  # explains an unknown name
        try:
            self.unet = segmentation_models_pytorch.Unet(
                f"tu-{encoder}", encoder_weights=None, decoder_channels=DECODER_CHANNELS, classes=1
            )
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"encoder {encoder!r} has no levels of resolution for a U-Net ({error}); choose a ResNet or a MobileNet"
            ) from error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 3, height, width), normalised, to logits (batch, height, width); sides any."""
        height, width = images.shape[-2:]
        pad = nn.functional.pad(images, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        logits: torch.Tensor = self.unet(pad)
        return logits[:, 0, :height, :width]


def initial_saliency_network(
    encoder: str, weights: Path | None = None, *, pretrained: bool = False
) -> tuple[SaliencyNetwork, str]:
    """Build the network with its initial weights; also returns, in words, which labels those weights saw.

    Args:
        encoder: timm name of a convolutional encoder.
        weights: file with the encoder's weights, in any format of `load_encoder_weights`; random without one.
        pretrained: let timm download its published weights.

    Raises:
        InputError: unknown encoder, or weights of another one.
    """
    network = SaliencyNetwork(encoder)
    if weights is None and not pretrained:
        return network, "none (random weights)"
    whole = build_encoder(encoder, output_stride=32, pretrained=pretrained).backbone
    supervision = f"timm's published weights for {encoder} (see its model card for their labels)"
    if weights is not None:
        supervision = load_encoder_weights(whole, weights, encoder_name=encoder).supervision
    tensors = whole.state_dict()
    levels: nn.Module = network.unet.encoder.model
    levels.load_state_dict({name: tensors[name] for name in levels.state_dict()})
    return network, supervision


def save_saliency_network(path: Path, network: SaliencyNetwork, header: SaliencyNetworkHeader) -> None:
    """Write the network as safetensors, with its header."""
    metadata = {"saliency_network": json.dumps(asdict(header))}
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def load_saliency_network(path: Path) -> tuple[SaliencyNetwork, SaliencyNetworkHeader]:
    """Rebuild the network of a file, in evaluation mode.

    Raises:
        MissingInputError: no such file.
        InputError: not a file of that kind.
    """
    if not path.is_file():
        raise MissingInputError(f"no saliency network {path}; expected network.safetensors of a self-trained run")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"saliency network {path} cannot be read ({error})") from error
    if "saliency_network" not in metadata:
        raise InputError(f"{path} is no saliency network: it lacks the header that `--method self_trained` writes")
    header = SaliencyNetworkHeader(**json.loads(metadata["saliency_network"]))
    network = SaliencyNetwork(header.encoder)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path} holds other tensors than a network on {header.encoder}: {error}") from error
    return network.eval(), header
