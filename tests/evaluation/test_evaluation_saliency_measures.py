"""Measures of one saliency map: by hand, as slow loops, ignored pixels, and equal to PySODMetrics."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from densessl.errors import InputError
from densessl.evaluation.saliency_measures import (
    SaliencyPair,
    adaptive_counts,
    counts_above,
    e_measure,
    f_measure,
    intersection_over_union,
    mean_absolute_error,
    pixel_accuracy,
    prepare_pair,
    threshold_counts,
)
from densessl.evaluation.saliency_structure import s_measure, weighted_f_measure


def all_measures(pair: SaliencyPair) -> NDArray[np.float64]:
    """MAE, adaptive F and E, weighted F, S, IoU, accuracy, then the curves of F, E and IoU."""
    curve, adaptive, above = threshold_counts(pair), adaptive_counts(pair), counts_above(pair, 0.5)
    numbers = [
        mean_absolute_error(pair),
        f_measure(adaptive),
        e_measure(adaptive),
        weighted_f_measure(pair),
        s_measure(pair),
        intersection_over_union(above),
        pixel_accuracy(above),
    ]
    return np.concatenate([numbers, f_measure(curve), e_measure(curve), intersection_over_union(curve)])


def published_measures(saliency: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same numbers from PySODMetrics."""
    sod = pytest.importorskip("py_sod_metrics", reason="pysodmetrics: CONTRIBUTING.md says how")
    handlers = {
        "iou": sod.IOUHandler(with_dynamic=True, with_adaptive=False, with_binary=True),
        "accuracy": sod.OverallAccuracyHandler(with_dynamic=False, with_adaptive=False, with_binary=True),
        "f": sod.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3),
    }
    counted = sod.FmeasureV2(handlers)
    others = (sod.MAE(), sod.Emeasure(), sod.WeightedFmeasure(), sod.Smeasure())
    for measure in (counted, *others):
        measure.step(saliency, truth)
    mae, e, weighted, s = (measure.get_results() for measure in others)
    found = counted.get_results()
    numbers = [
        mae["mae"],
        found["f"]["adaptive"],
        e["em"]["adp"],
        weighted["wfm"],
        s["sm"],
        found["iou"]["binary"],
        found["accuracy"]["binary"],
    ]
    # its curves run from threshold 255 down to 0
    curves = (found["f"]["dynamic"], e["em"]["curve"], found["iou"]["dynamic"])
    return np.concatenate([numbers, *(curve[::-1] for curve in curves)])


def blobs(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    smooth = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 3)
    return ((smooth > np.median(smooth)) * 255).astype(np.uint8)


def noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width)).astype(np.uint8)


