"""The memory bank: a first-in-first-out queue of past mask prototypes that serve as negatives."""

import torch
from torch import nn
from torch.nn import functional as F

from densessl.errors import InputError


class MemoryBank(nn.Module):
    """A queue of `length` unit vectors, oldest overwritten first (MoCo, arXiv:1911.05722, section 3.2).

    The bank starts with random unit vectors, as published. Any length is allowed, 0 included, and any number of rows
    may be enqueued at once. Everything is a buffer, so a checkpoint holds it.

    Buffers:
        prototypes: (length, dim) unit vectors.
        pointer: () int64, the next row to overwrite.
        num_enqueued: () int64, how many rows were ever enqueued.
    """

    prototypes: torch.Tensor
    pointer: torch.Tensor
    num_enqueued: torch.Tensor

    def __init__(self, length: int, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if length < 0 or dim < 1:
            raise InputError(f"a memory bank of length {length} and dimension {dim}; length must be >= 0 and dim >= 1")
        rows = torch.randn(length, dim, generator=generator)
        self.register_buffer("prototypes", F.normalize(rows, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("num_enqueued", torch.zeros((), dtype=torch.int64))

    @property
    def length(self) -> int:
        """Number of rows K."""
        return self.prototypes.shape[0]

    @property
    def is_filled(self) -> bool:
        """Whether every row was enqueued, so that none of the random first vectors is left."""
        return int(self.num_enqueued) >= self.length

    @torch.no_grad()
    def enqueue(self, prototypes: torch.Tensor) -> None:
        """Overwrite the oldest rows with prototypes (num, dim), unit vectors; of more than `length`, the last stay."""
        if prototypes.ndim != 2 or prototypes.shape[1] != self.prototypes.shape[1]:
            dim = self.prototypes.shape[1]
            raise InputError(f"prototypes have shape {tuple(prototypes.shape)}; the memory bank takes (num, {dim})")
        num = prototypes.shape[0]
        if self.length == 0 or num == 0:
            return
        kept = prototypes[-self.length :].to(self.prototypes.dtype)
        first = int(self.pointer) + num - kept.shape[0]
        rows = (first + torch.arange(kept.shape[0], device=kept.device)) % self.length
        self.prototypes[rows] = kept
        self.pointer.fill_((int(self.pointer) + num) % self.length)
        self.num_enqueued += num
