"""The rounds of `self_label`, from the clusters to the last network, each kept on disk so that a call can go on."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track

from densessl.commands.self_label_claim import claim, fingerprint
from densessl.commands.self_label_output import (
    SelfLabelResult,
    Target,
    check_labelled,
    label_by_clusters,
    label_by_network,
    run_provenance,
    say_end,
    score_record,
    scores_of,
    working_device,
    write_scores,
)
from densessl.commands.self_label_pseudo_labels import (
    Teacher,
    masks_of_clusters,
    train_round,
    write_labels_of_masks,
    write_labels_of_network,
)
from densessl.data.masks import MaskFolder
from densessl.evaluation.cluster_segmentation import fitted_vectors, nearest_members, prototype_stems
from densessl.evaluation.clustering import Clustering, cluster_prototypes, silhouette
from densessl.evaluation.extraction import EmbeddedImage, Extraction, embed_images
from densessl.evaluation.network_features import FeatureMap, NetworkFeatures
from densessl.evaluation.protocols import ClusterProtocol
from densessl.files import file_sha256, make_folder, read_json, remove_abandoned_writes, write_json
from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.models.precision import on_device
from densessl.models.segmentation_network import (
    SegmentationNetworkHeader,
    build_segmentation_network,
    copy_run_encoder,
    load_segmentation_network,
    save_segmentation_network,
)
from densessl.saliency.mask_provenance import masks_provenance
from densessl.structures import ImageSet, Rejection
from densessl.training.run_folder import environment_record, load_run_model, plain
from densessl.training.self_labelling import SelfLabellingSettings

MEMBERS_LISTED = 64
"""Nearest members listed for each cluster in clusters.json."""


@dataclass(frozen=True)
class Task:
    """What a training call was given, opened and checked; num_clusters counts the background."""

    out: Path
    learned: ImageSet
    masks: MaskFolder
    target: Target
    run: Path
    weights: Literal["final", "initial"]
    features: FeatureMap
    num_clusters: int
    protocol: ClusterProtocol
    settings: SelfLabellingSettings
    seed: int
    batch_size: int
    num_workers: int

    @property
    def teacher(self) -> Teacher:
        """What all rounds share."""
        return Teacher(self.out, self.learned.images, self.masks, self.num_clusters - 1, self.settings)


def run_rounds(task: Task, resume: bool) -> SelfLabelResult:
    """Cluster, then train, predict and score in rounds; what is finished in `task.out` is not done again.

    Raises:
        InputError: `task.out` was begun and `resume` is false, or with other settings; fewer confident images than
            clusters; an encoder that the decoder cannot work on.
    """
    model, model_settings = load_run_model(task.run, task.weights)
    header = SegmentationNetworkHeader(
        encoder=model_settings.encoder,
        decoder=task.settings.decoder,
        output_stride=model_settings.output_stride,
        num_classes=task.num_clusters,
        size_px=task.settings.size_px,
        view_share=task.settings.view_share,
        backbone=run_provenance(task.run, task.weights),
        masks=masks_provenance(task.masks.folder),
    )
    copy_run_encoder(build_segmentation_network(header), model.encoder)  # an unfit encoder is noticed before any work
    make_folder(task.out)
    claim(task.out, _describe(task), resume)
    remove_abandoned_writes(task.out)
    teacher = task.teacher
    if not teacher.has_labels(1):
        _cluster_masks(task, model, header)
    miou: list[float] = []
    for number in range(1, task.settings.rounds + 1):
        if not teacher.has_labels(number):
            write_labels_of_network(teacher, number)
        if not (teacher.folder(number) / "network.safetensors").is_file():
            train_round(teacher, number, model, header, task.seed + number)
        if task.target.is_scored and number < task.settings.rounds:
            miou.append(_score_round(task, number, miou))
    return _finish(task, miou)


def _score_round(task: Task, number: int, earlier: list[float]) -> float:
    """Return the mIoU of a round that is not the last, from its scores.json where it has one."""
    path = task.teacher.folder(number) / "scores.json"
    if not path.is_file():
        network, header = load_segmentation_network(path.parent / "network.safetensors")
        labelled = label_by_network(task.target, on_device(network, working_device()), header, None)
        scores = scores_of(labelled, task.target)
        content = score_record(task.target, scores, header, f"network of round {number}", [*earlier, scores.miou])
        write_scores(path, content, scores, task.target.images.class_names, f"round {number}")
    return float(read_json(path, "the scores of a round")["miou"])


def _finish(task: Task, earlier: list[float]) -> SelfLabelResult:
    """Keep the last round's network, and label and score the images of the target with it."""
    number = task.settings.rounds
    folder = task.teacher.folder(number)
    network, header = load_segmentation_network(folder / "network.safetensors")
    shutil.rmtree(task.out / "label_maps", ignore_errors=True)
    labelled = label_by_network(task.target, on_device(network, working_device()), header, task.out / "label_maps")
    check_labelled(labelled, task.target)
    miou = tuple(earlier)
    if labelled.scores is not None:
        miou = (*earlier, labelled.scores.miou)
        content = score_record(task.target, labelled.scores, header, f"network of round {number}", miou)
        write_json(folder / "scores.json", content)
        names = task.target.images.class_names
        write_scores(task.out / "scores.json", content, labelled.scores, names, f"round {number}, the last")
    write_json(task.out / "rejected.json", [{"stem": stem, "reason": why} for stem, why in labelled.rejected])
    save_segmentation_network(task.out / "network.safetensors", network, header)
    say_end(task.out, labelled)
    return SelfLabelResult(task.out, header.num_classes, labelled.num_images, labelled.scores, miou)


