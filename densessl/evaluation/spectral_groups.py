"""Spectral clustering on a k-nearest-neighbour graph, sparse throughout."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.cluster import KMeans
from sklearn.neighbors import kneighbors_graph

NUM_NEIGHBOURS = 10
_NUM_STARTS = 10
_LEAST_SCALE = 1e-12


def spectral_groups(
    vectors: NDArray[np.float32], num_groups: int, seed: int, num_neighbours: int = NUM_NEIGHBOURS
) -> NDArray[np.int64]:
    """Cluster vectors (num_vectors, dim), more than `num_groups`, by their graph: int64 (num_vectors,).

    The graph joins each vector with its nearest neighbours, with the weight `exp(-d_ij^2 / (s_i s_j))`, s_i being the
    distance to the farthest of them (Zelnik-Manor and Perona, NIPS 2004). The leading eigenvectors of
    `D^-1/2 W D^-1/2`, with rows of unit length, are clustered by k-means (Ng, Jordan and Weiss, NIPS 2001): one for
    each connected part of the graph, of eigenvalue 1, and the others by Lanczos iterations on the sparse matrix.
    COMUS (arXiv:2207.05027) clusters the features of object regions spectrally, on a graph of its own.
    """
    adjacency = _affinities(vectors, min(num_neighbours, len(vectors) - 1))
    found = _leading_eigenvectors(adjacency, num_groups, np.random.default_rng(seed))
    length = np.linalg.norm(found, axis=1, keepdims=True)
    rows = found / np.where(length > 0, length, 1)
    return KMeans(num_groups, n_init=_NUM_STARTS, random_state=seed).fit(rows).labels_.astype(np.int64)


def _leading_eigenvectors(adjacency: csr_array, num: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the leading eigenvectors (num_vectors, num or more) of `D^-1/2 W D^-1/2`, all of eigenvalue 1 among them.

    Eigenvalue 1 comes as often as the graph has connected parts with a weight that counts, and its eigenvectors are
    `D^1/2` within a part and 0 elsewhere. They are written down, as Lanczos iterations miss some of a repeated
    eigenvalue.
    """
    degrees = np.asarray(adjacency.sum(axis=1)).ravel()
    roots = np.sqrt(np.maximum(degrees, _LEAST_SCALE))
    _, part = connected_components(adjacency, directed=False)
    parts = np.unique(part[degrees > _LEAST_SCALE])
    known = np.where(part[:, None] == parts, roots[:, None], 0.0)
    known /= np.linalg.norm(known, axis=0)
    if len(parts) >= num:
        return known
    scale = diags_array(1 / roots)
    matrix = csr_array(scale @ adjacency @ scale)
    deflated = LinearOperator(  # the known ones have eigenvalue -1 in it, the least there is
        matrix.shape, matvec=lambda vector: matrix @ vector - 2 * known @ (known.T @ vector), dtype=np.float64
    )
    start = generator.uniform(0.5, 1.5, len(roots))
    _, others = eigsh(deflated, k=num - len(parts), which="LA", v0=start - known @ (known.T @ start))
    return np.concatenate([known, others], axis=1)


def _affinities(vectors: NDArray[np.float32], num_neighbours: int) -> csr_array:
    """Return the symmetric sparse matrix of weights: a pair is joined where either is a neighbour of the other."""
    graph = kneighbors_graph(vectors.astype(np.float64), num_neighbours, mode="distance").tocoo()
    scale = np.maximum(graph.tocsr().max(axis=1).toarray().ravel(), _LEAST_SCALE)
    weights = np.exp(-(graph.data**2) / (scale[graph.row] * scale[graph.col]))
    one_way = csr_array((weights, (graph.row, graph.col)), shape=graph.shape)
    return csr_array(one_way.maximum(one_way.T))
