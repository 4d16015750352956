"""The named protocols: the one place that turns a protocol's name into its run, and those that cluster."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from densessl.commands.encoder import trainable_encoder
from densessl.commands.finetune_run import FinetuneRun, finetune_run, run_finetune
from densessl.commands.labelled_runs import check_class_names, run_linear, run_neighbours, run_retrieval
from densessl.commands.protocol_data import ProtocolData
from densessl.commands.protocol_description import NamedProtocol, describe
from densessl.commands.protocol_result import NOTHING_CHOSEN, ProtocolResult, ProtocolSettings
from densessl.errors import InputError
from densessl.evaluation import labelled_protocols, pixel_protocols
from densessl.evaluation.cluster_scores import score_repeatedly
from densessl.evaluation.cluster_segmentation import (
    cluster_ids,
    cluster_repeatedly,
    label_map_of,
    num_clustered,
    read_label,
    score_clusterings,
    unnamed_values,
)
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.extraction import Extraction, Foreground
from densessl.evaluation.feature_store import FeatureStore
from densessl.evaluation.framing import Framing
from densessl.evaluation.image_scores import LabelledPrediction, score_images
from densessl.evaluation.labelled_protocols import (
    ExactLinearSettings,
    LinearProtocol,
    NeighbourProtocol,
    RetrievalProtocol,
)
from densessl.evaluation.pixel_clusters import confusions_of_pixels, fit_pixels, predict_pixels, scored_labels
from densessl.evaluation.pixel_protocols import PixelProtocol
from densessl.evaluation.protocols import ClusterProtocol, protocol_by_name
from densessl.evaluation.stored_embedding import embed_stored
from densessl.structures import IGNORE

PROTOCOLS = (
    *("native", "maskcontrast", "stego320", "leopart"),
    *("linear", "linear_exact", "hummingbird", "retrieval", "retrieval_7", "finetune"),
)
"""The names of all protocols, in the order in which they run."""

NEED_FOREGROUND = frozenset({"native", "maskcontrast", "retrieval", "retrieval_7"})


def named_protocol(name: str, settings: ProtocolSettings) -> NamedProtocol:
    """Return the protocol of that name with these settings; raises `InputError` for an unknown one."""
    size = settings.image_size
    if size is not None and size < 16:
        raise InputError(f"image_size is {size}; images are encoded at 16 pixels or more")
    match name:
        case "native" | "maskcontrast":
            return protocol_by_name(name, size)
        case "stego320":
            return _sized_pixels(pixel_protocols.STEGO320, size)
        case "leopart":
            return _sized_pixels(pixel_protocols.over_clustered(settings.leopart), size)
        case "linear":
            return _sized(replace(labelled_protocols.LINEAR, settings=settings.linear), size)
        case "linear_exact":
            return _sized(replace(labelled_protocols.LINEAR_EXACT, settings=settings.exact), size)
        case "hummingbird":
            return _sized(replace(labelled_protocols.HUMMINGBIRD, settings=settings.hummingbird), size)
        case "retrieval":
            return _sized(labelled_protocols.RETRIEVAL_21, size)
        case "retrieval_7":
            return _sized(labelled_protocols.RETRIEVAL_7, size)
        case "finetune":
            return finetune_run(settings.finetune, size)
    raise InputError(f"protocol {name!r} is unknown; choose among {', '.join(PROTOCOLS)}, or all")


def run_protocol(protocol: NamedProtocol, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    """Run a protocol on an encoder's features.

    Raises:
        InputError: whatever its parts raise, such as fewer masks than clusters or labels out of range.
    """
    has_decoder = data.encoder.run is not None
    words = describe(protocol, data.settings.foreground, has_decoder=has_decoder)
    return replace(_run(protocol, data, settings), description=words)


def _run(protocol: NamedProtocol, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    match protocol:
        case ClusterProtocol():
            return _run_clusters(protocol, data, settings)
        case PixelProtocol():
            return _run_pixels(protocol, data, settings)
        case LinearProtocol():
            return run_linear(protocol, data, settings)
        case NeighbourProtocol():
            return run_neighbours(protocol, data, settings)
        case RetrievalProtocol():
            return run_retrieval(protocol, data, settings)
        case FinetuneRun():
            return run_finetune(protocol, data, settings)


def reason_to_leave_out(protocol: NamedProtocol, data: ProtocolData) -> str | None:
    """Return why a protocol cannot run on this data and encoder, and what would help; None where it can.

    Images are not looked at, only what was given: foreground, masks, class names, labels, the kind of encoder.
    """
    try:
        check_requirements(protocol, data)
    except InputError as error:
        return str(error)
    return None


def check_requirements(protocol: NamedProtocol, data: ProtocolData) -> None:
    """Raise `InputError` where something that a protocol needs was not given; see `reason_to_leave_out`."""
    splits = splits_of(protocol, data)
    if protocol.name in NEED_FOREGROUND:
        foreground = data.foreground(protocol.name)
        if foreground == "all" and isinstance(protocol, RetrievalProtocol):
            raise InputError(
                f"protocol {protocol.name} retrieves masks, so --foreground all leaves it nothing; give masks"
            )
        for split in reversed(splits):
            data.masks(split, foreground)
    match protocol:
        case RetrievalProtocol():
            check_class_names(protocol, data.scored.class_names)
        case FinetuneRun():
            trainable_encoder(data.encoder.settings, data.device)
    if isinstance(protocol, LinearProtocol | NeighbourProtocol | RetrievalProtocol | FinetuneRun):
        for split in splits:
            if data.images(split).labels is None:
                raise InputError(f"split {split} has no labels to learn from; choose another --train_split")


def splits_of(protocol: NamedProtocol, data: ProtocolData) -> tuple[str, ...]:
    """Return the splits that a protocol reads, the scored one first."""
    scored = data.settings.split
    match protocol:
        case ClusterProtocol():
            return (scored,)
        case PixelProtocol():
            return (scored,) if protocol.fitted_on == "scored" else (scored, data.train_split())
        case RetrievalProtocol():
            return (scored, data.train_split(protocol.train_split))
        case _:
            return (scored, data.train_split())


def seeds_of(protocol: NamedProtocol, settings: ProtocolSettings) -> tuple[int, ...]:
    """Return the seeds that a protocol's mIoU follows from; none where nothing is drawn but resamples of images."""
    match protocol:
        case ClusterProtocol() | PixelProtocol():
            return tuple(settings.seeds)
        case RetrievalProtocol() | LinearProtocol(settings=ExactLinearSettings()):
            return ()
        case _:
            return (settings.seed,)


