"""Bilateral solver: the grid by loops, the linear system against a dense solve, what any solution must obey."""

import cv2
import numpy as np
import pytest

from densessl.errors import InputError
from densessl.saliency.bilateral_solver import (
    BilateralSolverSettings,
    balance_cells,
    build_grid,
    linear_system,
    refine_by_bilateral_solver,
    solve_bilaterally,
)

FINE = BilateralSolverSettings(spatial_px=3, luma=40, chroma=30, smoothness=20)


def coarse_colours(seed, shape):
    """An image of few smooth colours, so that cells have neighbours."""
    generator = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(generator.normal(0.5, 3, shape), (0, 0), 3) for _ in range(3)]
    return (np.clip(np.stack(fields, axis=2), 0, 1) * 255).astype(np.uint8)


def slow_system(image, target, confidence, settings):
    """S, B, the balancing and the matrix of the equation, densely and by loops over cells."""
    height, width = target.shape
    levels = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(int)
    pixels = []
    for y in range(height):
        for x in range(width):
            luma, red, blue = levels[y, x]
            colour = int(luma // settings.luma), int(red // settings.chroma), int(blue // settings.chroma)
            pixels.append((int(y // settings.spatial_px), int(x // settings.spatial_px), *colour))
    cells = sorted(set(pixels))
    splat = np.array([[float(pixel == cell) for pixel in pixels] for cell in cells])
    blur = np.zeros((len(cells), len(cells)))
    for row, cell in enumerate(cells):
        for column, other in enumerate(cells):
            steps = sum(abs(a - b) for a, b in zip(cell, other, strict=True))
            blur[row, column] = 10 if steps == 0 else float(steps == 1)
    scale = np.ones(len(cells))
    for _ in range(10):
        scale = np.sqrt(scale * splat.sum(axis=1) / (blur @ scale))
    balanced = scale[:, None] * blur * scale
    matrix = settings.smoothness * (np.diag(balanced.sum(axis=1)) - balanced)
    matrix += np.diag(splat @ confidence.ravel().astype(float))
    return splat, matrix, splat @ (confidence * target).ravel().astype(float)


@pytest.mark.parametrize("seed", [0, 1])
def test_solution_equals_the_dense_solve(seed):
    image = coarse_colours(seed, (10, 13))
    generator = np.random.default_rng(seed)
    target = generator.uniform(size=(10, 13)).astype(np.float32)
    confidence = generator.uniform(0.05, 1, (10, 13)).astype(np.float32)
    splat, matrix, right_side = slow_system(image, target, confidence, FINE)
    assert ((matrix < 0).sum(axis=1) > 0).mean() > 0.8  # most cells have neighbours
    expected = (splat.T @ np.linalg.solve(matrix, right_side)).reshape(10, 13)
    np.testing.assert_allclose(solve_bilaterally(image, target, confidence, FINE), expected, atol=1e-4)


def test_colour_steps_are_those_of_luma_and_chroma():
    sides = BilateralSolverSettings(spatial_px=9, luma=16, chroma=100)  # RGB grey 100 -> luma 100, both chromas 128
    greys = [[[grey] * 3 for grey in (95, 96, 111, 112)]]
    np.testing.assert_array_equal(build_grid(np.array(greys, np.uint8), sides).cell_of_pixel, [0, 1, 1, 2])
    tints = np.array([[[100, 100, 100], [120, 60, 230], [230, 60, 50]]], np.uint8)
    only_chroma = BilateralSolverSettings(spatial_px=9, luma=256, chroma=64)
    grid = build_grid(tints, only_chroma)
    grey, violet, red = grid.cell_of_pixel  # (Cr, Cb) is (128, 128), (144, 203), (214, 94)
    assert len({grey, violet, red}) == 3
    assert grid.blur[grey, violet] == grid.blur[violet, grey] == 1  # one cell on, along Cb alone
    assert grid.blur[grey, red] == grid.blur[violet, red] == 0


def test_solution_minimises_the_energy():
    image, generator = coarse_colours(2, (12, 9)), np.random.default_rng(2)
    target = generator.uniform(size=(12, 9)).astype(np.float32)
    confidence = np.full((12, 9), 0.3, np.float32)
    grid = build_grid(image, FINE)
    scale, _ = balance_cells(grid)
    pairs = scale[:, None] * grid.blur.toarray() * scale
    cell = grid.cell_of_pixel

    def energy(cell_values):
        differences = (cell_values[:, None] - cell_values) ** 2
        misfit = (0.3 * (cell_values[cell] - target.ravel()) ** 2).sum()
        return FINE.smoothness / 2 * (pairs * differences).sum() + misfit

    solved = solve_bilaterally(image, target, confidence, FINE).ravel().astype(float)
    best = np.array([solved[cell == index][0] for index in range(len(scale))])
    for _ in range(20):
        assert energy(best) < energy(best + generator.normal(0, 0.02, best.shape))


def test_balanced_cells_hold_their_pixels():
    grid = build_grid(coarse_colours(3, (20, 30)), FINE)
    scale, mass = balance_cells(grid)
    balanced = scale[:, None] * grid.blur.toarray() * scale
    np.testing.assert_allclose(balanced.sum(axis=1), mass)
    np.testing.assert_allclose(mass, np.bincount(grid.cell_of_pixel), rtol=0.05)


def test_matrix_is_symmetric_with_the_confidences_as_row_sums():
    image, confidence = coarse_colours(4, (9, 14)), np.full((9, 14), 0.5, np.float32)
    grid = build_grid(image, FINE)
    matrix, _ = linear_system(grid, np.zeros((9, 14), np.float32), confidence, 20.0)
    dense = matrix.toarray()
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    np.testing.assert_allclose(dense.sum(axis=1), grid.splat(confidence))


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (1, 1200), (21, 34)])
def test_a_constant_map_stays(shape, level):
    image = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    refined = refine_by_bilateral_solver(image, np.full(shape, level, np.float32))
    assert refined.shape == shape
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, level, atol=1e-4)


def test_a_plain_image_is_smoothed_within_the_range():
    image = np.full((40, 50, 3), 120, np.uint8)
    soft = np.random.default_rng(6).uniform(0.2, 0.9, (40, 50)).astype(np.float32)
    refined = refine_by_bilateral_solver(image, soft)
    assert soft.min() <= refined.min() <= refined.max() <= soft.max()
    assert refined.std() < 0.1 * soft.std()


def test_edges_follow_the_image():
    image = np.full((48, 64, 3), 60, np.uint8)
    image[:, 37:] = 190
    soft = np.tile(np.linspace(0.05, 0.95, 64, dtype=np.float32), (48, 1))
    refined = refine_by_bilateral_solver(image, soft)
    steps = np.diff(refined, axis=1)
    assert (steps.argmax(axis=1) == 36).all()
    assert steps[:, 36].min() > 0.3
    np.testing.assert_array_equal(refine_by_bilateral_solver(image, soft), refined)


def test_doubtful_pixels_take_the_value_of_their_like():
    image = np.full((48, 64, 3), 60, np.uint8)
    image[:, 32:] = 190
    soft = np.full((48, 64), 0.1, np.float32)
    soft[:, 32:] = 0.9
    soft[16:32] = 0.5  # a band that says nothing
    refined = refine_by_bilateral_solver(image, soft)
    assert refined[16:32, :32].max() < 0.2
    assert refined[16:32, 32:].min() > 0.8


def test_large_images_keep_their_size():
    image = np.zeros((600, 900, 3), np.uint8)
    image[:, 437:] = 200
    soft = cv2.GaussianBlur((np.arange(900) > 450).astype(np.float32)[None].repeat(600, axis=0), (0, 0), 30)
    refined = refine_by_bilateral_solver(image, soft)
    assert refined.shape == (600, 900)
    assert (refined[:, :436] < 0.5).all()
    assert (refined[:, 438:] > 0.5).all()


def test_sizes_that_differ():
    with pytest.raises(InputError, match=r"sizes \(5, 4\), \(4, 5\) and \(4, 5\); resize them to one"):
        solve_bilaterally(np.zeros((5, 4, 3), np.uint8), *np.ones((2, 4, 5), np.float32))


def test_a_confidence_of_nothing():
    with pytest.raises(InputError, match=r"a confidence is 0.0, but all must be above 0; raise them to 0.01"):
        solve_bilaterally(np.zeros((4, 5, 3), np.uint8), *np.zeros((2, 4, 5), np.float32))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("spatial_px", 0.5, r"spatial_px is 0.5, but it must be at least one pixel or level; 16.0 is usual"),
        ("chroma", float("inf"), r"chroma is inf, but it must be at least one pixel or level; 8.0 is usual"),
        ("smoothness", 0.0, r"smoothness is 0.0, but it must be above 0; 256.0 is usual"),
    ],
)
def test_settings_out_of_range(name, value, message):
    with pytest.raises(InputError, match=message):
        BilateralSolverSettings(**{name: value})
