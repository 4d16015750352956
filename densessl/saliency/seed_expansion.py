"""Saliency that grows from one patch: LOST from an object's, FOUND's first step from the background's."""

import numpy as np
from numpy.typing import NDArray

from densessl.models.patch_features import PatchFeatures
from densessl.saliency.colour import FloatMap
from densessl.saliency.normalised_cut import unit_length
from densessl.saliency.patch_maps import keep_part, split_at

NUM_EXPANSION_PATCHES = 100
"""Patches k of lowest degree among which LOST looks for more of the object, as published."""
BACKGROUND_SIMILARITY = 0.3
"""Cosine tau above which a patch belongs to FOUND's background, as published."""
_FLOOR = 1e-10


def lost(features: PatchFeatures) -> FloatMap:
    """Return the soft map of LOST (Siméoni et al., BMVC 2021, arXiv:2109.14279) on the grid, (height, width) in [0, 1].

    The degree of a patch is the number of patches whose product `f_p^T f_q` with it is positive. Seed p* is the patch
    of the lowest degree (the first of equals in reading order); S are those of the `NUM_EXPANSION_PATCHES` patches of
    the lowest degree with a positive product with p*. The mask is where `sum_{s in S} f_q^T f_s` is positive, the
    part of it, connected along edges, that holds p*. The map is that sum scaled on each side of 0.
    """
    products = features.values @ features.values.T
    by_degree = np.argsort((products > 0).sum(axis=1), kind="stable")
    seed, candidates = int(by_degree[0]), by_degree[:NUM_EXPANSION_PATCHES]
    chosen = candidates[products[seed, candidates] > 0]
    correlation = products[:, chosen].sum(axis=1)
    return keep_part(split_at(correlation.reshape(features.height, features.width), 0), seed)


def found_seeds(features: PatchFeatures) -> FloatMap:
    """Return the complement of FOUND's background (Siméoni et al., CVPR 2023, arXiv:2212.07834), (height, width).

    The seed b is the patch that receives the least attention, `argmin_p sum_h w_h A_hp`; background is where the
    cosine of w-weighted features with b's exceeds tau. Head h weighs `w_h = log(sum_g Q_g / Q_h)`, Q_h the share of
    patches that it gives more than the mean attention, all heads together. The map, in [0, 1], is that cosine
    scaled on each side of tau and turned round. This is FOUND's first step; the layer that it then trains is left out.

    Encoders without attention (see `PatchEncoder.extract`) have one head, whose weight is 1, and the seed is the
    patch whose feature has the smallest norm: our substitute, which is not published.
    """
    weights = head_weights(features.attention)
    num_cells, dim = features.values.shape
    heads = features.values.reshape(num_cells, len(weights), dim // len(weights))
    directions = unit_length((heads * weights[None, :, None]).reshape(num_cells, dim))
    seed = int(np.argmin(weights @ features.attention))
    similarity = directions @ directions[seed]
    return split_at(-similarity.reshape(features.height, features.width), -BACKGROUND_SIMILARITY)


def head_weights(attention: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weight of each head, (num_heads,), from attention (num_heads, num_cells); 1 for a single head."""
    if len(attention) == 1:
        return np.ones(1)
    share = (attention > attention.mean()).mean(axis=1)
    return np.log((share + _FLOOR).sum() / (share + _FLOOR))
