"""The exact linear probe: its loss against a slow loop, its solution against scikit-learn, its rules."""

from dataclasses import replace

import numpy as np
import pytest
from labelled_arrays import ArraySource, planted
from numpy.typing import NDArray
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes, class_shares
from densessl.evaluation.labelled_protocols import ExactLinearSettings
from densessl.evaluation.linear_probe import predict_with_probe, probe_logits
from densessl.evaluation.logistic_regression import fit_exact_probe, loss_and_gradient
from densessl.evaluation.probe_cells import collect_cells
from densessl.structures import IGNORE, LabelMap

PRECISE = ExactLinearSettings(strengths=(1e-2,), tolerance=1e-9, precision="float64")
CLASSES = Classes((0, 2, 3), 5)

Data = tuple[ArraySource, list[LabelMap]]


@pytest.fixture
def data() -> Data:
    return planted(6, (0, 2, 3, 4))


def stacked(data: Data, classes: Classes) -> tuple[NDArray, NDArray]:
    """All cells of all images: features (num, dim) and shares (num, classes)."""
    source, labels = data
    features = np.concatenate([image.reshape(len(image), -1).T for image in source.maps]).astype(np.float64)
    shares = [class_shares(one, image.shape[1:], classes, "") for image, one in zip(source.maps, labels, strict=True)]
    return features, np.concatenate(shares).astype(np.float64)


def slow_loss(features: NDArray, shares: NDArray, weight: NDArray, bias: NDArray, strength: float) -> float:
    total = shares.sum()
    mean = sum(s.sum() * x for x, s in zip(features, shares, strict=True)) / total
    deviation = np.sqrt(sum(s.sum() * (x - mean) ** 2 for x, s in zip(features, shares, strict=True)) / total)
    loss = 0.0
    for x, s in zip(features, shares, strict=True):
        z = [float(weight[c] @ ((x - mean) / deviation) + bias[c]) for c in range(len(bias))]
        log_sum = np.log(sum(np.exp(value) for value in z))
        loss += sum(share * (log_sum - value) for share, value in zip(s, z, strict=True))
    return loss / total + strength / 2 * float((weight**2).sum())


def test_loss_equals_the_slow_loop_and_its_gradient_the_differences(data: Data) -> None:
    cells = collect_cells(data[0], data[1].__getitem__, CLASSES)
    parameters = np.random.default_rng(2).normal(size=3 * 6)
    loss, gradient = loss_and_gradient(parameters, cells, 0.3, PRECISE)
    weight, bias = parameters[:15].reshape(3, 5), parameters[15:]
    assert loss == pytest.approx(slow_loss(*stacked(data, CLASSES), weight, bias, 0.3), rel=1e-10)
    error = check_grad(
        lambda p: loss_and_gradient(p, cells, 0.3, PRECISE)[0],
        lambda p: loss_and_gradient(p, cells, 0.3, PRECISE)[1],
        parameters,
    )
    assert error < 1e-5 * float(np.linalg.norm(gradient))
    single = loss_and_gradient(parameters, cells, 0.3, replace(PRECISE, precision="float32"))
    assert single[0] == pytest.approx(loss, rel=1e-5)
    assert single[1] == pytest.approx(gradient, abs=1e-5)


def sklearn_logits(data: Data, strength: float) -> NDArray:
    """scikit-learn on the same cells: each class in a cell is a sample, weighted by its share."""
    features, shares = stacked(data, CLASSES)
    rows, targets = np.nonzero(shares)
    weights = shares[rows, targets]
    mean = np.average(features[rows], axis=0, weights=weights)
    deviation = np.sqrt(np.average((features[rows] - mean) ** 2, axis=0, weights=weights))
    model = LogisticRegression(C=1 / (strength * weights.sum()), tol=1e-10, max_iter=10_000)
    model.fit((features[rows] - mean) / deviation, targets, weights)
    return model.decision_function((features - mean) / deviation)


