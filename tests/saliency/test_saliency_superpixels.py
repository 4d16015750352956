"""Superpixels: SLIC against a loop, region statistics by hand, neighbours against a loop."""

import numpy as np
import pytest

from densessl.saliency.superpixels import find_neighbours, segment, slic


def slow_slic(lab, num_regions, compactness, num_rounds):
    height, width = lab.shape[:2]
    step = max(1.0, (height * width / num_regions) ** 0.5)
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    cell = {(y, x): (y * rows // height, x * columns // width) for y in range(height) for x in range(width)}
    feature = {(y, x): np.array([*lab[y, x], y * compactness / step, x * compactness / step]) for y, x in cell}
    owner = dict(cell)
    centres = {}
    for turn in range(num_rounds + 1):
        for name in set(cell.values()):
            members = [feature[pixel] for pixel in cell if owner[pixel] == name]
            if members:
                centres[name] = np.mean(members, axis=0)
        if turn == num_rounds:
            break
        for pixel, (down, right) in cell.items():
            near = [
                (min(max(down + dy, 0), rows - 1), min(max(right + dx, 0), columns - 1))
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            owner[pixel] = min(near, key=lambda name: ((feature[pixel] - centres[name]) ** 2).sum())
    order = {name: number for number, name in enumerate(sorted(set(owner.values())))}
    return np.array([[order[owner[y, x]] for x in range(width)] for y in range(height)])


def test_slic_equals_the_loop():
    lab = np.random.default_rng(0).uniform(0, 40, (13, 17, 3)).astype(np.float32)
    np.testing.assert_array_equal(slic(lab, 12, 10.0, 3), slow_slic(lab.astype(float), 12, 10.0, 3))


def test_slic_follows_a_colour_edge():
    lab = np.zeros((24, 30, 3), np.float32)
    lab[:, 13:, 0] = 80
    labels = slic(lab, 20, 5.0, 5)
    assert not set(labels[:, :13].ravel()) & set(labels[:, 13:].ravel())


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (3, 160)])
def test_regions_are_numbered_without_gaps(shape):
    regions = segment(np.random.default_rng(1).uniform(0, 90, (*shape, 3)).astype(np.float32))
    assert set(regions.labels.ravel()) == set(range(len(regions)))
    assert regions.area.sum() == shape[0] * shape[1]
    assert regions.border.sum() > 0


def test_statistics_by_hand():
    lab = np.zeros((2, 4, 3), np.float32)
    lab[:, 2:] = (60, 10, -20)
    regions = segment(lab, num_regions=2, compactness=1.0)
    np.testing.assert_array_equal(regions.labels, [[0, 0, 1, 1]] * 2)
    np.testing.assert_array_equal(regions.area, [4, 4])
    np.testing.assert_allclose(regions.lab, [[0, 0, 0], [60, 10, -20]])
    np.testing.assert_allclose(regions.position, [[0.5, 0.25], [0.5, 0.75]])
    np.testing.assert_allclose(regions.aspect, [0.5, 1])
    np.testing.assert_array_equal(regions.border, [4, 4])
    np.testing.assert_array_equal(regions.edges, [[0], [1]])
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(regions.mean(values), [2.5, 4.5])
    np.testing.assert_array_equal(regions.paint(np.array([3.0, 7.0])), [[3, 3, 7, 7]] * 2)


def test_neighbours_equal_the_loop():
    labels = np.random.default_rng(2).integers(0, 9, (7, 8))
    labels[0, 0] = 8
    pairs = set()
    for y in range(7):
        for x in range(8):
            for other in ([labels[y + 1, x]] if y < 6 else []) + ([labels[y, x + 1]] if x < 7 else []):
                if other != labels[y, x]:
                    pairs.add((min(other, labels[y, x]), max(other, labels[y, x])))
    np.testing.assert_array_equal(find_neighbours(labels).T, sorted(pairs))
