"""Multinomial logistic regression on the cells of cached features, solved to convergence without holding them."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from densessl.evaluation.curvature import CellCovariance, cell_covariance, coordinates
from densessl.evaluation.labelled_features import Classes, FeatureSource, LabelSource
from densessl.evaluation.labelled_protocols import ExactLinearSettings
from densessl.evaluation.linear_probe import LinearProbe
from densessl.evaluation.probe_cells import ProbeCells, collect_cells
from densessl.machine import num_cores

Parameters = NDArray[np.float64]  # (num_classes * (dim + 1),): weights row by row, then the biases

Progress = Callable[[str], None]

_Part = tuple[float, NDArray[np.floating], NDArray[np.float64]]  # loss and gradients of the cells of one image

OverImages = Callable[[Callable[[int], _Part], Iterable[int]], Iterable[_Part]]
"""Applies a function to images and yields the results in their order: `map`, or that of a pool of threads."""


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
    biases. L-BFGS (scipy) finds it from zero, in the coordinates of `densessl.evaluation.curvature`, each pass over all
    cells, one image for each processor in memory, sums over images in float64 and in one order.

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
    with threadpool_limits(limits=1), ThreadPoolExecutor(num_cores()) as pool:
        return _fit(_Problem(cells, settings, cell_covariance(cells), pool.map), classes, progress)


@dataclass(frozen=True)
class _Problem:
    """Cells, how they are fitted, their covariance, and what applies a function to images: `map` or a pool's."""

    cells: ProbeCells
    settings: ExactLinearSettings
    covariance: CellCovariance
    over_images: OverImages


@dataclass(frozen=True)
class _Solution:
    """Parameters with the loss and its gradient there, the passes that it took, and why it ended."""

    parameters: Parameters
    loss: float
    gradient: Parameters
    num_passes: int
    message: str

    @property
    def gradient_norm(self) -> float:
        return float(np.abs(self.gradient).max())


def _fit(problem: _Problem, classes: Classes, progress: Progress) -> ExactFit:
    cells, settings = problem.cells, problem.settings
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
            strength, parameters, trials, num_passes = _choose_strength(problem, progress)
    found = _solve(problem, strength, parameters)
    is_converged = found.gradient_norm <= settings.tolerance
    progress(_line("all images", strength, found))
    if not is_converged:
        notes += (
            f"not converged: gradient {found.gradient_norm:.1e} after {found.num_passes} passes ({found.message})",
        )
    return ExactFit(
        _fold(found.parameters, cells),
        strength,
        found.loss,
        found.gradient_norm,
        is_converged,
        num_passes + found.num_passes,
        cells.total_weight,
        trials,
        notes,
    )


def loss_and_gradient(
    parameters: Parameters,
    cells: ProbeCells,
    strength: float,
    settings: ExactLinearSettings,
    over_images: OverImages = map,
) -> tuple[float, Parameters]:
    """Return the loss that `fit_exact_probe` minimises and its gradient, from one pass over the cells.

    `dL/dz_ic = (s_i p_ic - s_ic) / S`, with p the softmax of z and s_i the labelled share of cell i. `over_images` is
    `map`, or the map of a pool of threads: the sums are the same.
    """
    num_classes = len(cells.classes)
    weight, bias = _unpacked(parameters, num_classes)
    weight_used, bias_used = weight.astype(settings.precision), bias.astype(settings.precision)[:, None]

    def of_image(position: int) -> _Part:
        inputs = cells.standardised(position, settings.precision)  # (dim, num_cells)
        shares = cells.shares[position].dense(num_classes, np.float64)  # (num_classes, num_cells)
        logits = (weight_used @ inputs + bias_used).astype(np.float64)  # few, against inputs: exact from here on
        highest = logits.max(axis=0)
        exponentials = np.exp(logits - highest)
        sums, labelled = exponentials.sum(axis=0), shares.sum(axis=0)
        loss = float((labelled * (highest + np.log(sums))).sum()) - float(np.vdot(shares, logits))
        residual = exponentials * (labelled / sums) - shares
        return loss, residual.astype(inputs.dtype) @ inputs.T, residual.sum(axis=1)

    total, weight_gradient, bias_gradient = 0.0, np.zeros_like(weight), np.zeros_like(bias)
    for loss, of_weight, of_bias in over_images(of_image, range(len(cells.shares))):
        total += loss
        weight_gradient += of_weight
        bias_gradient += of_bias
    scale = 1 / cells.total_weight
    penalised = total * scale + 0.5 * strength * float(np.vdot(weight, weight))
    return penalised, np.concatenate([(weight_gradient * scale + strength * weight).ravel(), bias_gradient * scale])


def _choose_strength(problem: _Problem, progress: Progress) -> tuple[float, Parameters, tuple[StrengthTrial, ...], int]:
    """Return the strength of least held-out loss, its parameters, what was tried, and the passes it took."""
    cells, settings = problem.cells, problem.settings
    positions = range(len(cells.indices))
    held_out = cells.part([i for i in positions if i % settings.held_out_every == settings.held_out_every - 1])
    kept = cells.part([i for i in positions if i % settings.held_out_every != settings.held_out_every - 1])
    start = np.zeros(len(cells.classes) * (cells.dim + 1))
    best, num_passes = start, 0
    trials: list[StrengthTrial] = []
    for strength in settings.strengths:
        found = _solve(replace(problem, cells=kept), strength, start)
        loss, _ = loss_and_gradient(found.parameters, held_out, 0.0, settings, problem.over_images)
        progress(f"{_line('without held-out images', strength, found)}, held-out loss {loss:.5f}")
        num_passes += found.num_passes + 1
        has_risen = bool(trials) and loss >= trials[-1].held_out_loss
        trials.append(StrengthTrial(strength, loss))
        if has_risen:
            break
        start = best = found.parameters
    return min(trials, key=lambda trial: trial.held_out_loss).strength, best, tuple(trials), num_passes


def _solve(problem: _Problem, strength: float, start: Parameters) -> _Solution:
    cells, settings = problem.cells, problem.settings
    scaled = coordinates(problem.covariance, strength)
    best: _Solution | None = None
    num_passes = 0

    def value(point: Parameters) -> tuple[float, Parameters]:
        nonlocal best, num_passes
        parameters = scaled.parameters(point)
        loss, gradient = loss_and_gradient(parameters, cells, strength, settings, problem.over_images)
        num_passes += 1
        solution = _Solution(parameters, loss, gradient, num_passes, "the gradient is small enough")
        if best is None or solution.gradient_norm < best.gradient_norm:
            best = solution
        return loss, scaled.gradient(gradient)

    def stop(intermediate_result: OptimizeResult) -> None:
        if best is not None and best.gradient_norm <= settings.tolerance:
            raise StopIteration

    options = {"maxcor": settings.history, "gtol": 0.0, "ftol": 0.0, "maxls": 30}  # the gradient by W and b decides
    options |= {"maxiter": settings.max_passes, "maxfun": settings.max_passes}
    ended = minimize(value, scaled.point(start), jac=True, method="L-BFGS-B", callback=stop, options=options)
    if best is None:
        raise RuntimeError("L-BFGS ended without computing a loss")
    is_done = best.gradient_norm <= settings.tolerance
    return replace(best, num_passes=num_passes, message=best.message if is_done else str(ended.message))


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


def _line(what: str, strength: float, found: _Solution) -> str:
    gradient = f"gradient {found.gradient_norm:.1e}, {found.num_passes} passes"
    return f"{what}: strength {strength:g}, loss {found.loss:.5f}, {gradient}"