@pytest.mark.parametrize(("strength", "atol"), [(1e-2, 2e-6), (1e-4, 2e-5)])
def test_solution_equals_scikit_learn(data: Data, strength: float, atol: float) -> None:
    settings = replace(PRECISE, strengths=(strength,), tolerance=1e-8)
    fit = fit_exact_probe(data[0], data[1].__getitem__, CLASSES, settings)
    assert fit.is_converged
    assert fit.gradient_norm <= 1e-8
    assert fit.notes == ()
    ours = np.concatenate([probe_logits(fit.probe, image, "").reshape(3, -1).T for image in data[0].maps])
    centred = ours - ours.mean(axis=1, keepdims=True)
    theirs = sklearn_logits(data, strength)
    theirs -= theirs.mean(axis=1, keepdims=True)
    # the probe is stored in float32
    assert centred == pytest.approx(theirs, abs=atol * max(1.0, float(np.abs(theirs).max())))


def test_single_precision_finds_the_same_optimum(data: Data) -> None:
    settings = replace(PRECISE, tolerance=1e-5, precision="float32")
    single = fit_exact_probe(data[0], data[1].__getitem__, CLASSES, settings)
    double = fit_exact_probe(data[0], data[1].__getitem__, CLASSES, PRECISE)
    assert single.is_converged
    assert single.loss == pytest.approx(double.loss, rel=1e-6)
    assert single.probe.weight == pytest.approx(double.probe.weight, abs=2e-3)


def test_loss_is_that_of_the_probe_on_raw_features(data: Data) -> None:
    """Folding the standardisation back changes nothing."""
    fit = fit_exact_probe(data[0], data[1].__getitem__, CLASSES, replace(PRECISE, strengths=(0.0,), tolerance=1e-3))
    features, shares = stacked(data, CLASSES)
    logits = features @ fit.probe.weight.astype(np.float64).T + fit.probe.bias
    losses = np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits
    assert fit.loss == pytest.approx(float((shares * losses).sum() / shares.sum()), rel=1e-4)
    assert fit.num_cells == pytest.approx(shares.sum(), rel=1e-6)


def test_the_strength_is_chosen_on_held_out_training_images(data: Data) -> None:
    source, labels = planted(20, (0, 2, 3), noise=4.0)
    lines: list[str] = []
    settings = replace(PRECISE, strengths=(10.0, 1.0, 1e-1, 1e-2, 1e-3), tolerance=1e-6)
    fit = fit_exact_probe(source, labels.__getitem__, CLASSES, settings, lines.append)
    losses = [trial.held_out_loss for trial in fit.trials]
    assert [trial.strength for trial in fit.trials] == list(settings.strengths[: len(losses)])
    assert fit.strength == fit.trials[int(np.argmin(losses))].strength
    assert losses[:-1] == sorted(losses[:-1], reverse=True)  # the first rise ends the search
    assert len(losses) < 5
    assert losses[-1] > losses[-2]
    held_out = [9, 19]
    kept = [i for i in range(20) if i not in held_out]
    again = fit_exact_probe(
        ArraySource(tuple(source.maps[i] for i in kept)),
        [labels[i] for i in kept].__getitem__,
        CLASSES,
        replace(settings, strengths=(fit.strength,)),
    )
    cells, shares = stacked(
        (ArraySource(tuple(source.maps[i] for i in held_out)), [labels[i] for i in held_out]), CLASSES
    )
    logits = cells @ again.probe.weight.T + again.probe.bias
    expected = (shares * (np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits)).sum() / shares.sum()
    assert min(losses) == pytest.approx(expected, rel=2e-2)  # standardised by all images there, by those kept here
    assert len(lines) == len(losses) + 1
    assert "without held-out images: strength 10, loss" in lines[0]


def test_too_few_images_to_hold_out(data: Data) -> None:
    fit = fit_exact_probe(data[0], data[1].__getitem__, CLASSES, replace(PRECISE, strengths=(1.0, 0.1, 0.01)))
    assert fit.strength == 0.1
    assert "strength 0.1 was taken, the middle of the list: 6 training images" in fit.notes[0]


