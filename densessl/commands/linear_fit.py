"""How the linear protocols fit their probe: to features computed once, or to images augmented in every epoch."""

from dataclasses import dataclass

from rich.console import Console

from densessl.commands.protocol_data import ProtocolData
from densessl.commands.protocol_result import NOTHING_CHOSEN
from densessl.errors import InputError
from densessl.evaluation.augmented_batches import AugmentedBatches
from densessl.evaluation.framing import Framing
from densessl.evaluation.labelled_protocols import ExactLinearSettings, LinearProtocol, LinearScheduleSettings
from densessl.evaluation.linear_probe import LinearProbe
from densessl.evaluation.linear_schedule import EpochBatches, ScheduleFit, cached_batches, fit_scheduled_probe
from densessl.evaluation.logistic_regression import fit_exact_probe
from densessl.evaluation.network_features import FeatureMap

_LAST_EPOCH = f"{NOTHING_CHOSEN[:-1]}; weights of the last epoch)"


@dataclass(frozen=True)
class FittedProbe:
    """A probe, how many images it was fitted to, what a score chose, and what a reader must know, in words."""

    probe: LinearProbe
    num_images: int
    selection: str
    notes: tuple[str, ...]


def fit_linear(
    protocol: LinearProtocol, data: ProtocolData, framing: Framing, feature_map: FeatureMap | None, seed: int
) -> FittedProbe:
    """Fit a linear probe to the training split.

    Raises:
        InputError: whatever the fit raises, such as a training split without labels, or labels out of range.
    """
    match protocol.settings:
        case ExactLinearSettings() as exact:
            return _fit_exactly(exact, data, framing, feature_map)
        case LinearScheduleSettings(augmentation=True) as how:
            return _fit_to_augmented_images(how, data, framing, feature_map, seed)
        case LinearScheduleSettings() as how:
            return _fit_to_cached_features(how, data, framing, feature_map, seed)


def _fit_exactly(
    how: ExactLinearSettings, data: ProtocolData, framing: Framing, feature_map: FeatureMap | None
) -> FittedProbe:
    split = data.train_split()
    train = data.features(split, framing, feature_map)
    exact = fit_exact_probe(train, data.labels(split, train), data.classes, how, _console().print)
    if exact.trials:
        chosen = f"penalty {exact.strength:g}, chosen on held-out images of {split}"
    else:
        chosen = f"penalty {exact.strength:g}, as given (by what it was chosen is not known here)"
    return FittedProbe(exact.probe, len(train), chosen, exact.notes)


def _fit_to_augmented_images(
    how: LinearScheduleSettings, data: ProtocolData, framing: Framing, feature_map: FeatureMap | None, seed: int
) -> FittedProbe:
    split = data.train_split()
    images = data.images(split)
    if images.labels is None:
        raise InputError(f"split {split} has no labels to fit a probe to; choose another --train_split")
    _console().print(
        f"linear: the encoder passes over {len(images):,} augmented images in each of {how.epochs} epochs; "
        "linear.augmentation false trains on features computed once"
    )
    batches = AugmentedBatches(
        images,
        data.feature_encoder(feature_map),
        framing,
        batch_size=how.batch_size,
        seed=seed,
        encoder_batch_size=data.settings.batch_size,
        num_workers=data.num_workers,
    )
    trained = _train(how, batches, data, seed)
    notes, rejected = trained.notes, batches.rejected
    if rejected:
        notes += (f"{len(rejected)} images of {split} took no part in the fit; the first: {rejected[0].reason}",)
    return FittedProbe(trained.probe, len(images) - len(rejected), _LAST_EPOCH, notes)


def _fit_to_cached_features(
    how: LinearScheduleSettings, data: ProtocolData, framing: Framing, feature_map: FeatureMap | None, seed: int
) -> FittedProbe:
    split = data.train_split()
    train = data.features(split, framing, feature_map)
    batches = cached_batches(train, data.labels(split, train, framing), how.batch_size, seed)
    trained = _train(how, batches, data, seed)
    note = "features were cached: without the published augmentation of the training images"
    return FittedProbe(trained.probe, len(train), _LAST_EPOCH, (*trained.notes, note))


def _train(how: LinearScheduleSettings, batches: EpochBatches, data: ProtocolData, seed: int) -> ScheduleFit:
    console = _console()
    return fit_scheduled_probe(
        batches,
        data.classes,
        how,
        seed,
        data.device,
        lambda epoch, loss: console.print(f"linear, epoch {epoch + 1} of {how.epochs}: loss {loss:.4f}"),
    )


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
