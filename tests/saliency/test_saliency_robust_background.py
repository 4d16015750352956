"""Robust background detection: each equation of the paper as a loop, and the minimiser by its own energy."""

import numpy as np
import pytest

from densessl.saliency import robust_background as module
from densessl.saliency.superpixels import segment


@pytest.fixture
def regions():
    lab = np.random.default_rng(3).uniform(0, 30, (12, 15, 3)).astype(np.float32)
    lab[4:8, 5:10] += 40
    return segment(lab, num_regions=20)


def test_pairwise_distance_equals_the_loop():
    points = np.random.default_rng(0).normal(size=(6, 3))
    expected = [[np.linalg.norm(a - b) for b in points] for a in points]
    np.testing.assert_allclose(module.pairwise_distance(points), expected, atol=1e-7)


def test_border_regions_are_all_joined(regions):
    border = np.flatnonzero(regions.border)
    pairs = {(a, b) for a in border for b in border if a < b} | set(map(tuple, regions.edges.T))
    np.testing.assert_array_equal(module.join_border(regions).T, sorted(pairs))


def test_boundary_connectivity_equals_the_loop(regions):
    distance = module.pairwise_distance(regions.lab)
    edges = module.join_border(regions)
    n = len(regions)
    geodesic = np.full((n, n), np.inf)
    np.fill_diagonal(geodesic, 0)
    for a, b in edges.T:
        geodesic[a, b] = geodesic[b, a] = distance[a, b]
    for k in range(n):  # Floyd-Warshall
        for i in range(n):
            for j in range(n):
                geodesic[i, j] = min(geodesic[i, j], geodesic[i, k] + geodesic[k, j])
    span = np.exp(-(geodesic**2) / (2 * 10.0**2))
    expected = [
        sum(span[p, i] for i in range(n) if regions.border[i] > 0) / np.sqrt(sum(span[p, i] for i in range(n)))
        for p in range(n)
    ]
    np.testing.assert_allclose(module.boundary_connectivity(regions, distance, edges), expected)


def test_background_probability_by_hand():
    np.testing.assert_allclose(module.background_probability(np.array([0, 1.0])), [0, 1 - np.exp(-0.5)])


def test_background_contrast_equals_the_loop(regions):
    distance = module.pairwise_distance(regions.lab)
    background = np.random.default_rng(1).uniform(size=len(regions))
    points = regions.position * regions.aspect
    raw = np.array(
        [
            sum(
                distance[p, i] * np.exp(-((points[p] - points[i]) ** 2).sum() / (2 * 0.25**2)) * background[i]
                for i in range(len(regions))
            )
            for p in range(len(regions))
        ]
    )
    expected = (raw - raw.min()) / (raw.max() - raw.min())
    np.testing.assert_allclose(module.background_contrast(regions, distance, background), expected, atol=1e-7)


def test_saliency_minimises_the_energy(regions, monkeypatch):
    monkeypatch.setattr(module, "stretch", lambda values: values)
    distance = module.pairwise_distance(regions.lab)
    edges = module.join_border(regions)
    background = module.background_probability(module.boundary_connectivity(regions, distance, edges))
    contrast = module.background_contrast(regions, distance, background)

    def energy(s):
        total = (background * s**2).sum() + (contrast * (s - 1) ** 2).sum()
        for a, b in edges.T:
            total += (np.exp(-(distance[a, b] ** 2) / 200) + 0.1) * (s[a] - s[b]) ** 2
        return total

    saliency = module.robust_background(regions, regions.lab)
    generator = np.random.default_rng(0)
    for _ in range(20):
        assert energy(saliency) < energy(saliency + generator.normal(scale=0.01, size=len(regions)))


def test_plain_image_has_no_saliency():
    regions = segment(np.full((20, 20, 3), 50, np.float32))
    np.testing.assert_array_equal(module.robust_background(regions, regions.lab), 0)


def test_the_odd_region_stands_out():
    lab = np.full((40, 60, 3), 30, np.float32)
    lab[12:28, 20:40] = (70, 20, 20)
    regions = segment(lab)
    saliency = regions.paint(module.robust_background(regions, regions.lab))
    assert saliency[14:26, 22:38].min() > 0.8
    assert saliency[:8].max() < 0.2
