"""Label transfer from a memory: the published formula as a slow loop, the search against faiss, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled_arrays import planted

from densessl.errors import InputError
from densessl.evaluation.dense_neighbours import nearest_rows, predict_with_memory, transfer_labels
from densessl.evaluation.labelled_features import Classes, read_labelled
from densessl.evaluation.labelled_protocols import HummingbirdSettings
from densessl.evaluation.patch_memory import PatchMemory, build_memory, unit_rows
from densessl.structures import IGNORE

SETTINGS = HummingbirdSettings(num_neighbours=4, temperature=0.1)


def random_memory(num: int, dim: int = 6) -> PatchMemory:
    generator = np.random.default_rng(0)
    shares = generator.random((num, 3)).astype(np.float32)
    return PatchMemory(
        unit_rows(generator.normal(size=(num, dim))),
        shares / shares.sum(axis=1, keepdims=True),
        Classes((0, 5, 7), 8),
        (),
    )


@pytest.mark.parametrize("rows_at_once", [3, 10, 1000])
def test_transfer_equals_the_slow_loop(rows_at_once: int) -> None:
    memory = random_memory(25)
    features = (5 * np.random.default_rng(1).normal(size=(6, 3, 2))).astype(np.float32)
    found = transfer_labels(memory, features, replace(SETTINGS, rows_at_once=rows_at_once))
    assert found.shape == (3, 3, 2)
    for i in range(3):
        for j in range(2):
            query = features[:, i, j].astype(np.float64)
            cosines = [
                float(query @ key / np.linalg.norm(query) / np.linalg.norm(key))
                for key in memory.features.astype(np.float64)
            ]
            nearest = sorted(range(25), key=lambda n: -cosines[n])[:4]
            weights = [np.exp(cosines[n] / 0.1) for n in nearest]
            expected = sum(w * memory.shares[n] for w, n in zip(weights, nearest, strict=True)) / sum(weights)
            assert found[:, i, j] == pytest.approx(expected, abs=1e-5)


def test_attention_equals_that_of_pytorch() -> None:
    """The published formula is scaled dot-product attention with the scale 1 / temperature."""
    memory = random_memory(4)
    features = np.random.default_rng(2).normal(size=(6, 2, 2)).astype(np.float32)
    queries = torch.from_numpy(unit_rows(features.reshape(6, -1).T))
    expected = torch.nn.functional.scaled_dot_product_attention(
        queries[None], torch.from_numpy(memory.features)[None], torch.from_numpy(memory.shares)[None], scale=10.0
    )
    found = transfer_labels(memory, features, SETTINGS)
    assert found == pytest.approx(expected[0].T.reshape(3, 2, 2).numpy(), abs=1e-6)


@pytest.mark.parametrize("rows_at_once", [1, 7, 4096])
def test_search_equals_faiss(rows_at_once: int) -> None:
    faiss = pytest.importorskip("faiss")
    generator = np.random.default_rng(3)
    keys, queries = (generator.normal(size=(num, 8)).astype(np.float32) for num in (200, 30))
    index = faiss.IndexFlatIP(8)
    index.add(keys)
    products, rows = index.search(queries, 9)
    found, places = nearest_rows(torch.from_numpy(keys), torch.from_numpy(queries), 9, rows_at_once)
    assert places.tolist() == rows.tolist()
    assert found.numpy() == pytest.approx(products, abs=1e-5)


def test_predictions_find_planted_classes() -> None:
    source, labels = planted(10, (0, 2, 3), noise=0.2)
    classes = Classes((0, 1, 2, 3), 5)
    memory = build_memory(read_labelled(source, labels.__getitem__, range(6)), 6, classes, SETTINGS, 0)
    right = []
    for index in range(6, 10):
        predicted = predict_with_memory(memory, source.maps[index], labels[index].shape, SETTINGS)
        assert 1 not in predicted  # it has no patch
        right.append((predicted == labels[index])[labels[index] != IGNORE].mean())
    assert np.mean(right) > 0.7


def test_a_patch_without_length_takes_the_mean_of_its_neighbours() -> None:
    memory = random_memory(4)
    found = transfer_labels(memory, np.zeros((6, 1, 1), dtype=np.float32), SETTINGS)
    assert found[:, 0, 0] == pytest.approx(memory.shares.mean(axis=0), abs=1e-6)


def test_bad_input() -> None:
    features = np.ones((6, 1, 1), dtype=np.float32)
    with pytest.raises(InputError, match="memory holds 3 patches, fewer than the 4 neighbours"):
        transfer_labels(random_memory(3), features, SETTINGS)
    with pytest.raises(InputError, match="features of image 'a' have 5 dimensions, those in memory 6"):
        transfer_labels(random_memory(9), features[:5], SETTINGS, "a")
    features[0] = np.nan
    with pytest.raises(InputError, match="features of image 'a' hold NaN"):
        predict_with_memory(random_memory(9), features, (4, 4), SETTINGS, "a")