def soft_blobs(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return cv2.GaussianBlur(blobs(rng, height, width), (0, 0), 2) // 2 + 20


def sparse(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    truth = ((rng.random((height, width)) < 0.05) * 255).astype(np.uint8)
    truth[height // 2, width // 3] = 255
    return truth


def zeros(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((height, width), dtype=np.uint8)


def full(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width), 255, dtype=np.uint8)


@pytest.mark.parametrize("size", [(17, 31), (40, 23), (64, 48)])
@pytest.mark.parametrize("truth", [blobs, sparse, zeros, full])
@pytest.mark.parametrize("saliency", [noise, soft_blobs, blobs, zeros, full])
def test_equal_to_pysodmetrics(size: tuple[int, int], saliency: object, truth: object) -> None:
    rng = np.random.default_rng(size[0])
    predicted, labelled = saliency(rng, *size), truth(rng, *size)  # type: ignore[operator]
    ours = all_measures(prepare_pair(predicted / 255, labelled > 128))
    np.testing.assert_allclose(ours, published_measures(predicted, labelled), rtol=0, atol=1e-6)


@pytest.mark.real_data
def test_equal_to_pysodmetrics_on_photographs(real_data: Path) -> None:
    root = real_data / "voc_animals"
    for path in sorted((root / "saliency_csnet").glob("*.png"))[:6]:
        saliency = np.asarray(Image.open(path).convert("L"))
        labels = np.asarray(Image.open(root / "SegmentationClass" / path.name))
        foreground = (labels != 0) & (labels != 255)
        published = published_measures(saliency, (foreground * 255).astype(np.uint8))
        np.testing.assert_allclose(all_measures(prepare_pair(saliency / 255, foreground)), published, rtol=0, atol=1e-6)


def test_without_normalisation_equal_to_pysodmetrics() -> None:
    sod = pytest.importorskip("py_sod_metrics", reason="pysodmetrics: CONTRIBUTING.md says how")
    rng = np.random.default_rng(5)
    saliency, truth = rng.random((21, 34)) * 0.6 + 0.1, blobs(rng, 21, 34) > 0
    pair = prepare_pair(saliency, truth, normalize=False)
    for measure, ours, value in (
        (sod.MAE(), mean_absolute_error(pair), lambda found: found["mae"]),
        (sod.Smeasure(), s_measure(pair), lambda found: found["sm"]),
        (sod.WeightedFmeasure(), weighted_f_measure(pair), lambda found: found["wfm"]),
        (sod.Emeasure(), e_measure(threshold_counts(pair)).max(), lambda found: found["em"]["curve"].max()),
    ):
        measure.step(saliency, truth, normalize=False)
        assert ours == pytest.approx(value(measure.get_results()), abs=1e-6)


def test_counts_by_hand() -> None:
    saliency = np.array([[1.0, 0.8, 0.0], [0.6, 0.2, 0.0]])
    pair = prepare_pair(saliency, np.array([[True, True, False], [False, False, False]]))
    assert mean_absolute_error(pair) == pytest.approx((0 + 0.2 + 0 + 0.6 + 0.2 + 0) / 6)
    above = counts_above(pair, 0.5)  # 1.0, 0.8 hit, 0.6 is false
    assert (int(above.true_positives), int(above.false_positives)) == (2, 1)
    assert float(intersection_over_union(above)) == pytest.approx(2 / 3)
    assert float(pixel_accuracy(above)) == pytest.approx(5 / 6)
    assert float(f_measure(above)) == pytest.approx(1.3 * (2 / 3) * 1 / (0.3 * 2 / 3 + 1))
    adaptive = adaptive_counts(pair)  # threshold 2 * 2.6 / 6 = 0.867: only 1.0
    assert (int(adaptive.true_positives), int(adaptive.false_positives)) == (1, 0)
    assert float(f_measure(adaptive)) == pytest.approx(1.3 * 1 * 0.5 / (0.3 * 1 + 0.5))
    curve = threshold_counts(pair)
    assert curve.true_positives[[0, 204, 205, 255]].tolist() == [2, 2, 1, 1]
    assert curve.false_positives[[0, 1, 51, 52, 153, 154]].tolist() == [4, 2, 2, 1, 1, 0]


def test_threshold_is_exclusive_and_curve_inclusive() -> None:
    pair = prepare_pair(np.array([[0.5, 0.0, 1.0]]), np.array([[True, False, False]]))
    assert int(counts_above(pair, 0.5).true_positives) == 0
    assert int(threshold_counts(pair).true_positives[127]) == 1  # floor(0.5 * 255) = 127


def test_e_measure_as_a_slow_loop() -> None:
    rng = np.random.default_rng(2)
    mask, truth = rng.random((5, 7)) < 0.4, rng.random((5, 7)) < 0.5
    a, b = mask - mask.mean(), truth - truth.mean()
    total = 0.0
    for row in range(5):
        for column in range(7):
            x, y = a[row, column], b[row, column]
            total += (1 + 2 * x * y / (x * x + y * y)) ** 2 / 4
    counts = counts_above(prepare_pair(mask.astype(float), truth), 0.5)
    assert float(e_measure(counts)) == pytest.approx(total / 34)


def test_perfect_and_opposite_maps() -> None:
    truth = np.zeros((12, 20), dtype=bool)
    truth[3:9, 5:12] = True
    perfect, opposite = (prepare_pair(values.astype(float), truth) for values in (truth, ~truth))
    assert all_measures(perfect)[:7] == pytest.approx([0, 1, 240 / 239, 1, 1, 1, 1])
    assert all_measures(opposite)[:7] == pytest.approx([1, 0, 0, 0, 0, 0, 0], abs=0.02)


def test_empty_truth_and_empty_map() -> None:
    nothing = prepare_pair(np.zeros((4, 5)), np.zeros((4, 5), dtype=bool))
    assert mean_absolute_error(nothing) == 0
    assert s_measure(nothing) == 1
    assert weighted_f_measure(nothing) == 0
    assert float(intersection_over_union(counts_above(nothing, 0.5))) == 0  # the field's convention
    assert int(adaptive_counts(nothing).false_positives) == 20  # threshold 0 takes everything


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1)])
def test_tiny_maps_are_finite(size: tuple[int, int]) -> None:
    first_pixel = np.arange(size[0] * size[1]).reshape(size) < 1
    for truth in (np.ones(size, dtype=bool), np.zeros(size, dtype=bool), first_pixel):
        assert np.isfinite(all_measures(prepare_pair(np.full(size, 0.25), truth))).all()


