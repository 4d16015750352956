"""Which class each cluster stands for, from one confusion matrix. Every rule but `none` uses the labels."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from densessl.errors import InputError
from densessl.evaluation.confusion import Confusion

MatchRule = Literal["none", "hungarian", "hungarian_counts", "majority", "highest_iou"]
UNMATCHED = -1
"""The class index of a cluster that stands for no class; all its pixels count as errors."""


def match_clusters(confusion: Confusion, rule: MatchRule, unnamed: Sequence[int] = ()) -> tuple[int, ...]:
    """Return for each cluster (column) the index of its class (row), or `UNMATCHED`.

    - `none`: cluster c is class c; a column beyond the rows is unmatched.
    - `hungarian`: one-to-one, maximising the sum of IoU (not of pixels). With more clusters than classes the
      clusters left over are unmatched; with fewer, some classes get no cluster.
    - `hungarian_counts`: one-to-one, maximising the number of right pixels, as STEGO (arXiv:2203.08414) and TransFGU
      (arXiv:2112.01515) match; left-over clusters and classes as above.
    - `majority`: each cluster takes the class that most of its pixels are labelled (many-to-one). The precision of
      cluster c for class k is `n_kc / sum_k n_kc`, so this is also matching by precision, as Leopart
      (arXiv:2204.13101) matches over-clusterings.
    - `highest_iou`: each cluster takes the class with which its IoU is highest (many-to-one); what the
      published MaskContrast evaluation (arXiv:2102.06191) does when the numbers of clusters and classes
      differ.

    A cluster that shares no pixel with the class it would get is unmatched: it makes no score better, and a class
    that occurs nowhere stays absent. Background is a class like the others. Equal candidates: the lowest class wins.

    `unnamed` columns stand for no class under any rule but `none`: what is predicted there is an error of the class
    that it is labelled as, such as the background of given masks where background is none of the classes.

    Raises `InputError` for an unknown rule or a matrix that is not (classes, clusters).
    """
    if confusion.ndim != 2:
        raise InputError(f"a confusion matrix has shape (classes, clusters), got {confusion.shape}")
    num_classes, num_clusters = confusion.shape
    iou, pixels = pairwise_iou(confusion), confusion.copy()
    iou[:, list(unnamed)] = pixels[:, list(unnamed)] = 0
    match rule:
        case "none":
            return tuple(c if c < num_classes else UNMATCHED for c in range(num_clusters))
        case "hungarian":
            return _one_to_one(iou, pixels)
        case "hungarian_counts":
            return _one_to_one(pixels, pixels)
        case "majority":
            return _best_class(pixels, pixels)
        case "highest_iou":
            return _best_class(iou, pixels)
    raise InputError(f"match rule {rule!r} is unknown; choose one of {', '.join(get_args(MatchRule))}")


def pairwise_iou(confusion: Confusion) -> NDArray[np.float64]:
    """Return the IoU of every class with every cluster, (classes, clusters); 0 where both are empty."""
    union = confusion.sum(axis=1, keepdims=True) + confusion.sum(axis=0, keepdims=True) - confusion
    return confusion / np.maximum(union, 1)


def merge_clusters(confusion: Confusion, assignment: tuple[int, ...]) -> Confusion:
    """Sum the columns of each class's clusters: (classes, classes + 1), the last column the unmatched."""
    num_classes, num_clusters = confusion.shape
    if len(assignment) != num_clusters:
        raise InputError(f"the assignment names {len(assignment)} clusters, the confusion matrix has {num_clusters}")
    merged = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    for cluster, class_index in enumerate(assignment):
        merged[:, num_classes if class_index == UNMATCHED else class_index] += confusion[:, cluster]
    return merged


def _one_to_one(value: NDArray[np.number], confusion: Confusion) -> tuple[int, ...]:
    classes, clusters = linear_sum_assignment(value, maximize=True)
    assignment = [UNMATCHED] * confusion.shape[1]
    for class_index, cluster in zip(classes, clusters, strict=True):
        if confusion[class_index, cluster] > 0:
            assignment[cluster] = int(class_index)
    return tuple(assignment)


def _best_class(value: NDArray[np.number], confusion: Confusion) -> tuple[int, ...]:
    best = value.argmax(axis=0)
    is_empty = confusion.sum(axis=0) == 0
    return tuple(UNMATCHED if empty else int(row) for row, empty in zip(best, is_empty, strict=True))
