"""The stage `cluster`: mask embeddings to a segmentation, scored where there are labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.classes import ClassSelection, parse_classes
from densessl.commands.cluster_encoder import check_foreground, open_clustered_encoder
from densessl.commands.cluster_number import choose_number, parse_range
from densessl.commands.cluster_output import (
    ORACLE,
    cluster_record,
    print_summary,
    provenance_of,
    remove_earlier_output,
    write_arrays,
    write_clusters,
    write_scores,
)
from densessl.commands.cluster_segmenter import segmenter_header
from densessl.commands.encoder import EncoderSettings
from densessl.data.layouts import open_images
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.errors import InputError
from densessl.evaluation.cluster_scores import RepeatedScores
from densessl.evaluation.cluster_segmentation import (
    cluster_repeatedly,
    fitted_vectors,
    num_clustered,
    score_clusterings,
)
from densessl.evaluation.clustering import Clustering, silhouette, stability
from densessl.evaluation.embedded_parts import PARTS_FOLDER, Embedded, embed_in_parts, parts_identity, remove_parts
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.extraction import EmbeddedImage, Extraction, Foreground, embed_images
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.protocols import Algorithm, ClusterProtocol, protocol_by_name
from densessl.evaluation.scores import check_classes
from densessl.evaluation.segmenter_file import SEGMENTER_FILE, save_segmenter
from densessl.files import make_folder, state_of_files
from densessl.machine import loader_processes
from densessl.models.dense_encoder import Normalisation
from densessl.models.precision import Precision
from densessl.structures import ImageRef, ImageSet
from densessl.training.run_folder import environment_record

DEFAULT_NUM_CLUSTERS = 21
"""Clusters, background included, where neither --num_clusters nor class names say otherwise (PASCAL VOC's number)."""


@dataclass(frozen=True)
class ClusterResult:
    """What `cluster` found: scores (None without labels), agreement between seeds, silhouette, images left out.

    `num_clusters` counts the background where the foreground is given, and `has_background` says so.
    """

    out: Path
    num_clusters: int
    has_background: bool
    scores: RepeatedScores | None
    stability: float | None
    silhouette: float | None
    num_images: int
    num_left_out: int


@checked_arguments
def cluster(
    run: Path | None,
    out: Path,
    data: Path | None = None,
    images: Path | None = None,
    split: str = "val",
    num_clusters: int | None = None,
    foreground: Foreground = "head",
    masks: Path | None = None,
    classes: ClassSelection = None,
    seeds: int = 5,
    seed: int = 0,
    protocol: Literal["native", "maskcontrast"] = "native",
    image_size: int | None = None,
    features: FeatureMap = "embedding",
    weights: Literal["final", "initial"] | Path = "final",
    batch_size: int = 8,
    num_workers: int = -1,
    encoder: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
    pretrained: bool = False,
    output_stride: Literal[8, 16, 32] = 8,
    normalisation: Normalisation = "auto",
    trust_file: bool = False,
    algorithm: Algorithm | None = None,
    choose_clusters: str | None = None,
    precision: Precision = "auto",
) -> ClusterResult:
    """Cluster one embedding per mask into a segmentation; where there are labels, match the clusters and score them.

    What is embedded is written down while it goes on: a call that was killed, or ended with an error, goes on when it
    is repeated.

    Args:
        run: the run folder of `pretrain` (give this or --encoder; in Python None with an encoder).
        out: receives label_maps/, clusters.json, prototypes.npz, segmenter.safetensors (for `predict`) and, where
            there are labels, scores.json.
        data: a data set in VOC or COCO layout (give this or --images).
        images: a folder of images, nested or not (give this or --data).
        split: the split of --data.
        num_clusters: clusters including the background where the foreground is given (21 for VOC, as published);
            by default the number of classes, and the background where it is none of them, or 21 without labels.
        foreground: head (the network's saliency head), masks (from --masks), all (every pixel is clustered) or labels
            (the true foreground: an oracle, and said to be one).
        masks: a folder of masks, for --foreground masks.
        classes: the classes to score, such as 0,8,10; pixels of others are ignored.
        seeds: how many times clustering is repeated; scores are means over the repetitions.
        seed: the first clustering seed.
        protocol: native (our default) or maskcontrast (as published); docs/protocols.md describes both.
        image_size: height and width in pixels that images are resized to; by default the protocol's (320 or 512).
            Small images are best clustered at about the scale they were trained at.
        features: embedding (the trained head), decoder or encoder (the backbone's last feature map).
        weights: of a run: final, or initial to cluster with the weights from before training; of a timm name: a file.
        batch_size: images per forward pass; it does not change the result.
        num_workers: loader processes; -1 chooses by the number of cores.
        encoder: an encoder that is no run: a timm name, a TorchScript or torch.export file, or module:function
            (docs/encoders.md).
        pretrained: let timm download its published weights for a timm name.
        output_stride: image pixels per cell of a timm name's convolutional network.
        normalisation: of the images that a timm name's network sees: imagenet, timm or auto (docs/encoders.md).
        trust_file: open a TorchScript or torch.export file, which can run code when it is loaded.
        algorithm: cluster with this algorithm in place of the protocol's: fast, streaming, spherical, spectral,
            agglomerative, kmeans, faiss or minibatch (docs/protocols.md).
        choose_clusters: the least and the most clusters, as in 2,30, background included where the foreground is
            given: each number is tried, stability and silhouette are written to num_clusters.json and
            num_clusters.png, and the most stable one is taken (no label is read; docs/protocols.md has the rule).
        precision: of the encoder: fp32, bf16, or auto (bf16 for runs and timm names where the machine multiplies it in
            hardware).

    Raises:
        InputError: neither or both of run and encoder, fewer masks than clusters, missing masks or labels out of range;
            the message says what to change.
    """
    image_set = open_images(images, data, split, out)
    check_cluster_settings(image_set, num_clusters, classes, seeds, seed)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    bounds = parse_range(choose_clusters, num_clusters)
    chosen = _scored_classes(classes, image_set)
    mask_folder = _open_masks(foreground, masks, image_set)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = EncoderSettings(
        "" if encoder is None else encoder,
        weights,
        pretrained,
        output_stride,
        normalisation,
        features,
        trust_file,
        precision,
    )
    opened = open_clustered_encoder(run, settings, device)
    check_foreground(foreground, opened.opened)
    make_folder(out)
    cluster_protocol = _with_algorithm(protocol_by_name(protocol, image_size), algorithm)
    is_known = opened.opened.fingerprint is not None and opened.kind != "callable" and foreground != "labels"
    extraction = _extract(
        out / PARTS_FOLDER if is_known else None,
        opened.opened,
        image_set,
        cluster_protocol,
        foreground,
        mask_folder,
        batch_size,
        num_workers,
    )
    wanted = _num_fitted(num_clusters, chosen, extraction)
    number = None
    if bounds is not None:
        number = choose_number(bounds, extraction, cluster_protocol, seed)
        wanted = number.choice.chosen
    found = cluster_repeatedly(extraction, wanted, cluster_protocol, range(seed, seed + seeds))
    remove_earlier_output(out)
    if number is not None:
        number.write(out)
    write_arrays(out, extraction, found[0])
    header = segmenter_header(out, opened, foreground=foreground, masks=masks)
    save_segmenter(out / SEGMENTER_FILE, header, found[0])
    scores = None
    if image_set.labels is not None and chosen is not None:
        scores = score_clusterings(image_set, extraction, found, chosen)
    result = _summarise(out, foreground, extraction, found, scores)
    record = cluster_record(
        result,
        found[0].notes,
        encoder=opened,
        data=data,
        images=images,
        split=split,
        foreground=foreground,
        masks=masks,
        seeds=range(seed, seed + seeds),
    )
    write_clusters(out, {**record, "environment": environment_record(device)}, cluster_protocol, extraction, found[0])
    if scores is not None:
        provenance = provenance_of(opened, foreground, masks, scores)
        write_scores(out, record, cluster_protocol.name, scores, image_set.class_names, provenance)
    remove_parts(out / PARTS_FOLDER)
    print_summary(Console(stderr=True), result, image_set.class_names)
    if foreground == "labels":
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"foreground: {ORACLE}")
    return result


