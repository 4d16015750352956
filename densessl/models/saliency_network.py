"""A small network, a U-Net or an FPN, that maps an image to one foreground logit per pixel, and its file."""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch
import timm
import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.encoders import check_encoder_name
from densessl.models.network_file import fill_network, load_network, save_network
from densessl.models.pyramid_network import PyramidNetwork
from densessl.models.weights import WeightReport, load_encoder_weights

DECODER_CHANNELS = (128, 64, 48, 32, 16)
"""Channels of the U-Net's decoder from coarse to fine; half of the usual, for the sake of processors without a GPU."""
DECODERS = ("unet", "fpn")
SIZE_RANGE_PX = (32, 4096)
"""Smallest and largest side of the training views."""
SCALE_RANGE = (0.25, 4.0)
"""Smallest and largest linear scale at which an image may be seen, relative to the usual one."""
MAX_SCALES = 8
"""Each costs a pass through the network."""
_HEADER_KEY = "saliency_network"
STRIDE = 32
"""Image sides are brought to multiples of this."""


@dataclass(frozen=True)
class SaliencyNetworkHeader:
    """What a saliency network's file says of itself.

    encoder: timm name. size_px: height and width of the views that it was trained on. view_share: share of an image's
    area that has the area of such a view, in pixels, once the image is shrunk for the network, in (0, 1]. supervision:
    which labels touched it, upstream weights and targets included, in words. decoder: one of `DECODERS`. scales:
    linear, relative to that size, at which an image is seen; the logits are averaged.
    """

    encoder: str
    size_px: int
    view_share: float
    supervision: str
    decoder: str = "unet"
    scales: tuple[float, ...] = (1.0,)


class SaliencyNetwork(nn.Module):
    """A decoder on a timm encoder.

    `unet` (Ronneberger, Fischer, Brox, MICCAI 2015), by segmentation_models_pytorch, goes up to the pixels of the
    image; `fpn` (`densessl.models.pyramid_network`) to a quarter of its height and width, from where logits are
    interpolated. With few channels that is much cheaper.

    Args:
        encoder: timm name.
        decoder: one of `DECODERS`.

    Raises:
        InputError: an encoder without the levels of resolution that a decoder joins (vision transformers), one that is
            tied to an image size, or an unknown name.
    """

    def __init__(self, encoder: str, decoder: str = "unet") -> None:
        super().__init__()
        self.decoder = decoder
        self.add_module(decoder, build_unet(encoder, num_maps=1) if decoder == "unet" else build_pyramid(encoder))

    @property
    def parts(self) -> Any:
        """Encoder, decoder and head, as segmentation_models_pytorch names them; named by the decoder in files."""
        return getattr(self, self.decoder)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 3, height, width), normalised, to logits (batch, height, width); sides any."""
        height, width = images.shape[-2:]
        logits: torch.Tensor = self.parts(pad_to_stride(images))
        return logits[:, 0, :height, :width]

    def shift_logits(self, by: float) -> None:
        """Add a number to every logit from now on, by way of the last layer's bias."""
        with torch.no_grad():
            self.parts.segmentation_head[0].bias.add_(by)


def build_unet(encoder: str, num_maps: int) -> segmentation_models_pytorch.Unet:
    """Build a U-Net on a timm encoder, with random weights, for images whose sides are multiples of 32.

    Raises:
        InputError: see `SaliencyNetwork`.
    """
    make = functools.partial(
        segmentation_models_pytorch.Unet, encoder_weights=None, decoder_channels=DECODER_CHANNELS, classes=num_maps
    )
    return _build(make, encoder, "a U-Net")


def build_pyramid(encoder: str) -> PyramidNetwork:
    """Build a feature pyramid on a timm encoder, with random weights, for images whose sides are multiples of 32.

    Raises:
        InputError: see `SaliencyNetwork`.
    """
    return _build(PyramidNetwork, encoder, "an FPN")  # type: ignore[no-any-return]


def _build(make: Callable[..., Any], encoder: str, kind: str) -> Any:
    check_encoder_name(encoder)
    try:
        network = make(f"tu-{encoder}")
        with torch.no_grad():  # some encoders refuse sizes only when an image comes
            network.eval()(torch.zeros(1, 3, 3 * STRIDE, 2 * STRIDE))
    except (ValueError, RuntimeError, TypeError, AssertionError) as error:
        raise InputError(
            f"encoder {encoder!r} has no levels of resolution for {kind} on images of any size ({error}); choose "
            "a ResNet or a MobileNet"
        ) from error
    return network.train()


