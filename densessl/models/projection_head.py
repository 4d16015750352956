"""The projection head of DINO: from the [CLS] token to the scores over which teacher and student agree."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from densessl.errors import check_at_least


@dataclass(frozen=True)
class ProjectionHeadSettings:
    """What the projection head is made of; the defaults are DINO's (arXiv:2104.14294, appendix C).

    Args:
        num_outputs: dimensions of the output (published 65,536).
        hidden_dim: of the hidden layers.
        bottleneck_dim: of the vectors that are brought to unit length before the last layer.
        num_layers: linear layers before the last one, with GELU between them.
        norm_last_layer: keep the rows of the last layer at unit length; else each has a learned length, which is
            published as better for small networks and less stable for large ones.
    """

    num_outputs: int = 65536
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    num_layers: int = 3
    norm_last_layer: bool = True

    def __post_init__(self) -> None:
        lowest = {"num_outputs": 2, "hidden_dim": 1, "bottleneck_dim": 1, "num_layers": 1}
        check_at_least("dino.head", self, lowest)


class ProjectionHead(nn.Module):
    """An MLP with GELU, vectors of unit length, and a weight-normalised linear layer without bias.

    Linear layers start from a normal distribution of deviation 0.02 and biases of zero; the last layer from PyTorch's
    own initialisation, of which only the directions matter.
    """

    def __init__(self, dim: int, settings: ProjectionHeadSettings) -> None:
        super().__init__()
        widths = [dim, *[settings.hidden_dim] * (settings.num_layers - 1), settings.bottleneck_dim]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.GELU()] if layers else []
            layers.append(_linear(width, next_width))
        self.mlp = nn.Sequential(*layers)
        self.last_layer = UnitLinear(settings.bottleneck_dim, settings.num_outputs, settings.norm_last_layer)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (num, dim) to scores (num, num_outputs): cosines, times the rows' lengths where these learn."""
        return self.last_layer(F.normalize(self.mlp(tokens).float(), dim=-1))


class UnitLinear(nn.Module):
    """A linear layer without bias whose rows are directions times lengths: y_k = g_k v_k x / |v_k|.

    Salimans and Kingma, arXiv:1602.07868, equation 2. `is_fixed` keeps all lengths at 1.
    """

    def __init__(self, num_inputs: int, num_outputs: int, is_fixed: bool) -> None:
        super().__init__()
        self.direction = nn.Parameter(nn.Linear(num_inputs, num_outputs, bias=False).weight.detach())
        self.length = nn.Parameter(torch.ones(num_outputs, 1), requires_grad=not is_fixed)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map vectors (num, num_inputs) to (num, num_outputs)."""
        return F.linear(vectors, self.length * F.normalize(self.direction, dim=1))


def _linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