def _run_clusters(protocol: ClusterProtocol, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    foreground = data.foreground(protocol.name)
    store = data.features(data.settings.split, Framing(protocol.image_size_px))
    masks = data.masks(data.settings.split, foreground)
    extraction = embed_stored(store, data.scored.images, protocol, foreground, masks)
    classes = data.classes.labels
    found = cluster_repeatedly(extraction, _num_fitted(extraction, classes), protocol, settings.seeds)
    repeated = score_clusterings(data.scored, extraction, found, classes)
    num_predictions = found[0].num_clusters + (not extraction.is_pixelwise)
    first = score_images(
        _painted(data, extraction, found[0], settings),
        IGNORE,
        num_predictions,
        repeated.per_seed[0].match,
        classes,
        settings.num_resamples,
        settings.seed,
        repeated.per_seed[0],
        data.objects() if settings.instances else None,
        unnamed=unnamed_values(classes, extraction.is_pixelwise),
    )
    what = "pixels" if foreground == "all" else "one embedding per mask"
    return ProtocolResult(
        name=protocol.name,
        description=protocol.description,
        source=protocol.source,
        protocol=protocol,
        image_size_px=protocol.image_size_px,
        fitted=f"k-means on {what} of split {data.settings.split}, {len(found)} seeds",
        fit_labels=_labels_of_masks(foreground),
        selection=NOTHING_CHOSEN,
        matching=repeated.per_seed[0].labels_used,
        uses_masks=foreground != "all",
        scores=first,
        miou=repeated.miou,
        repeated=repeated,
        left_out=extraction.rejected,
        notes=found[0].notes,
    )


def _run_pixels(protocol: PixelProtocol, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    split, classes = data.settings.split, data.classes.labels
    framing = Framing(protocol.clusters.image_size_px, protocol.framing)
    train_split = split if protocol.fitted_on == "scored" else data.train_split()
    train, scored = data.features(train_split, framing), data.features(split, framing)
    number = protocol.number_of_clusters(len(classes))
    found = fit_pixels(lambda: map(train.pixels, range(len(train))), number, protocol, list(settings.seeds))
    frame = _frame_of_labels(protocol)
    labels = data.labels(split, scored, frame)
    pairs = ((scored.pixels(index), labels(index)) for index in range(len(scored)))
    match = protocol.match_rule(number, len(classes))
    repeated = score_repeatedly(confusions_of_pixels(pairs, found, protocol, IGNORE), len(scored), match, classes)

    def predictions() -> Iterator[LabelledPrediction]:
        for index, stem in enumerate(scored.stems):
            painted = predict_pixels(scored.pixels(index), found[0], protocol)
            if settings.keep is not None:
                settings.keep(stem, painted)
            yield LabelledPrediction(stem, scored_labels(labels(index), protocol), painted)

    first = score_images(
        predictions(),
        IGNORE,
        number,
        match,
        classes,
        settings.num_resamples,
        settings.seed,
        repeated.per_seed[0],
        data.objects(lambda found: scored_labels(frame.labels(found), protocol)) if settings.instances else None,
    )
    return ProtocolResult(
        name=protocol.name,
        description=protocol.description,
        source=protocol.source,
        protocol=protocol,
        image_size_px=protocol.clusters.image_size_px,
        fitted=f"{number} clusters of all pixels of split {train_split}, {len(found)} seeds",
        fit_labels="none",
        selection=NOTHING_CHOSEN,
        matching=repeated.per_seed[0].labels_used,
        uses_masks=False,
        scores=first,
        miou=repeated.miou,
        repeated=repeated,
        left_out=scored.rejected,
        notes=(*found[0].notes, *_left_out_of_fit(train, train_split, split)),
    )


def _painted(
    data: ProtocolData, extraction: Extraction, found: Clustering, settings: ProtocolSettings
) -> Iterator[LabelledPrediction]:
    """Yield the label maps of one clustering with their labels."""
    refs = {ref.stem: ref for ref in data.scored.images}
    nothing: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    every = [nothing] * len(extraction.images) if extraction.is_pixelwise else cluster_ids(extraction, found)
    for image, ids in zip(extraction.images, every, strict=True):
        painted = label_map_of(image, ids, found)
        if settings.keep is not None:
            settings.keep(image.stem, painted)
        yield LabelledPrediction(image.stem, read_label(data.scored, refs[image.stem]), painted)


def _num_fitted(extraction: Extraction, classes: tuple[int, ...]) -> int:
    """Return the number of clusters: one for each class, but none for the background where masks set it apart."""
    number = num_clustered(classes, extraction.is_pixelwise)
    if extraction.is_pixelwise:
        return number
    num_prototypes = sum(int(image.has_prototype.sum()) for image in extraction.images)
    if extraction.images and num_prototypes == 0:
        raise InputError(
            f"no foreground was found in any of {len(extraction.images)} images, so there is nothing to cluster; look "
            "at the masks, or choose another foreground"
        )
    if number == 0:
        raise InputError("the background is the only class, and masks set it apart; give classes that are clustered")
    return number


def _labels_of_masks(foreground: Foreground) -> str:
    return "the true foreground (oracle)" if foreground == "labels" else "none"


def _frame_of_labels(protocol: PixelProtocol) -> Framing:
    """Return the frame of labels: that of the published image size, whatever size the encoder sees."""
    published = pixel_protocols.STEGO320 if protocol.name == "stego320" else pixel_protocols.LEOPART
    return Framing(published.clusters.image_size_px, protocol.framing)


def _left_out_of_fit(train: FeatureStore, train_split: str, split: str) -> tuple[str, ...]:
    if train_split == split or not train.rejected:
        return ()
    return (f"{len(train.rejected)} images of {train_split} could not be encoded and took no part in the fit",)


def _sized_pixels(protocol: PixelProtocol, size: int | None) -> PixelProtocol:
    if size is None:
        return protocol
    return replace(protocol, clusters=replace(protocol.clusters, image_size_px=(size, size)))


def _sized(
    protocol: LinearProtocol | NeighbourProtocol | RetrievalProtocol, size: int | None
) -> LinearProtocol | NeighbourProtocol | RetrievalProtocol:
    return protocol if size is None else replace(protocol, image_size_px=(size, size))
