"""Clustering: recovers planted clusters, repeats with its seed, judges without labels, refuses bad input."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from densessl.errors import InputError
from densessl.evaluation import cluster_algorithms
from densessl.evaluation.clustering import (
    assign,
    centres,
    cluster_distances,
    cluster_pixels,
    cluster_prototypes,
    silhouette,
    stability,
)
from densessl.evaluation.projection import project
from densessl.evaluation.protocols import MASKCONTRAST, NATIVE, ClusterProtocol, protocol_by_name

FAISS = replace(NATIVE, name="faiss", algorithm="faiss")
NEW = [
    replace(NATIVE, name=algorithm, algorithm=algorithm, num_initialisations=4)
    for algorithm in ("fast", "streaming", "spherical", "spectral", "agglomerative")
]
ALL = pytest.mark.parametrize("protocol", [NATIVE, FAISS, MASKCONTRAST, *NEW], ids=lambda p: p.name)


def planted(num: int = 300, dim: int = 40, num_clusters: int = 5) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(num_clusters, dim))
    truth = rng.integers(num_clusters, size=num)
    vectors = centres[truth] + 0.1 * rng.normal(size=(num, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth


@pytest.mark.parametrize("protocol", [NATIVE, FAISS, *NEW], ids=lambda p: p.name)
def test_recovers_planted_clusters(protocol: ClusterProtocol) -> None:
    vectors, truth = planted()
    result = cluster_prototypes(vectors, 5, protocol, seed=0)
    assert adjusted_rand_score(truth, result.assignments) == 1.0
    assert result.assignments.dtype == np.int64
    assert result.num_clusters == 5
    if result.groups is None:
        assert result.centroids.shape == (5, 16)
        assert result.notes == ()


@pytest.mark.parametrize("protocol", NEW[3:], ids=lambda p: p.name)
def test_clusters_of_several_centroids(protocol: ClusterProtocol) -> None:
    vectors, truth = planted()
    result = cluster_prototypes(vectors[:200], 5, protocol, seed=0)
    assert result.groups is not None
    assert len(result.centroids) == len(result.groups) > 5
    assert any("a vector goes with the nearest of them" in note for note in result.notes)
    assert adjusted_rand_score(truth[200:], assign(vectors[200:], result)) == 1.0
    projected = project(vectors[:200], result.projection)
    distances = cluster_distances(projected, result)
    assert distances.shape == (200, 5)
    assert np.array_equal(distances.argmin(axis=1), result.assignments)
    to_all = ((projected[:, None] - result.centroids[None]) ** 2).sum(-1) - (projected**2).sum(-1, keepdims=True)
    for number in range(5):
        assert distances[:, number] == pytest.approx(to_all[:, result.groups == number].min(axis=1), abs=1e-5)
        mean = projected[result.assignments == number].mean(axis=0)
        assert centres(projected, result)[number] == pytest.approx(mean, abs=1e-6)


def test_many_vectors_are_clustered_spectrally_through_over_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_algorithms, "MOST_SPECTRAL", 200)
    monkeypatch.setattr(cluster_algorithms, "SPECTRAL_REPRESENTATIVES", 40)
    vectors, truth = planted()
    result = cluster_prototypes(vectors, 5, NEW[3], seed=0)
    assert len(result.centroids) == 40
    assert adjusted_rand_score(truth, result.assignments) == 1.0


def test_spherical_brings_vectors_to_unit_length_and_says_so() -> None:
    vectors, truth = planted()
    result = cluster_prototypes(vectors, 5, replace(NEW[2], is_projection_normalised=False), seed=0)
    assert any("brought to unit length" in note for note in result.notes)
    assert np.linalg.norm(result.centroids, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert adjusted_rand_score(truth, assign(vectors, result)) == 1.0


@ALL
def test_seed_decides_and_threads_do_not(protocol: ClusterProtocol) -> None:
    num = 600 if protocol.algorithm == "spectral" else 3000
    vectors = np.random.default_rng(3).normal(size=(num, 24)).astype(np.float32)
    first = cluster_prototypes(vectors, 9, replace(protocol, num_initialisations=2), seed=4)
    with threadpool_limits(limits=1):
        second = cluster_prototypes(vectors, 9, replace(protocol, num_initialisations=2), seed=4)
    other = cluster_prototypes(vectors, 9, replace(protocol, num_initialisations=2), seed=5)
    assert np.array_equal(first.assignments, second.assignments)
    assert np.array_equal(first.centroids, second.centroids)
    assert not np.array_equal(first.assignments, other.assignments)


@ALL
def test_assignments_are_nearest_centroids_and_inertia_their_distance(protocol: ClusterProtocol) -> None:
    vectors, _ = planted()
    result = cluster_prototypes(vectors, 7, protocol, seed=1)
    projected = project(vectors, result.projection).astype(np.float64)
    distances = ((projected[:, None] - result.centroids[None].astype(np.float64)) ** 2).sum(-1)
    nearest = distances.argmin(1)
    assert np.array_equal(nearest if result.groups is None else result.groups[nearest], result.assignments)
    if result.groups is None:
        assert result.inertia == pytest.approx(distances.min(1).sum(), rel=1e-5)
    assert np.array_equal(assign(vectors, result), result.assignments)


def test_more_starts_never_end_worse() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    one = cluster_prototypes(vectors, 12, replace(NATIVE, num_initialisations=1), seed=0)
    many = cluster_prototypes(vectors, 12, NATIVE, seed=0)
    assert many.inertia <= one.inertia


def test_pca_is_reduced_and_said() -> None:
    vectors, _ = planted(num=10, dim=40, num_clusters=2)
    result = cluster_prototypes(vectors, 2, MASKCONTRAST, seed=0)
    assert result.centroids.shape == (2, 9)
    assert len(result.notes) == 1
    assert "9 dimensions instead of 32" in result.notes[0]
    assert np.isfinite(result.centroids).all()
    low = cluster_prototypes(planted(dim=6)[0], 3, NATIVE, seed=0)
    assert "6 dimensions instead of 16" in low.notes[0]


def test_no_pca_and_normalised_projection() -> None:
    vectors, truth = planted()
    raw = cluster_prototypes(vectors, 5, replace(NATIVE, pca_dim=None), seed=0)
    assert raw.centroids.shape == (5, 40)
    assert raw.projection.mean is None
    sphere = cluster_prototypes(vectors, 5, replace(NATIVE, is_projection_normalised=True), seed=0)
    lengths = np.linalg.norm(project(vectors, sphere.projection), axis=1)
    assert lengths == pytest.approx(np.ones(len(vectors)), abs=1e-5)
    assert adjusted_rand_score(truth, sphere.assignments) == 1.0


@pytest.mark.filterwarnings("ignore")
@ALL
def test_collapsed_prototypes_are_said(protocol: ClusterProtocol) -> None:
    result = cluster_prototypes(np.ones((30, 8), dtype=np.float32), 4, protocol, seed=0)
    assert any("collapsed" in note for note in result.notes)
    assert any("only 1 of 30 prototypes differ" in note for note in result.notes)
    assert silhouette(np.ones((30, 8)), result) is None


def test_one_cluster_and_as_many_as_vectors() -> None:
    vectors, _ = planted(num=6)
    assert set(cluster_prototypes(vectors, 1, NATIVE, seed=0).assignments) == {0}
    assert sorted(cluster_prototypes(vectors, 6, NATIVE, seed=0).assignments) == list(range(6))
    assert cluster_prototypes(vectors[:1], 1, NATIVE, seed=0).assignments.tolist() == [0]


def test_pixels_are_clustered_and_others_assigned() -> None:
    vectors, truth = planted(num=400)
    result = cluster_pixels(vectors[:200], 5, NATIVE, seed=0)
    assert adjusted_rand_score(truth[200:], assign(vectors[200:], result)) == 1.0


def test_silhouette_equals_sklearn_and_falls_with_wrong_k() -> None:
    vectors, _ = planted()
    right, wrong = (cluster_prototypes(vectors, k, NATIVE, seed=0) for k in (5, 9))
    expected = silhouette_score(project(vectors, right.projection), right.assignments)
    value, lower = silhouette(vectors, right), silhouette(vectors, wrong)
    assert value == pytest.approx(expected, abs=1e-6)
    assert value is not None
    assert lower is not None
    assert lower < value
    assert silhouette(vectors, right, max_vectors=100) == pytest.approx(value, abs=0.05)


def test_stability_by_hand() -> None:
    one, same, other = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), np.array([0, 1, 0, 1])
    assert stability([one, same]) == 1.0
    assert stability([one, same, other]) == pytest.approx((1 + 2 * adjusted_rand_score(one, other)) / 3)
    with pytest.raises(InputError, match="at least 2 clusterings, got 1"):
        stability([one])


def test_errors_name_numbers_and_image() -> None:
    vectors, _ = planted(num=4)
    with pytest.raises(InputError, match="4 prototypes cannot form 5 clusters"):
        cluster_prototypes(vectors, 5, NATIVE, seed=0)
    with pytest.raises(InputError, match="4 pixels cannot form 5 clusters"):
        cluster_pixels(vectors, 5, NATIVE, seed=0)
    with pytest.raises(InputError, match="num_clusters is 0"):
        cluster_prototypes(vectors, 0, NATIVE, seed=0)
    with pytest.raises(InputError, match="3 names for 4 prototypes"):
        cluster_prototypes(vectors, 2, NATIVE, seed=0, names=["a", "b", "c"])
    with pytest.raises(InputError, match=r"shape \(number, dim\), got \(4,\)"):
        cluster_prototypes(vectors[:, 0], 2, NATIVE, seed=0)
    broken = vectors.copy()
    broken[2, 5], broken[3, 1] = np.nan, np.inf
    with pytest.raises(InputError, match=r"prototype 2 .image cats/0002. holds NaN.*2 of 4"):
        cluster_prototypes(broken, 2, NATIVE, seed=0, names=[f"cats/{i:04d}" for i in range(4)])
    with pytest.raises(InputError, match="prototype 2 holds NaN"):
        cluster_prototypes(broken, 2, NATIVE, seed=0)


def test_protocol_by_name() -> None:
    assert protocol_by_name("native") is NATIVE
    assert protocol_by_name("maskcontrast") is MASKCONTRAST
    with pytest.raises(InputError, match="'stego' is unknown; choose native or maskcontrast"):
        protocol_by_name("stego")
