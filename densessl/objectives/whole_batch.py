"""How the parts of a batch come together that several processes hold: objectives are handed this, not the processes."""

from collections.abc import Callable
from typing import NamedTuple

import torch


class WholeBatch(NamedTuple):
    """How the parts of a batch come together where several processes hold one each; every process calls in turn.

    gather: turns the rows (num, dim) of this part into those of all parts, in order, without gradient, and the number
        of this part's first row among them.
    total: adds a tensor over the parts; each part receives the gradient of every part's result.
    """

    gather: Callable[[torch.Tensor], tuple[torch.Tensor, int]]
    total: Callable[[torch.Tensor], torch.Tensor]
