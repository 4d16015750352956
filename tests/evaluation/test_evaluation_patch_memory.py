"""The memory of patches: the sampling rule against a slow loop, bounds, histograms, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from labelled_arrays import ArraySource, planted

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes, LabelledFeatures, class_shares, read_labelled
from densessl.evaluation.labelled_protocols import HUMMINGBIRD, HummingbirdSettings
from densessl.evaluation.patch_memory import PatchMemory, build_memory, sample_patches
from densessl.structures import IGNORE, LabelMap

CLASSES = Classes((0, 2, 3), 5)


def filled(source: ArraySource, labels: list[LabelMap], settings: HummingbirdSettings, seed: int = 0) -> PatchMemory:
    return build_memory(read_labelled(source, labels.__getitem__), len(source), CLASSES, settings, seed)


def test_the_defaults_are_the_published_ones() -> None:
    settings = HUMMINGBIRD.settings
    assert (settings.num_neighbours, settings.temperature, settings.memory_size) == (30, 0.02, 1024 * 10**2)
    assert HUMMINGBIRD.image_size_px == (512, 512)


def test_sampling_equals_the_slow_loop() -> None:
    shares = np.random.default_rng(0).random((40, 4)).astype(np.float32)
    shares[np.random.default_rng(1).random((40, 4)) < 0.6] = 0
    shares[5] = 0
    frequency = [sum(1 for patch in shares if patch[c] > 0) for c in range(4)]
    uniform = np.random.default_rng(9).random(40)
    scores = {
        i: uniform[i] * sum(frequency[c] for c in range(4) if patch[c] > 0)
        for i, patch in enumerate(shares)
        if patch.any()
    }
    expected = sorted(scores, key=lambda i: scores[i])
    assert sample_patches(shares, 12, np.random.default_rng(9)).tolist() == expected[:12]
    everything = sample_patches(shares, 100, np.random.default_rng(9))
    assert everything.tolist() == expected
    assert not shares[5].any()
    assert 5 not in everything


def test_rare_classes_are_drawn_more_often() -> None:
    shares = np.zeros((100, 2), dtype=np.float32)
    shares[:95, 0], shares[95:, 1] = 1, 1
    drawn = [sample_patches(shares, 10, np.random.default_rng(seed)) for seed in range(40)]
    assert np.mean([(rows >= 95).sum() for rows in drawn]) > 4  # 0.5 of 10 if all were alike


def test_memory_holds_unit_features_and_histograms_of_labelled_pixels() -> None:
    source, labels = planted(4, (0, 2, 3, 4))
    memory = filled(source, labels, replace(HUMMINGBIRD.settings, memory_size=4 * 5))
    assert memory.features.shape == (20, 5)
    assert memory.features.dtype == np.float32
    assert np.linalg.norm(memory.features, axis=1) == pytest.approx(np.ones(20), abs=1e-6)
    assert memory.shares.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-6)
    patches = source.maps[0].reshape(5, -1).T
    unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    histograms = class_shares(labels[0], (3, 4), CLASSES, "")
    for feature, share in zip(memory.features[:5], memory.shares[:5], strict=True):
        cell = int(np.abs(unit - feature).max(axis=1).argmin())
        assert feature == pytest.approx(unit[cell], abs=1e-6)
        assert share == pytest.approx(histograms[cell] / histograms[cell].sum(), abs=1e-6)
    assert memory.notes == ()


def test_seed_decides_and_images_give_what_they_have() -> None:
    source, labels = planted(3, (0, 2, 3))
    labels[1] = np.full_like(labels[1], IGNORE)
    settings = replace(HUMMINGBIRD.settings, memory_size=3 * 7)
    first, again, other = (filled(source, labels, settings, seed) for seed in (0, 0, 1))
    assert len(first.features) == 14  # nothing of the image without labels
    assert np.array_equal(first.features, again.features)
    assert not np.array_equal(first.features, other.features)
    whole = filled(source, labels, replace(settings, memory_size=10_000))
    assert len(whole.features) == 24


def test_void_as_background() -> None:
    labels = np.full((4, 4), 2)
    labels[:2] = IGNORE
    image = LabelledFeatures("a", np.ones((3, 1, 1), dtype=np.float32), labels)
    settings = HummingbirdSettings(memory_size=1)
    assert build_memory([image], 1, CLASSES, settings, 0).shares.tolist() == [[0, 1, 0]]
    as_published = replace(settings, void="background")
    assert build_memory([image], 1, CLASSES, as_published, 0).shares.tolist() == [[0.5, 0.5, 0]]


def test_a_class_without_patches_is_said() -> None:
    source, labels = planted(2, (0, 2))
    memory = filled(source, labels, HUMMINGBIRD.settings)
    assert memory.notes == ("classes [3] have no patch in memory and are never predicted",)


def test_bad_input() -> None:
    source, labels = planted(3, (0, 2))
    settings = HUMMINGBIRD.settings
    with pytest.raises(InputError, match="a memory of 2 patches cannot hold one of each of 3 images; raise"):
        filled(source, labels, replace(settings, memory_size=2))
    with pytest.raises(InputError, match=r"no pixel of the 3 training images is labelled with one of the classes \[0"):
        filled(source, [np.full_like(one, IGNORE) for one in labels], settings)
    with pytest.raises(InputError, match="image 'image1' has label 9; labels are 0-4"):
        filled(source, [labels[0], np.full_like(labels[0], 9), labels[2]], settings)
    with pytest.raises(InputError, match="more images came than the 2"):
        build_memory(read_labelled(source, labels.__getitem__), 2, CLASSES, settings, 0)
    short = ArraySource((source.maps[0], source.maps[1][:2], source.maps[2]))
    with pytest.raises(InputError, match="features of image 'image1' have 2 dimensions, those before 5"):
        filled(short, labels, settings)
    source.maps[2][0, 0, 0] = np.nan
    with pytest.raises(InputError, match="features of image 'image2' hold NaN"):
        filled(source, labels, settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory_size": 0}, "hummingbird.memory_size is 0; it must be at least 1"),
        ({"num_neighbours": 0}, "hummingbird.num_neighbours is 0"),
        ({"temperature": 0.0}, "hummingbird.temperature is 0.0; it must be positive"),
    ],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HummingbirdSettings(**values)  # type: ignore[arg-type]
