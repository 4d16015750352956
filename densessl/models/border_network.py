"""A small network that sees patches alone and says whether they lie near the border of photographs, and its file."""

from pathlib import Path

import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.network_file import load_network, save_network

SIZE_PX = 160
"""Long side of the copies of images that it sees: those of the default estimator."""
FIELD_PX = 25
"""Side of the patch that decides a cell's logit."""
STRIDE_PX = 4
"""Pixels from one cell to the next."""
_HEADER_KEY = "border_network"


class BorderNetwork(nn.Module):
    """Six convolutions without padding, so that nothing but the patch of a cell tells where it lies: 270,000 weights.

    The pretext task is our own; that the border of photographs is mostly background is the prior of Wei et al.,
    "Geodesic Saliency Using Background Priors", ECCV 2012.
    """

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (3, 24, 48, 48, 48, 96, 96), (1, 2, 1, 1, 2, 1)
        layers = zip(widths[:-1], widths[1:], strides, strict=True)
        self.convolutions = nn.Sequential(*(_convolution(*layer) for layer in layers))
        self.classifier = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 3, height, width), normalised, to logits of cells, (batch, rows, columns).

        Larger means middle. Cell i is about the pixels from `STRIDE_PX * i` to `STRIDE_PX * i + FIELD_PX - 1`, and
        there are as many as fit: sides of at least `FIELD_PX` pixels.
        """
        logits: torch.Tensor = self.classifier(self.convolutions(images))
        return logits[:, 0]


def save_border_network(path: Path, network: BorderNetwork) -> None:
    """Write the network as safetensors."""
    save_network(path, network.state_dict(), _HEADER_KEY, {"size_px": SIZE_PX})


def load_border_network(path: Path) -> BorderNetwork:
    """Rebuild the network of a file, in evaluation mode.

    Raises:
        MissingInputError: no such file.
        InputError: not a file of that kind, or one whose tensors are those of another network.
    """
    origin = "the network.safetensors that `--method learned_border` writes"
    tensors, header = load_network(path, _HEADER_KEY, kind="border network", origin=origin)
    if header != {"size_px": SIZE_PX}:
        raise InputError(f"border network {path} was trained as {str(header)[:200]}; expected size_px {SIZE_PX}")
    network = BorderNetwork()
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path} holds other tensors than a border network: {error}") from error
    return network.eval()


def _convolution(inside: int, outside: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, 3, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))