def test_a_class_without_training_pixels_is_never_predicted(data: Data) -> None:
    source, labels = data
    fit = fit_exact_probe(source, labels.__getitem__, Classes((1, 3, 0, 2), 5), PRECISE)
    assert fit.notes == ("classes [1] have no training pixel and are never predicted",)
    assert fit.probe.classes.labels == (3, 0, 2)
    assert fit.probe.weight.shape == (3, 5)
    predicted = predict_with_probe(fit.probe, source.maps[0], (30, 41))
    assert predicted.shape == (30, 41)
    assert set(np.unique(predicted).tolist()) <= {0, 2, 3}


def test_predictions_are_the_upsampled_logits() -> None:
    source, labels = planted(12, (0, 2, 3), noise=0.2)
    fit = fit_exact_probe(source, labels.__getitem__, CLASSES, PRECISE)
    right = [
        (predict_with_probe(fit.probe, image, one.shape) == one)[(one != IGNORE)].mean()
        for image, one in zip(source.maps, labels, strict=True)
    ]
    assert np.mean(right) > 0.75
    exact = predict_with_probe(fit.probe, source.maps[0], (3, 4))
    assert np.array_equal(exact, np.array(CLASSES.labels)[probe_logits(fit.probe, source.maps[0], "").argmax(0)])


def test_images_without_labels_are_passed_over_and_a_constant_feature_has_no_weight(data: Data) -> None:
    source, labels = data
    maps = [np.concatenate([image, np.full((1, 3, 4), 7.0, dtype=np.float32)]) for image in source.maps]
    empty = np.full_like(labels[0], IGNORE)
    more = fit_exact_probe(ArraySource((maps[0], *maps)), [empty, *labels].__getitem__, CLASSES, PRECISE)
    assert more.is_converged
    assert np.abs(more.probe.weight[:, 5]).max() == 0
    plain = fit_exact_probe(source, labels.__getitem__, CLASSES, PRECISE)
    assert more.loss == pytest.approx(plain.loss, rel=1e-9)


def test_one_that_does_not_converge_says_so(data: Data) -> None:
    fit = fit_exact_probe(data[0], data[1].__getitem__, CLASSES, replace(PRECISE, max_passes=2))
    assert not fit.is_converged
    assert "not converged: gradient" in fit.notes[0]


def test_no_labelled_pixel_at_all(data: Data) -> None:
    with pytest.raises(
        InputError, match=r"no pixel of the 6 training images is labelled with one of the classes \[1\]"
    ):
        fit_exact_probe(data[0], data[1].__getitem__, Classes((1,), 5), PRECISE)


def test_broken_features_name_the_image(data: Data) -> None:
    source, labels = data
    source.maps[3][2, 1, 1] = np.nan
    with pytest.raises(InputError, match="features of image 'image3' hold NaN"):
        fit_exact_probe(source, labels.__getitem__, CLASSES, PRECISE)
    fit = fit_exact_probe(ArraySource(source.maps[:3]), labels.__getitem__, CLASSES, PRECISE)
    with pytest.raises(InputError, match="features of image 'cats/3' hold NaN"):
        predict_with_probe(fit.probe, source.maps[3], (8, 8), "cats/3")
    with pytest.raises(InputError, match="features of image 'a' have 2 dimensions, the probe 5"):
        predict_with_probe(fit.probe, source.maps[0][:2], (8, 8), "a")


def test_features_of_two_dimensions(data: Data) -> None:
    source, labels = data
    with pytest.raises(InputError, match="features of image 'image1' have 2 dimensions, those before 5"):
        fit_exact_probe(ArraySource((source.maps[0], source.maps[1][:2])), labels.__getitem__, CLASSES, PRECISE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strengths": ()}, r"exact.strengths are \[\]"),
        ({"strengths": (0.1, 1.0)}, r"exact.strengths are \[0.1, 1.0\]; give one or several, falling"),
        ({"strengths": (-1.0,)}, "exact.strengths are"),
        ({"tolerance": 0.0}, "exact.tolerance is 0.0; it must be positive"),
        ({"held_out_every": 1}, "exact.held_out_every is 1; it must be at least 2"),
    ],
)
def test_settings_out_of_range(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExactLinearSettings(**values)  # type: ignore[arg-type]
