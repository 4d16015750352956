"""Numbers that show whether embeddings are healthy: spread, effective rank, similarities."""

import torch
from torch.nn import functional as F


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
