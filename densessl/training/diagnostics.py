"""Numbers that show whether training is healthy: spread and rank of embeddings, age of the queue, masks, memory."""

import sys

import torch
from torch.nn import functional as F

from densessl.objectives.mask_prototypes import index_masks


def embedding_spread(embeddings: torch.Tensor) -> float:
    """Return the mean standard deviation per dimension of unit vectors (num, dim), times sqrt(dim).

    1 for vectors spread evenly over the sphere, 0 for a collapse to one point (Chen and He, arXiv:2011.10566,
    section 4.1).
    """
    if len(embeddings) < 2:
        return 0.0
    unit = F.normalize(embeddings.float(), dim=1)
    return float(unit.std(dim=0).mean() * unit.shape[1] ** 0.5)


def effective_rank(embeddings: torch.Tensor) -> float:
    """Return the effective rank of vectors (num, dim): exp of the entropy of their normalised singular values.

    Roy and Vetterli, EUSIPCO 2007, definition 1; between 1 (collapse to a line) and min(num, dim).
    """
    if len(embeddings) == 0:
        return 0.0
    values = torch.linalg.svdvals(embeddings.float())
    share = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * torch.log(share.clamp_min(1e-12))).sum()))


def queue_age(num_enqueued: int, length: int, num_steps: int) -> float:
    """Return the mean age of the memory bank's rows in steps; 1 for rows that the last step enqueued.

    The next step sees row j of the bank (j = 0 the newest) after 1 + floor(j * num_steps / num_enqueued) steps. That is
    exact where every step enqueues the same number of rows, and goes by their mean number where it varies; it follows
    from what a checkpoint holds already, so it is the same after a resumption. The random first vectors have no age.

    Args:
        num_enqueued: rows ever enqueued.
        length: rows of the bank.
        num_steps: steps done.

    Returns:
        Steps; 0 where the bank holds no enqueued row.
    """
    num_rows = min(length, num_enqueued)
    if num_rows == 0:
        return 0.0
    ages = 1 + torch.arange(num_rows) * num_steps // num_enqueued
    return float(ages.double().mean())


def count_masks(query_masks: torch.Tensor, key_masks: torch.Tensor) -> tuple[int, int]:
    """Return how many masks of a batch both views show (they have a positive), and how many only one of them.

    A mask so small that the feature grid passes over it counts as shown.

    Args:
        query_masks, key_masks: int64 (batch, height, width), instance maps, 0 for background.
    """
    index = index_masks(query_masks, key_masks)
    num_masks = len(index.image)
    in_query, in_key = (
        torch.bincount(numbers[numbers >= 0], minlength=num_masks) > 0 for numbers in (index.query, index.key)
    )
    return int((in_query & in_key).sum()), int((in_query ^ in_key).sum())


def peak_memory_mib(device: torch.device) -> float | None:
    """Return the most memory used so far, in MiB (2**20 bytes).

    On a GPU what torch allocated at most; on a CPU the largest resident size of this process, loader processes left
    out, None where the system does not say (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
