"""Multinomial logistic regression on the cells of cached features, solved to convergence without holding them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from densessl.evaluation.labelled_features import Classes, FeatureSource, LabelSource
from densessl.evaluation.labelled_protocols import ExactLinearSettings
from densessl.evaluation.linear_probe import LinearProbe
from densessl.evaluation.probe_cells import ProbeCells, collect_cells

Parameters = NDArray[np.float64]  # (num_classes * (dim + 1),): weights row by row, then the biases

Progress = Callable[[str], None]


@dataclass(frozen=True)
class StrengthTrial:
    """One strength of the penalty and the mean cross-entropy, in nats, that it left on the held-out images."""

    strength: float
    held_out_loss: float


@dataclass(frozen=True)
class ExactFit:
    """A probe and how it was found.

    strength: of the penalty. loss: mean cross-entropy plus penalty, in nats. gradient_norm: the largest entry of the
    gradient there. num_passes: over the data, trials included. num_cells: labelled cells, partly labelled ones in part.
    trials: what strengths were compared by, empty where one was given. notes: what a reader must know, in words.
    """

    probe: LinearProbe
    strength: float
    loss: float
    gradient_norm: float
    is_converged: bool
    num_passes: int
    num_cells: float
    trials: tuple[StrengthTrial, ...]
    notes: tuple[str, ...]


def fit_exact_probe(
    features: FeatureSource,
    labels: LabelSource,
    classes: Classes,
    settings: ExactLinearSettings,
    progress: Progress = lambda line: None,
) -> ExactFit:
    """Fit a linear probe by logistic regression on grid cells with soft labels.

    Minimises `1/S sum_i sum_c s_ic (log sum_k exp z_ik - z_ic) + strength/2 |W|^2` over W and b, `z_i = W x_i + b`.
    s_ic is the share of cell i that class c covers (`class_shares`), S the sum of all shares; x_i is the cell's feature
    less the mean of the training cells, over their deviation, both of which are folded back into the probe. The bias is
    not penalised. The loss is convex: with a strength above 0 there is one optimum, up to a common constant in all
    biases. L-BFGS (scipy) finds it from zero, each pass over all cells, one image in memory at a time, sums in float64.

    No data but the training images choose the strength: see `ExactLinearSettings`.

    Args:
        features: of the training images, read in every pass.
        labels: their label maps, read once.
        classes: what is learned.
        settings: strengths, stopping rule, precision.
        progress: takes a line after every fit.

    Raises:
        InputError: as `collect_cells`.
    """
    cells = collect_cells(features, labels, classes)
    parameters = np.zeros(len(cells.classes) * (cells.dim + 1))
    trials: tuple[StrengthTrial, ...] = ()
    num_passes = 0
    notes = _notes(cells, classes)
    strength = settings.strengths[0]
    if len(settings.strengths) > 1:
        if len(cells.indices) < settings.held_out_every:
            strength = settings.strengths[len(settings.strengths) // 2]
            notes += (
                f"strength {strength:g} was taken, the middle of the list: {len(cells.indices)} training images with "
                f"labels are too few to hold out every {settings.held_out_every}th",
            )
        else:
            strength, parameters, trials, num_passes = _choose_strength(cells, settings, progress)
    found = _solve(cells, strength, settings, parameters)
    gradient_norm = float(np.abs(found.jac).max())
    is_converged = gradient_norm <= settings.tolerance
    progress(_line("all images", strength, found))
    if not is_converged:
        notes += (f"not converged: gradient {gradient_norm:.1e} after {found.nfev} passes ({found.message})",)
    return ExactFit(
        _fold(found.x, cells),
        strength,
        float(found.fun),
        gradient_norm,
        is_converged,
        num_passes + int(found.nfev),
        cells.total_weight,
        trials,
        notes,
    )


def loss_and_gradient(
    parameters: Parameters, cells: ProbeCells, strength: float, settings: ExactLinearSettings
) -> tuple[float, Parameters]:
    """Return the loss that `fit_exact_probe` minimises and its gradient, from one pass over the cells.

    `dL/dz_ic = (s_i p_ic - s_ic) / S`, with p the softmax of z and s_i the labelled share of cell i.
    """
    num_classes = len(cells.classes)
    weight, bias = _unpacked(parameters, num_classes)
    weight_used, bias_used = weight.astype(settings.precision), bias.astype(settings.precision)[:, None]
    total, weight_gradient, bias_gradient = 0.0, np.zeros_like(weight), np.zeros_like(bias)
    for position, sparse in enumerate(cells.shares):
        inputs = cells.standardised(position, settings.precision)  # (dim, num_cells)
        shares = sparse.dense(num_classes, inputs.dtype.type)  # (num_classes, num_cells)
        logits = weight_used @ inputs + bias_used
        highest = logits.max(axis=0)
        exponentials = np.exp(logits - highest)
        sums, labelled = exponentials.sum(axis=0), shares.sum(axis=0)
        total += float((labelled * (highest + np.log(sums))).sum(dtype=np.float64))
        total -= float(np.vdot(shares, logits))
        residual = exponentials * (labelled / sums) - shares
        weight_gradient += residual @ inputs.T
        bias_gradient += residual.sum(axis=1, dtype=np.float64)
    scale = 1 / cells.total_weight
    loss = total * scale + 0.5 * strength * float(np.vdot(weight, weight))
    return loss, np.concatenate([(weight_gradient * scale + strength * weight).ravel(), bias_gradient * scale])


def _choose_strength(
    cells: ProbeCells, settings: ExactLinearSettings, progress: Progress
) -> tuple[float, Parameters, tuple[StrengthTrial, ...], int]:
    """Return the strength of least held-out loss, its parameters, what was tried, and the passes it took."""
    positions = range(len(cells.indices))
    held_out = cells.part([i for i in positions if i % settings.held_out_every == settings.held_out_every - 1])
    kept = cells.part([i for i in positions if i % settings.held_out_every != settings.held_out_every - 1])
    start = np.zeros(len(cells.classes) * (cells.dim + 1))
    best, num_passes = start, 0
    trials: list[StrengthTrial] = []
    for strength in settings.strengths:
        found = _solve(kept, strength, settings, start)
        loss, _ = loss_and_gradient(found.x, held_out, 0.0, settings)
        progress(f"{_line('without held-out images', strength, found)}, held-out loss {loss:.5f}")
        num_passes += int(found.nfev) + 1
        has_risen = bool(trials) and loss >= trials[-1].held_out_loss
        trials.append(StrengthTrial(strength, loss))
        if has_risen:
            break
        start = best = found.x
    return min(trials, key=lambda trial: trial.held_out_loss).strength, best, tuple(trials), num_passes


def _solve(cells: ProbeCells, strength: float, settings: ExactLinearSettings, start: Parameters) -> OptimizeResult:
    return minimize(
        loss_and_gradient,
        start,
        args=(cells, strength, settings),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxcor": settings.history,
            "gtol": settings.tolerance,
            "ftol": 0.0,  # the gradient alone decides
            "maxiter": settings.max_passes,
            "maxfun": settings.max_passes,
            "maxls": 30,
        },
    )


def _fold(parameters: Parameters, cells: ProbeCells) -> LinearProbe:
    """Return the probe of features as they are: `W' = W / deviation`, `b' = b - W' mean`."""
    weight, bias = _unpacked(parameters, len(cells.classes))
    folded = weight / cells.deviation
    return LinearProbe(folded.astype(np.float32), (bias - folded @ cells.mean).astype(np.float32), cells.classes)


def _unpacked(parameters: Parameters, num_classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return parameters[:-num_classes].reshape(num_classes, -1), parameters[-num_classes:]


def _notes(cells: ProbeCells, classes: Classes) -> tuple[str, ...]:
    absent = [label for label in classes.labels if label not in cells.classes.labels]
    if not absent:
        return ()
    return (f"classes {absent} have no training pixel and are never predicted",)


def _line(what: str, strength: float, found: OptimizeResult) -> str:
    gradient = float(np.abs(found.jac).max())
    return f"{what}: strength {strength:g}, loss {found.fun:.5f}, gradient {gradient:.1e}, {found.nfev} passes"
