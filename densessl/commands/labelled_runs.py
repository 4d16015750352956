"""The named protocols that learn from labels: linear probes, nearest neighbours, retrieval."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from densessl.commands.linear_fit import fit_linear
from densessl.commands.protocol_data import ProtocolData
from densessl.commands.protocol_result import NO_MATCHING, NOTHING_CHOSEN, ProtocolResult, ProtocolSettings
from densessl.data.voc import VOC_CLASS_NAMES
from densessl.errors import InputError
from densessl.evaluation import protocols
from densessl.evaluation.cluster_segmentation import read_label
from densessl.evaluation.dense_neighbours import predict_with_memory
from densessl.evaluation.extraction import EmbeddedImage, Extraction, decode_instances
from densessl.evaluation.feature_store import FeatureStore
from densessl.evaluation.framing import Framing
from densessl.evaluation.image_scores import ImageScores, LabelledPrediction, score_images
from densessl.evaluation.labelled_features import Classes, read_labelled
from densessl.evaluation.labelled_protocols import (
    LinearProtocol,
    NeighbourProtocol,
    RetrievalProtocol,
)
from densessl.evaluation.linear_probe import LinearProbe, predict_with_probe
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.patch_memory import build_memory
from densessl.evaluation.retrieval import (
    MaskVectors,
    RetrievalBank,
    averaged_classes,
    build_bank,
    predict_by_retrieval,
    scored_classes,
)
from densessl.evaluation.stored_embedding import embed_stored
from densessl.structures import ImageSet, LabelMap


def run_linear(protocol: LinearProtocol, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    """Fit a linear probe to the training split and score it at native size."""
    split, framing = data.train_split(), Framing(protocol.image_size_px)
    feature_map: FeatureMap | None = "decoder" if protocol.feature_map == "decoder" else None
    scored = data.features(data.settings.split, framing, feature_map)
    fitted = fit_linear(protocol, data, framing, feature_map, settings.seed)
    result = _result(
        protocol,
        protocol.image_size_px,
        _score(data, scored, settings, lambda index, size: _by_probe(fitted.probe, scored, index, size)),
        fitted=f"linear probe on {fitted.num_images} images of split {split}",
        fit_labels=f"pixel labels of split {split}",
        left_out=scored,
        notes=fitted.notes,
    )
    return replace(result, selection=fitted.selection, probe=fitted.probe)


def run_neighbours(protocol: NeighbourProtocol, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    """Fill a memory from the training split and transfer its labels, scored at native size."""
    split, framing, how = data.train_split(), Framing(protocol.image_size_px), protocol.settings
    train, scored = data.features(split, framing), data.features(data.settings.split, framing)
    labelled = read_labelled(train, data.labels(split, train))
    memory = build_memory(labelled, len(train), data.classes, how, settings.seed)

    def predict(index: int, size: tuple[int, int]) -> LabelMap:
        return predict_with_memory(memory, scored.pixels(index), size, how, scored.stems[index], data.device)

    return _result(
        protocol,
        protocol.image_size_px,
        _score(data, scored, settings, predict),
        fitted=f"memory of {len(memory.features):,} patches of {len(train)} images of split {split}",
        fit_labels=f"pixel labels of split {split}",
        left_out=scored,
        notes=memory.notes,
    )


def run_retrieval(protocol: RetrievalProtocol, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    """Give every mask the class of the nearest training mask, scored at native size."""
    foreground = data.foreground(protocol.name)
    split, scored_split = data.train_split(protocol.train_split), data.settings.split
    chosen = scored_classes(protocol, data.classes)
    classes = Classes(chosen, data.classes.num_labels)
    how = replace(protocols.MASKCONTRAST, image_size_px=protocol.image_size_px)
    framing = Framing(protocol.image_size_px)

    def embed(name: str) -> Extraction:
        store, masks = data.features(name, framing), data.masks(name, foreground)
        return embed_stored(store, data.images(name).images, how, foreground, masks)

    bank = build_bank(_with_labels(data.images(split), embed(split)), classes)
    extraction = embed(scored_split)
    predictions = _retrieved(data.scored, extraction, bank, settings)
    num_labels = classes.num_labels
    scores = score_images(
        predictions,
        num_labels,
        num_labels,
        "none",
        chosen,
        settings.num_resamples,
        settings.seed,
        objects=data.objects() if settings.instances else None,
        averaged=averaged_classes(protocol, chosen),
    )
    oracle = " and the true foreground (oracle)" if foreground == "labels" else ""
    notes = bank.notes
    if bank.left_out:
        notes += (f"{len(bank.left_out)} training masks gave no entry; the first: {bank.left_out[0].reason}",)
    return ProtocolResult(
        name=protocol.name,
        description=protocol.description,
        source=protocol.source,
        protocol=protocol,
        image_size_px=protocol.image_size_px,
        fitted=f"bank of {len(bank.classes)} masks of split {split}",
        fit_labels=f"pixel labels of split {split}{oracle}",
        selection=NOTHING_CHOSEN,
        matching=NO_MATCHING,
        uses_masks=True,
        scores=scores,
        miou=scores.scores.miou,
        left_out=extraction.rejected,
        notes=notes,
    )


def _score(
    data: ProtocolData,
    scored: FeatureStore,
    settings: ProtocolSettings,
    predict: Callable[[int, tuple[int, int]], LabelMap],
) -> ImageScores:
    labels, num_labels = data.labels(data.settings.split, scored), data.classes.num_labels

    def predictions() -> Iterator[LabelledPrediction]:
        for index, stem in enumerate(scored.stems):
            painted = predict(index, scored.sizes[index])
            if settings.keep is not None:
                settings.keep(stem, painted)
            yield LabelledPrediction(stem, labels(index), painted)

    classes = data.classes.labels
    return score_images(
        predictions(),
        num_labels,
        num_labels,
        "none",
        classes,
        settings.num_resamples,
        settings.seed,
        objects=data.objects() if settings.instances else None,
    )


def _by_probe(probe: LinearProbe, scored: FeatureStore, index: int, size: tuple[int, int]) -> LabelMap:
    return predict_with_probe(probe, scored.pixels(index), size, scored.stems[index])


def _result(
    protocol: LinearProtocol | NeighbourProtocol,
    image_size_px: tuple[int, int],
    scores: ImageScores,
    *,
    fitted: str,
    fit_labels: str,
    left_out: FeatureStore,
    notes: tuple[str, ...],
) -> ProtocolResult:
    return ProtocolResult(
        name=protocol.name,
        description=protocol.description,
        source=protocol.source,
        protocol=protocol,
        image_size_px=image_size_px,
        fitted=fitted,
        fit_labels=fit_labels,
        selection=NOTHING_CHOSEN,
        matching=NO_MATCHING,
        uses_masks=False,
        scores=scores,
        miou=scores.scores.miou,
        left_out=left_out.rejected,
        notes=notes,
    )


def _with_labels(images: ImageSet, extraction: Extraction) -> Iterator[tuple[MaskVectors, LabelMap]]:
    refs = {ref.stem: ref for ref in images.images}
    for image in extraction.images:
        yield _vectors(image), read_label(images, refs[image.stem])


def _retrieved(
    images: ImageSet, extraction: Extraction, bank: RetrievalBank, settings: ProtocolSettings
) -> Iterator[LabelledPrediction]:
    refs = {ref.stem: ref for ref in images.images}
    for image in extraction.images:
        painted = predict_by_retrieval(bank, _vectors(image))
        if settings.keep is not None:
            settings.keep(image.stem, painted)
        yield LabelledPrediction(image.stem, read_label(images, refs[image.stem]), painted)


def _vectors(image: EmbeddedImage) -> MaskVectors:
    return MaskVectors(image.stem, image.vectors, image.has_prototype, decode_instances(image))


def check_class_names(protocol: RetrievalProtocol, class_names: tuple[str, ...]) -> None:
    """Refuse a protocol that counts classes of VOC by number where the numbers mean other classes."""
    wanted = [VOC_CLASS_NAMES[label] for label in protocol.classes or ()]
    found = [class_names[label] if label < len(class_names) else "none" for label in protocol.classes or ()]
    if found != wanted:
        raise InputError(
            f"protocol {protocol.name} counts {', '.join(wanted)}, but these classes are called {', '.join(found)} "
            "here; it is for PASCAL VOC's classes: leave it out"
        )