def test_centroid_in_the_last_column_is_finite() -> None:
    truth = np.zeros((4, 7), dtype=bool)
    truth[:, 6] = True  # the right blocks are empty
    saliency = np.random.default_rng(0).random((4, 7))
    assert 0 <= s_measure(prepare_pair(saliency, truth)) <= 1


def test_values_at_ignored_pixels_never_matter() -> None:
    rng = np.random.default_rng(3)
    truth, valid = blobs(rng, 24, 37) > 0, rng.random((24, 37)) < 0.8
    saliency = rng.random((24, 37))
    first = all_measures(prepare_pair(saliency, truth, valid))
    other = np.where(valid, saliency, rng.random((24, 37)))
    second = all_measures(prepare_pair(other, truth ^ ~valid, valid))
    np.testing.assert_array_equal(first, second)


def test_ignored_margin_is_as_good_as_cut_off() -> None:
    rng = np.random.default_rng(4)
    saliency, truth = rng.random((20, 30)), np.zeros((20, 30), dtype=bool)
    truth[5:14, 6:15] = True  # farther from the margin than the Gaussian reaches
    valid = np.ones((20, 30), dtype=bool)
    valid[:, 22:] = False
    ignored = all_measures(prepare_pair(saliency, truth, valid))
    cut = all_measures(prepare_pair(saliency[:, :22], truth[:, :22]))
    np.testing.assert_allclose(ignored, cut, rtol=0, atol=1e-12)


def test_normalisation() -> None:
    saliency = np.array([[0.2, 0.4], [0.6, 0.9]])
    truth, valid = np.eye(2, dtype=bool), np.array([[True, True], [True, False]])
    assert prepare_pair(saliency, truth, valid).saliency == pytest.approx(np.array([[0, 0.5], [1, 0]]))
    assert prepare_pair(saliency, truth, normalize=False).saliency == pytest.approx(saliency)
    constant = np.full((2, 2), 0.3)
    assert prepare_pair(constant, truth).saliency == pytest.approx(constant)


def test_errors() -> None:
    truth = np.zeros((2, 3), dtype=bool)
    with pytest.raises(InputError, match=r"\(2, 3\), \(3, 2\); all must have one shape .*: resize the map"):
        prepare_pair(np.zeros((3, 2)), truth)
    with pytest.raises(InputError, match=r"run from 0 to 255; they must lie in \[0, 1\]: scale them"):
        prepare_pair(np.array([[0, 1, 255], [0, 0, 0]], dtype=float), truth)
    with pytest.raises(InputError, match="run from nan to nan"):
        prepare_pair(np.full((2, 3), np.nan), truth)
    with pytest.raises(InputError, match="all pixels are ignored"):
        prepare_pair(np.zeros((2, 3)), truth, np.zeros((2, 3), dtype=bool))
