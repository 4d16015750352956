"""The command `embedding_space`: masks in the plane by their prototypes, and who is nearest to whom."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from densessl.commands.attention_output import say
from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.cluster_encoder import ClusteredEncoder, open_clustered_encoder
from densessl.commands.cluster_output import provenance_of
from densessl.commands.embedded_masks import EMBEDDINGS_FILE, Pooling, pool_masks, write_embeddings
from densessl.commands.embedding_clusters import MaskClusters, clusters_precision, find_clusters, open_clusters
from densessl.commands.embedding_drawing import Space, draw_space
from densessl.commands.embedding_output import (
    RECORD_FILE,
    check_numbers,
    claim_space_folder,
    found_record,
    keep_embedded,
    made_from,
    space_page,
)
from densessl.commands.embedding_strips import make_strips, parse_queries, rows_of_queries
from densessl.commands.encoder import EncoderSettings
from densessl.data.layouts import open_images
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.errors import InputError
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.plane import PlaneMethod, place_in_plane
from densessl.evaluation.protocols import protocol_by_name
from densessl.evaluation.typical_masks import cluster_medoids
from densessl.files import make_folder, read_json, write_json
from densessl.machine import loader_processes
from densessl.models.dense_encoder import Normalisation
from densessl.models.precision import Precision
from densessl.report.embedding_page import write_embedding_page
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageRef, ImageSet, Rejection
from densessl.training.run_folder import environment_record, plain


@dataclass(frozen=True)
class EmbeddingSpaceResult:
    """What `embedding_space` did: masks, their images, whether an earlier call embedded them, and those left out."""

    out: Path
    num_masks: int
    num_images: int
    is_reused: bool
    rejected: tuple[Rejection, ...]


@checked_arguments
def embedding_space(
    out: Path,
    run: Path | None = None,
    encoder: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "val",
    masks: Path | None = None,
    split_masks: bool = False,
    projection: PlaneMethod = "pca",
    num_clusters: int | None = None,
    clusters: Path | None = None,
    num_neighbours: int = 8,
    query: str | None = None,
    num_shown: int = 24,
    seed: int = 0,
    protocol: Literal["native", "maskcontrast"] = "native",
    image_size: int | None = None,
    features: FeatureMap = "embedding",
    weights: Literal["final", "initial"] | Path = "final",
    pretrained: bool = False,
    output_stride: Literal[8, 16, 32] = 8,
    normalisation: Normalisation = "auto",
    trust_file: bool = False,
    batch_size: int = 8,
    num_workers: int = -1,
    precision: Precision = "auto",
) -> EmbeddingSpaceResult:
    """Draw a map of masks by their embeddings, coloured by cluster, and strips of nearest neighbours. Reads no label.

    Writes map.png, marks.png, neighbours/, index.html, embedding_space.json, embeddings.npz and masks/ below --out. A
    call with the same encoder, images and masks draws everything anew from these, with another projection, clusters or
    query if you like; an image that cannot be used is listed with the reason.

    Args:
        out: folder to write; what an earlier call left there is used again where it fits, else replaced.
        run: the run folder of `pretrain` (give this or --encoder).
        encoder: an encoder that is no run: a timm name, a TorchScript or torch.export file, or module:function
            (docs/encoders.md).
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images); its labels are not read.
        split: the split of --data.
        masks: a folder of masks; where they are numbered, each is embedded. Without it the foreground is what a run's
            saliency head finds, and for other encoders masks are proposed with the defaults of `saliency`, below
            OUT/proposals.
        split_masks: count the connected regions of masks without numbers as masks of their own.
        projection: pca (the first two principal components) or tsne (t-SNE, from 5 masks on).
        num_clusters: clusters including the background, as for `cluster`; by default 8, or fewer where there are fewer
            masks.
        clusters: the --out of `cluster`, whose clusters are taken in place of new ones, with their size of images and
            their names.
        num_neighbours: masks in a strip; where other images have fewer, all of them.
        query: stems of the images whose masks are looked for, with commas between them; STEM:2 is the second mask of an
            image, STEM the largest. By default the medoid of every cluster and the least typical masks.
        num_shown: strips at most, where --query does not say which.
        seed: of k-means and t-SNE.
        protocol: how masks are pooled and clustered: native or maskcontrast (docs/protocols.md).
        image_size: height and width in pixels that images are resized to; by default the protocol's (320 or 512).
        features: of a run: embedding (the trained head), decoder or encoder (the backbone's last feature map).
        weights: of a run: final or initial; of a timm name: a file.
        pretrained: let timm download its published weights for a timm name.
        output_stride: image pixels per cell of a timm name's convolutional network.
        normalisation: of the images that a timm name's network sees: imagenet, timm or auto (docs/encoders.md).
        trust_file: open a TorchScript or torch.export file, which can run code when it is loaded.
        batch_size: images per forward pass; it does not change the result.
        num_workers: loader processes; -1 chooses by the number of cores.
        precision: of the encoder: fp32, bf16, or auto (that of --clusters, else bf16 for runs and timm names where the
            machine multiplies it in hardware).

    Raises:
        InputError: settings that contradict each other, clusters of another encoder, more clusters than masks, features
            that are not finite, no mask at all; the message says what to change.
    """
    check_numbers(num_clusters, num_neighbours, num_shown, batch_size, seed)
    _check_clusters(clusters, num_clusters, image_size, protocol)
    image_set = open_images(images, data, split, out)
    queries = parse_queries(query, image_set.images)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = EncoderSettings(
        "" if encoder is None else encoder,
        weights,
        pretrained,
        output_stride,
        normalisation,
        features,
        trust_file,
        clusters_precision(clusters) if precision == "auto" and clusters is not None else precision,
    )
    opened = open_clustered_encoder(run, settings, device)
    fitted = None if clusters is None else open_clusters(clusters, opened)
    chosen = protocol_by_name(protocol, image_size) if fitted is None else fitted.clustering.protocol
    place = _place_of_masks(out, masks, opened)
    if split_masks and place is None:
        raise InputError(
            "split_masks is true, but the foreground is what the run's saliency head finds, which is one mask for each "
            "image; give --masks DIR, or leave it out"
        )
    make_folder(out)
    refs, mask_folder, without_mask = _open_masks(image_set, masks, place)
    workers = loader_processes(num_workers)
    pooling = Pooling(chosen, mask_folder, split_masks, batch_size, workers)
    source = made_from(opened, refs, pooling)
    before = claim_space_folder(out, source)
    embedded, faults = before or pool_masks(refs, opened.opened, pooling, out / "masks")
    if before is None:
        keep_embedded(out, source, embedded, faults)
    rejected = (*without_mask, *faults)
    asked = rows_of_queries(queries, embedded, rejected)
    coloured = find_clusters(embedded, fitted, num_clusters, chosen, seed)
    plane = place_in_plane(embedded.vectors, projection, seed)
    medoids = cluster_medoids(embedded.vectors, coloured.numbers)
    strips = make_strips(embedded, coloured.numbers, medoids, asked, num_neighbours, num_shown)
    space = Space(embedded, coloured, plane, medoids, tuple(strips))
    write_embeddings(out / EMBEDDINGS_FILE, embedded, plane.places, coloured.numbers)
    drawn = draw_space(out, refs, space)
    asked_for = {
        "protocol": chosen.name,
        "projection": projection,
        "num_clusters": num_clusters,
        "clusters": None if fitted is None else fitted.folder.resolve(),
        "num_neighbours": num_neighbours,
        "query": query,
        "seed": seed,
        "masks": place,
        "images": {"data": data and data.resolve(), "images": images and images.resolve(), "split": split},
    }
    record = {
        "settings": asked_for,
        "made_from": source,
        "supervision": provenance_of(opened, "head" if place is None else "masks", place, scores=None),
        **found_record(space),
        "num_thumbnails": len(drawn.thumbnails),
        "left_out_of_masks": faults,
        "rejected": rejected,
        "environment": environment_record(device),
    }
    write_json(out / RECORD_FILE, plain(record))
    title = (data or images or out).resolve().name
    write_embedding_page(space_page(title, record, space, drawn, rejected), out / "index.html")
    result = EmbeddingSpaceResult(out, len(embedded), len(set(embedded.stems)), before is not None, rejected)
    _print_end(result, coloured)
    return result


def _check_clusters(clusters: Path | None, num_clusters: int | None, image_size: int | None, protocol: str) -> None:
    """Raise `InputError` where something is asked for that a folder of clusters settles."""
    given = {
        f"num_clusters {num_clusters}": num_clusters is not None,
        f"image_size {image_size}": image_size is not None,
        f"protocol {protocol}": protocol != "native",
    }
    texts = [text for text, is_given in given.items() if is_given]
    if clusters is not None and texts:
        raise InputError(
            f"{' and '.join(texts)} and clusters {clusters} are given, but those clusters settle it; leave one out"
        )


def _place_of_masks(out: Path, masks: Path | None, encoder: ClusteredEncoder) -> Path | None:
    """Return the folder of masks that is given or will be made; None where a saliency head finds the foreground."""
    if masks is not None:
        return masks
    return None if encoder.opened.has_saliency else out / "proposals"


def _open_masks(
    images: ImageSet, masks: Path | None, place: Path | None
) -> tuple[tuple[ImageRef, ...], MaskFolder | None, tuple[Rejection, ...]]:
    """Return the images to embed with their masks, proposed where none are given, and the images without."""
    if place is None:
        return images.images, None, ()
    without: dict[str, str] = {}
    if masks is None:
        say(f"no masks are given; proposing them: {place}")
        generate_proposals(images, place, SaliencySettings())
        listed = read_json(place / "rejected.json", "the images that saliency rejected")
        without = {str(item["stem"]): str(item["reason"]) for item in listed}
    refs = tuple(ref for ref in images.images if ref.stem not in without)
    if not refs:
        stem, reason = next(iter(without.items()))
        raise InputError(f"none of {len(images)} images has a mask; the first: {stem}: {reason}")
    return refs, open_mask_folder(place, refs), tuple(Rejection(*item) for item in without.items())


def _print_end(result: EmbeddingSpaceResult, clusters: MaskClusters) -> None:
    for note in clusters.notes:
        say(note)
    for item in result.rejected:
        say(f"left out {item.stem}: {item.reason}")
    reused = ", embedded before" if result.is_reused else ""
    say(f"{result.num_masks} masks of {result.num_images} images{reused}: {result.out / 'index.html'}")