def _cluster_masks(task: Task, model: MaskContrastModel, header: SegmentationNetworkHeader) -> None:
    """Cluster the masks of all images that are learned from, and write the pseudo-labels of round 1."""
    encode = NetworkFeatures(on_device(model, working_device()), task.features)
    items = list(_embed(task, encode, task.learned, task.masks, "embed"))
    embedded = tuple(item for item in items if isinstance(item, EmbeddedImage))
    extraction = Extraction(embedded, tuple(item for item in items if isinstance(item, Rejection)))
    vectors = fitted_vectors(extraction)
    stems = prototype_stems(extraction)
    found = cluster_prototypes(vectors, task.num_clusters - 1, task.protocol, task.seed, stems)
    write_json(task.out / "clusters.json", _cluster_record(task, extraction, found))
    if task.target.is_scored and task.target.masks is not None:
        shown = _embed(task, encode, task.target.images, task.target.masks, "embed images to score")
        scores = scores_of(label_by_clusters(task.target, shown, found, None), task.target)
        content = score_record(task.target, scores, header, "nearest cluster of each mask, no network", ())
        path = task.out / "clusters_scores.json"
        write_scores(path, content, scores, task.target.images.class_names, "clusters of the masks, before round 1")
    labelled = masks_of_clusters(extraction, found, task.learned.images)
    write_labels_of_masks(task.teacher, 1, labelled, "clusters")


def _embed(
    task: Task, encode: NetworkFeatures, images: ImageSet, masks: MaskFolder, name: str
) -> Iterator[EmbeddedImage | Rejection]:
    results = embed_images(
        images.images,
        encode,
        task.protocol,
        "masks",
        masks,
        batch_size=task.batch_size,
        num_workers=task.num_workers,
        device=working_device(),
    )
    yield from track(results, name, total=len(images), console=Console(stderr=True))


def _cluster_record(task: Task, extraction: Extraction, found: Clustering) -> dict[str, Any]:
    """Return the content of clusters.json: how the clusters of round 1 were made, their size and nearest members."""
    members = nearest_members(extraction, found, MEMBERS_LISTED)
    clusters = [
        {
            "id": number,
            "size": int((found.assignments == number).sum()),
            "members": [{"stem": stem, "distance": distance} for stem, distance in members[number]],
        }
        for number in range(found.num_clusters)
    ]
    return plain(  # type: ignore[no-any-return]
        {
            "num_clusters": task.num_clusters,
            "run": task.run.resolve(),
            "features": task.features,
            "weights": task.weights,
            "seed": task.seed,
            "masks": task.masks.folder,
            "images": task.learned.name,
            "label_free": {"silhouette": silhouette(fitted_vectors(extraction), found)},
            "notes": found.notes,
            "protocol": task.protocol,
            "rejected": [{"stem": item.stem, "reason": item.reason} for item in extraction.rejected],
            "clusters": clusters,
            "environment": environment_record(working_device()),
        }
    )


def _describe(task: Task) -> dict[str, dict[str, Any]]:
    """Return what the result depends on; files by their content, images by their names."""
    settings = plain(task.settings)
    settings.pop("num_workers")
    target = task.target
    return {
        "images": fingerprint(task.learned.images),
        "masks": fingerprint(task.learned.images, task.masks),
        "run": {
            "weights_sha256": file_sha256(task.run / f"{task.weights}.safetensors"),
            "weights": task.weights,
            "features": task.features,
            "image_size": list(task.protocol.image_size_px),
        },
        "clusters": {"num_clusters": task.num_clusters, "seed": task.seed},
        "self_labelling": settings,
        "evaluation": {
            **fingerprint(target.images.images, target.masks),
            "classes": None if target.classes is None else list(target.classes),
            "foreground": target.foreground,
            "one_class_per_mask": target.one_class_per_mask,
        },
    }
