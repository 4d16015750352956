"""Saliency by robust background detection on a superpixel graph (Zhu, Liang, Wei, Sun, CVPR 2014)."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from densessl.saliency.colour import RegionValues, stretch
from densessl.saliency.superpixels import Superpixels

APPEARANCE_SCALE = 10.0
"""Width sigma_clr of the Gaussians over appearance distances, in Lab units."""
SPATIAL_SCALE = 0.25
"""Width sigma_spa of the Gaussian over distances in the image, as a fraction of its longer side."""
CONNECTIVITY_SCALE = 1.0
"""Width sigma_BndCon of the step from foreground to background."""
SMOOTHNESS_FLOOR = 0.1
"""Smoothness mu that holds across strong edges too."""

Features = NDArray[np.float64]  # (num_regions, num_features), Euclidean distances in Lab units


def robust_background(regions: Superpixels, features: Features) -> RegionValues:
    """Return the optimised saliency of each region, (n,), stretched to [0, 1].

    Minimises `sum_i bg_i s_i^2 + sum_i ctr_i (s_i - 1)^2 + sum_ij w_ij (s_i - s_j)^2` over the saliency s (equation
    9), with bg the background probability, ctr the contrast to it (equation 7), and
    `w_ij = exp(-d_ij^2 / 2 sigma_clr^2) + mu` between neighbours. d is the Euclidean distance of `features` (n, any),
    in Lab units; the paper uses the mean colour alone.
    """
    distance = pairwise_distance(features)
    edges = join_border(regions)
    background = background_probability(boundary_connectivity(regions, distance, edges))
    contrast = background_contrast(regions, distance, background)
    weights = np.exp(-(distance[edges[0], edges[1]] ** 2) / (2 * APPEARANCE_SCALE**2)) + SMOOTHNESS_FLOOR
    laplacian = graph_laplacian(len(regions), edges, weights)
    # A trace of pull to zero keeps the system solvable where neither term is positive.
    system = laplacian + np.diag(background + contrast + 1e-9)
    return stretch(np.asarray(np.linalg.solve(system, contrast), dtype=np.float64))


def boundary_connectivity(
    regions: Superpixels, distance: NDArray[np.float64], edges: NDArray[np.int64]
) -> RegionValues:
    """Return how strongly each region is tied to the image's edge, (n,), at least 0.

    `BndCon(p) = Len(p) / sqrt(Area(p))`, `Area(p) = sum_i S(p, i)`, `Len(p)` the same sum over border regions, and
    `S = exp(-geo^2 / 2 sigma_clr^2)` with geo the geodesic distance over `edges` (equations 2-5).
    """
    # Zero would mean "no edge" in a sparse matrix.
    lengths = np.maximum(distance[edges[0], edges[1]], 1e-6)
    graph = csr_matrix((lengths, (edges[0], edges[1])), shape=distance.shape)
    geodesic = dijkstra(graph, directed=False)
    span = np.exp(-(geodesic**2) / (2 * APPEARANCE_SCALE**2))
    return span[:, regions.border > 0].sum(axis=1) / np.sqrt(span.sum(axis=1))


def background_probability(connectivity: RegionValues) -> RegionValues:
    """Return `1 - exp(-BndCon^2 / 2 sigma_BndCon^2)`, (n,), in [0, 1] (equation 6)."""
    return 1 - np.exp(-(connectivity**2) / (2 * CONNECTIVITY_SCALE**2))


def background_contrast(regions: Superpixels, distance: NDArray[np.float64], background: RegionValues) -> RegionValues:
    """Return `sum_i d(p, i) exp(-spatial^2 / 2 sigma_spa^2) background_i`, (n,), stretched to [0, 1] (equation 7)."""
    spatial = pairwise_distance(regions.position * regions.aspect)
    nearness = np.exp(-(spatial**2) / (2 * SPATIAL_SCALE**2))
    contrast: RegionValues = (distance * nearness) @ background
    return stretch(contrast)


def join_border(regions: Superpixels) -> NDArray[np.int64]:
    """Return the neighbour pairs plus all pairs of border regions, int64 (2, m), sorted, each pair once."""
    on_border = np.flatnonzero(regions.border)
    first, second = np.triu_indices(len(on_border), 1)
    pairs = np.concatenate([regions.edges, np.stack([on_border[first], on_border[second]])], axis=1)
    codes = np.unique(pairs[0] * len(regions) + pairs[1])
    return np.stack([codes // len(regions), codes % len(regions)])


def graph_laplacian(num_regions: int, edges: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Laplacian `D - W` (n, n) of an undirected graph given by its pairs (2, m) and weights (m,)."""
    adjacency = np.zeros((num_regions, num_regions))
    adjacency[edges[0], edges[1]] = weights
    adjacency[edges[1], edges[0]] = weights
    return np.diag(adjacency.sum(axis=1)) - adjacency


def pairwise_distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean distances (n, n) between the rows of (n, any)."""
    squares = (points**2).sum(axis=1)
    squared = squares[:, None] + squares[None] - 2 * points @ points.T
    np.fill_diagonal(squared, 0)
    return np.sqrt(np.maximum(squared, 0))
