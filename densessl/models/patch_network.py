"""A small network that sees patches alone and says whether they are of what photographs show, and its file."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.network_file import fill_network, load_network, save_network

SIZE_PX = 160
"""Long side of the copies of images that it sees: those of the default estimator."""
FIELD_PX = 25
"""Side of the patch that decides a cell's logit."""
STRIDE_PX = 4
"""Pixels from one cell to the next."""
_HEADER_KEY = "patch_network"


@dataclass(frozen=True)
class PatchNetworkHeader:
    """What a patch network's file says of itself.

    num_images: those of its last round, unreadable ones included. rounds: the first learned the border and the middle
    of photographs, each further one the maps of the one before.
    """

    num_images: int
    rounds: int


class PatchNetwork(nn.Module):
    """Six convolutions without padding, 178,000 weights, so that nothing but the patch of a cell decides its logit.

    A network of our own. That the border of photographs is mostly background is the prior of Wei, Wen, Zhu, Sun,
    "Geodesic Saliency Using Background Priors", ECCV 2012.
    """

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (3, 24, 48, 48, 48, 96, 96), (1, 2, 1, 1, 2, 1)
        layers = zip(widths[:-1], widths[1:], strides, strict=True)
        self.convolutions = nn.Sequential(*(_convolution(*layer) for layer in layers))
        self.classifier = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 3, height, width), normalised, to foreground logits of cells, (batch, rows, columns).

        Cell i is about the pixels from `STRIDE_PX * i` to `STRIDE_PX * i + FIELD_PX - 1`, and there are as many as fit:
        sides of at least `FIELD_PX` pixels.
        """
        logits: torch.Tensor = self.classifier(self.convolutions(images))
        return logits[:, 0]


def save_patch_network(path: Path, network: PatchNetwork, header: PatchNetworkHeader) -> None:
    """Write the network as safetensors, with its header."""
    save_network(path, network.state_dict(), _HEADER_KEY, {"size_px": SIZE_PX, **asdict(header)})


def load_patch_network(path: Path) -> tuple[PatchNetwork, PatchNetworkHeader]:
    """Rebuild the network of a file, in evaluation mode.

    Raises:
        MissingInputError: no such file.
        InputError: not a file of that kind, or one whose header or tensors make no sense.
    """
    origin = "the network.safetensors that `--method learned_patches` writes"
    tensors, content = load_network(path, _HEADER_KEY, kind="patch network", origin=origin)
    match content:
        case {"size_px": int(size_px), "num_images": int(num_images), "rounds": int(rounds)} if size_px == SIZE_PX:
            header = PatchNetworkHeader(num_images, rounds)
        case _:
            raise InputError(
                f"the header of patch network {path} is {str(content)[:200]!r}; it must give size_px {SIZE_PX}, "
                "num_images and rounds: get or train it anew"
            )
    network = PatchNetwork()
    fill_network(network, tensors, path, "a patch network")
    return network.eval(), header


def _convolution(inside: int, outside: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, 3, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))
