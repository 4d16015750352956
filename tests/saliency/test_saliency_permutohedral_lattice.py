"""The permutohedral lattice: its geometry by definition, its filter against the exact sum of Gaussians."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.saliency.permutohedral_lattice import (
    build_lattice,
    enclosing_simplices,
    filter_values,
    hyperplane_basis,
)


@pytest.mark.parametrize("num_dims", [1, 2, 5])
def test_simplices_enclose_their_points(num_dims):
    points = np.random.default_rng(num_dims).normal(0, 20, (200, num_dims))
    corners, weights = enclosing_simplices(points)
    np.testing.assert_array_equal(corners.sum(axis=2), 0)
    np.testing.assert_array_equal(corners % (num_dims + 1), np.arange(num_dims + 1)[None, :, None] + 0 * corners)
    assert weights.min() > -1e-9
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    turned = (weights[..., None] * corners).sum(axis=1)
    np.testing.assert_allclose(turned, points @ hyperplane_basis(num_dims + 1), atol=1e-9)


def test_simplices_by_hand_in_one_dimension():
    point = np.array([[0.5 * 2**0.5]])  # turned: (0.5, -0.5), a quarter of the way from (0, 0) to (2, -2)
    corners, weights = enclosing_simplices(point)
    np.testing.assert_array_equal(corners, [[[0, 0], [1, -1]]])
    np.testing.assert_allclose(weights, [[0.5, 0.5]])


@pytest.mark.parametrize("num_dims", [1, 2, 3, 5])
def test_basis_keeps_lengths(num_dims):
    basis = hyperplane_basis(num_dims + 1)
    np.testing.assert_allclose(basis @ basis.T, np.eye(num_dims), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=1), 0, atol=1e-12)


def exact_kernel(points):
    kernel = np.zeros((len(points), len(points)))
    for row, point in enumerate(points):
        for column, other in enumerate(points):
            kernel[row, column] = np.exp(-((point - other) ** 2).sum() / 2)
    return kernel


def symmetrically_normalised(kernel):
    scale = 1 / np.sqrt(kernel.sum(axis=1))
    return scale[:, None] * kernel * scale


def cloud(num_points, num_dims, seed):
    """Points on a bent two-dimensional sheet, as the pixels of an image are."""
    generator = np.random.default_rng(seed)
    place = generator.uniform(0, 5, (num_points, 2))
    colour = np.stack([3 * np.sin(place[:, 0] + k) + place[:, 1] / (k + 1) for k in range(3)], axis=1)
    return np.hstack([place, colour])[:, :num_dims] + generator.normal(0, 0.1, (num_points, num_dims))


@pytest.mark.parametrize(("num_dims", "tolerance"), [(1, 0.06), (2, 0.07), (5, 0.1)])
def test_filter_is_close_to_the_exact_sum(num_dims, tolerance):
    points = cloud(250, num_dims, seed=3)
    lattice = build_lattice(points)
    found = symmetrically_normalised(filter_values(lattice, np.eye(250, dtype=np.float32)).astype(float))
    expected = symmetrically_normalised(exact_kernel(points))
    assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)


def test_filter_is_symmetric_and_linear():
    lattice = build_lattice(cloud(120, 5, seed=4))
    matrix = filter_values(lattice, np.eye(120, dtype=np.float32))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    values = np.random.default_rng(5).uniform(size=120).astype(np.float32)
    np.testing.assert_allclose(filter_values(lattice, values), matrix @ values, rtol=1e-4)


def test_points_in_one_place_weigh_the_same():
    lattice = build_lattice(np.full((7, 5), 2.3))
    values = np.arange(7, dtype=np.float32)
    filtered = filter_values(lattice, values)
    np.testing.assert_allclose(filtered, filtered[0], rtol=1e-6)
    np.testing.assert_allclose(filtered / filter_values(lattice, np.ones(7, np.float32)), 3, rtol=1e-6)


def test_far_points_do_not_meet():
    lattice = build_lattice(np.array([[0.0, 0, 0, 0, 0], [50, 0, 0, 0, 0]]))
    matrix = filter_values(lattice, np.eye(2, dtype=np.float32))
    assert matrix[0, 1] == matrix[1, 0] == 0
    assert matrix.diagonal().min() > 0


def test_points_too_far_apart_to_number():
    points = np.array([np.zeros(5), np.full(5, 1e4)])
    with pytest.raises(InputError, match=r"more than 64-bit numbers can tell apart; use larger standard deviations"):
        build_lattice(points)
