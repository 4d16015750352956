"""Averages of saliency measures over a data set."""

import json

import numpy as np
import pytest

from densessl.evaluation.saliency_scores import SaliencyScores, average_measures, measure_image


def averaged(*images: tuple[np.ndarray, np.ndarray], **settings: bool) -> SaliencyScores:
    scores = average_measures(measure_image(str(n), *image, **settings) for n, image in enumerate(images))
    if scores is None:
        pytest.fail("nothing was averaged")
    return scores


def test_iou_by_hand() -> None:
    half = np.array([[1.0, 0, 0, 0]]), np.array([[True, True, False, False]])
    right = np.array([[1.0, 1, 1, 0], [0, 0, 0, 0]]), np.array([[True, True, True, False], [False] * 4])
    scores = averaged(half, right)
    assert scores.iou == pytest.approx((0.5 + 1) / 2)
    assert scores.pooled_iou == pytest.approx((1 + 3) / (2 + 3))
    assert scores.standard_error == pytest.approx(0.25)  # sample deviation 0.3536 / sqrt(2)
    assert scores.accuracy == pytest.approx((0.75 + 1) / 2)
    assert scores.mae == pytest.approx(0.125)
    assert averaged(half).standard_error is None


def test_maximum_is_of_the_averaged_curve() -> None:
    truth = np.array([[True, False, False, False]])
    low = np.array([[0.3, 0.2, 0.0, 0.0]]), truth  # IoU 1 only for thresholds in (0.2, 0.3]
    high = np.array([[0.9, 0.8, 0.0, 0.0]]), truth  # IoU 1 only for thresholds in (0.8, 0.9]
    scores = averaged(low, high, normalize=False)
    assert [image.iou for image in scores.per_image] == [0, 0.5]
    assert scores.max_iou == pytest.approx((1 + 0.5) / 2)
    assert scores.max_iou_threshold == pytest.approx(52 / 255)
    best = averaged(low, normalize=False)
    assert best.max_iou == 1
    assert averaged(low, low, normalize=True).max_iou == 1


def test_equal_to_pysodmetrics_over_images() -> None:
    sod = pytest.importorskip("py_sod_metrics", reason="pysodmetrics: CONTRIBUTING.md says how")
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 256, (15, 22)).astype(np.uint8), rng.random((15, 22)) < 0.3) for _ in range(4)]
    handler = sod.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)
    f, e = sod.FmeasureV2({"f": handler}), sod.Emeasure()
    for saliency, truth in pairs:
        for measure in (f, e):
            measure.step(saliency, (truth * 255).astype(np.uint8))
    scores = averaged(*((saliency / 255, truth) for saliency, truth in pairs))
    f_found, e_found = f.get_results()["f"], e.get_results()["em"]
    assert scores.max_f == pytest.approx(f_found["dynamic"].max(), abs=1e-6)
    assert scores.mean_f == pytest.approx(f_found["dynamic"].mean(), abs=1e-6)
    assert scores.adaptive_f == pytest.approx(f_found["adaptive"], abs=1e-6)
    assert scores.max_e == pytest.approx(e_found["curve"].max(), abs=1e-6)
    assert scores.mean_e == pytest.approx(e_found["curve"].mean(), abs=1e-6)
    assert scores.adaptive_e == pytest.approx(e_found["adp"], abs=1e-6)


def test_json_says_its_conventions() -> None:
    truth = np.array([[True, False], [False, False]])
    nothing = np.zeros((2, 2)), np.zeros((2, 2), dtype=bool), np.array([[True, True], [True, False]])
    scores = averaged((truth.astype(float), truth), nothing, normalize=False)
    value = json.loads(json.dumps(scores.to_json()))
    assert value["num_images"] == 2
    assert value["num_without_foreground"] == 1
    assert value["num_ignored_px"] == 1
    assert value["conventions"]["threshold"] == 0.5
    assert [image["stem"] for image in value["per_image"]] == ["0", "1"]
    assert value["max_iou"] == value["iou"] == 0.5


def test_nothing_to_average() -> None:
    assert average_measures(iter(())) is None
