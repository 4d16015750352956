"""Layer normalisation over the channels of a feature map."""

import torch
from torch import nn


class ChannelNorm(nn.Module):
    """Normalise each cell of a feature map (batch, channels, height, width) over its channels; then scale and shift.

    The output lies in memory with the channels last, as the convolutions that follow are fast with.
    """

    def __init__(self, num_channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.epsilon = epsilon

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.of_cells(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def of_cells(self, cells: torch.Tensor) -> torch.Tensor:
        """Norm features whose channels come last, (..., channels)."""
        return nn.functional.layer_norm(cells, self.weight.shape, self.weight, self.bias, self.epsilon)