def pad_to_stride(images: torch.Tensor) -> torch.Tensor:
    """Repeat the last row and column of images (batch, 3, height, width) until the sides are multiples of 32."""
    height, width = images.shape[-2:]
    return nn.functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")


def initial_saliency_network(
    encoder: str, weights: Path | None = None, *, pretrained: bool = False, decoder: str = "unet"
) -> tuple[SaliencyNetwork, WeightReport | None]:
    """Build the network with its initial weights; also returns what was loaded from the file, if there is one.

    Args:
        encoder: timm name of a convolutional encoder.
        weights: file with the encoder's weights, in any format of `load_encoder_weights`; random without one.
        pretrained: let timm download its published weights.
        decoder: one of `DECODERS`.

    Raises:
        InputError: unknown encoder, weights of another one, a download that fails, or an encoder whose tensors bear
            other names inside the network.
    """
    network = SaliencyNetwork(encoder, decoder)
    if weights is None and not pretrained:
        return network, None
    try:
        whole = timm.create_model(encoder, pretrained=pretrained, num_classes=0)
    except (OSError, RuntimeError) as error:  # no network, or timm has no weights for that name
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"timm's weights for {encoder} cannot be had ({reason}); give a file with its weights instead"
        ) from error
    report = None if weights is None else load_encoder_weights(whole, weights, encoder_name=encoder)
    copy_levels(whole, network.parts.encoder.model, encoder)
    return network, report


def copy_levels(whole: nn.Module, levels: nn.Module, encoder: str) -> None:
    """Copy an encoder's tensors to its levels of resolution, for which timm may write `.` in names as `_`."""
    tensors = {name.replace(".", "_"): value for name, value in whole.state_dict().items()}
    wanted = {name: name.replace(".", "_") for name in levels.state_dict()}
    unknown = [name for name, key in wanted.items() if key not in tensors]
    if unknown:
        raise InputError(
            f"the weights of encoder {encoder} cannot be handed to a U-Net: {len(unknown)} tensors bear other names "
            f"there (such as {unknown[0]}); choose a ResNet or a MobileNet, or random weights"
        )
    levels.load_state_dict({name: tensors[key] for name, key in wanted.items()})


def save_saliency_network(path: Path, network: SaliencyNetwork, header: SaliencyNetworkHeader) -> None:
    """Write the network as safetensors, with its header."""
    save_network(path, network.state_dict(), _HEADER_KEY, asdict(header))


def load_saliency_network(path: Path) -> tuple[SaliencyNetwork, SaliencyNetworkHeader]:
    """Rebuild the network of a file, in evaluation mode.

    Raises:
        MissingInputError: no such file.
        InputError: not a file of that kind, or one whose header or tensors make no sense.
    """
    origin = "the network.safetensors that `--method self_trained` writes"
    tensors, content = load_network(path, _HEADER_KEY, kind="saliency network", origin=origin)
    header = _check_header(path, content)
    network = SaliencyNetwork(header.encoder, header.decoder)
    fill_network(network, tensors, path, f"a {header.decoder} on {header.encoder}")
    return network.eval(), header


def _check_header(path: Path, content: Any) -> SaliencyNetworkHeader:
    """Return the header of a file, which may come from anywhere."""
    smallest, largest = SIZE_RANGE_PX
    match content:
        case {
            "encoder": str(encoder),
            "size_px": int(size_px),
            "view_share": int() | float() as view_share,
            "supervision": str(supervision),
        } if smallest <= size_px <= largest and 0.01 <= view_share <= 1 and content.get("decoder", "unet") in DECODERS:
            decoder = content.get("decoder", "unet")  # files of earlier versions do not name it, nor scales
            scales = content.get("scales", [1.0])
            if are_scales(scales):
                return SaliencyNetworkHeader(encoder, size_px, float(view_share), supervision, decoder, tuple(scales))
    raise InputError(
        f"the header of saliency network {path} is {str(content)[:200]!r}; it must give encoder and supervision in "
        f"words, size_px in {smallest}-{largest}, view_share in 0.01-1 and, if any, decoder {' or '.join(DECODERS)} "
        f"and scales, 1 to {MAX_SCALES} numbers in {SCALE_RANGE[0]:g}-{SCALE_RANGE[1]:g}: get or train it anew"
    )


def are_scales(value: Any) -> bool:
    """Say whether a value lists scales for a network: 1 to `MAX_SCALES` numbers in `SCALE_RANGE`."""
    low, high = SCALE_RANGE
    return (
        isinstance(value, list | tuple)
        and 1 <= len(value) <= MAX_SCALES
        and all(isinstance(scale, int | float) and low <= scale <= high for scale in value)
    )