def check_cluster_settings(
    images: ImageSet, num_clusters: int | None, classes: ClassSelection, seeds: int, seed: int
) -> None:
    """Raise `InputError` for settings that cannot work, before time is spent on the images."""
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; clustering must run at least once (published: 5)")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    if num_clusters is not None and num_clusters < 2:
        raise InputError(f"num_clusters is {num_clusters}; it counts the background, so it must be at least 2")
    chosen = parse_classes(classes)
    if images.class_names:
        check_classes(chosen, len(images.class_names))


def _with_algorithm(protocol: ClusterProtocol, algorithm: Algorithm | None) -> ClusterProtocol:
    """Return the protocol with another algorithm, which its name then says."""
    if algorithm is None or algorithm == protocol.algorithm:
        return protocol
    return replace(protocol, name=f"{protocol.name} with {algorithm}", algorithm=algorithm)


def _open_masks(foreground: Foreground, masks: Path | None, images: ImageSet) -> MaskFolder | None:
    if foreground != "masks":
        if foreground == "labels" and images.labels is None:
            raise InputError(f"--foreground labels needs labels, but {images.name} has none; give --data ROOT")
        if masks is not None:
            raise InputError(
                f"--masks {masks} is only used with --foreground masks, not {foreground}; add it or drop it"
            )
        return None
    if masks is None:
        raise InputError("--foreground masks needs --masks DIR, the folder of the masks")
    return open_mask_folder(masks, images.images)


