"""The two-layer perceptron that follows attention in both transformers."""

import torch
from torch import nn


class FeedForward(nn.Module):
    """`lin2(activation(lin1(tokens)))` on tokens (..., dim); the names are those of published weights."""

    def __init__(self, dim: int, hidden_dim: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)
        self.act = activation

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.lin2(self.act(self.lin1(tokens)))