def _scored_classes(classes: ClassSelection, images: ImageSet) -> tuple[int, ...] | None:
    """Return the classes that were asked for, or all that have a name; None where neither is there."""
    chosen = parse_classes(classes)
    if chosen is None and images.class_names:
        return tuple(range(len(images.class_names)))
    return chosen


def _extract(
    parts: Path | None,
    encoder: FeatureEncoder,
    images: ImageSet,
    protocol: ClusterProtocol,
    foreground: Foreground,
    masks: MaskFolder | None,
    batch_size: int,
    num_workers: int,
) -> Extraction:
    """Embed the images; `parts` is the folder for what is finished, None where it might be another thing next time."""

    def embed(refs: Sequence[ImageRef]) -> Iterator[Embedded]:
        return embed_images(
            refs,
            encoder.encode,
            protocol,
            foreground,
            masks and masks.only(refs),
            batch_size=batch_size,
            num_workers=loader_processes(num_workers),
            device=encoder.device,
            labels=images.labels,
        )

    if parts is None:
        results = embed(images.images)
    else:
        identity = parts_identity(encoder, protocol, foreground, masks)
        states = [state_of_files(_files(ref, masks)) for ref in images.images]
        results = embed_in_parts(parts, identity, images.images, states, embed, batch_size)
    embedded, rejected = [], []
    for item in track(results, "embed", total=len(images), console=Console(stderr=True)):
        if isinstance(item, EmbeddedImage):
            embedded.append(item)
        else:
            rejected.append(item)
    if not embedded:
        raise InputError(f"none of {len(images)} images could be embedded; the first: {rejected[0].reason}")
    return Extraction(tuple(embedded), tuple(rejected))


def _files(ref: ImageRef, masks: MaskFolder | None) -> list[Path]:
    """Return the files that an image is embedded from."""
    mask = None if masks is None else masks.files.get(ref.stem)
    return [ref.path] if mask is None else [ref.path, mask]


def _num_fitted(asked: int | None, classes: tuple[int, ...] | None, extraction: Extraction) -> int:
    """Return the number of clusters to fit: the background is not fitted where masks set it apart."""
    if extraction.is_pixelwise:
        return asked or len(classes or range(DEFAULT_NUM_CLUSTERS))
    total = asked or num_clustered(classes or range(DEFAULT_NUM_CLUSTERS), is_pixelwise=False) + 1
    if total < 2:
        raise InputError(f"num_clusters is {total}; it counts the background, so it must be at least 2")
    num_prototypes = sum(int(image.has_prototype.sum()) for image in extraction.images)
    if num_prototypes == 0:
        raise InputError(
            f"no foreground was found in any of {len(extraction.images)} images, so there is nothing to cluster; use "
            "--foreground masks with a mask folder, or train the saliency head longer"
        )
    return total - 1 if asked is not None else min(total - 1, num_prototypes)


def _summarise(
    out: Path,
    foreground: Foreground,
    extraction: Extraction,
    found: tuple[Clustering, ...],
    scores: RepeatedScores | None,
) -> ClusterResult:
    """Put together what was found; `found` holds one clustering for each seed."""
    return ClusterResult(
        out=out,
        num_clusters=found[0].num_clusters + (foreground != "all"),
        has_background=foreground != "all",
        scores=scores,
        stability=stability([item.assignments for item in found]) if len(found) > 1 else None,
        silhouette=silhouette(fitted_vectors(extraction), found[0]),
        num_images=len(extraction.images),
        num_left_out=len(extraction.rejected),
    )
