"""The command `saliency`: mask proposals for a folder of images or a split of a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from densessl.changed_settings import changed_settings
from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.patch_training import train_patches
from densessl.commands.saliency_gallery import write_gallery
from densessl.commands.self_training import self_train
from densessl.commands.shards import choose_shard, cores_per_process
from densessl.data.layouts import open_images
from densessl.errors import InputError
from densessl.files import remove_abandoned_writes
from densessl.saliency.estimators import NETWORK_METHODS, Method, Refinement
from densessl.saliency.feature_settings import DEEP_METHODS, ENCODER_METHODS
from densessl.saliency.generation import SaliencySummary, generate_proposals, refuse_before_training
from densessl.saliency.proposals import SaliencySettings
from densessl.training.patch_training import PatchTrainingSettings
from densessl.training.self_training import SelfTrainingSettings


@checked_arguments
def saliency(
    out: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    method: Method = "fused",
    refine: Refinement | None = None,
    threshold: float = 0.5,
    min_area: float = 0.01,
    max_area: float = 0.99,
    keep_soft: bool = False,
    encoder: str = "vit_small_patch16_224.dino",
    weights: Path | None = None,
    pretrained: bool = False,
    output_stride: Literal[8, 16, 32] = 16,
    feature_size_px: int = 480,
    network: Path | None = None,
    masks: Path | None = None,
    attention_layer: int = -1,
    attention_head: int | Literal["mean", "best"] = "best",
    attention_mass: float = 0.6,
    num_segments: int | Literal["auto"] | None = None,
    self_training: SelfTrainingSettings = SelfTrainingSettings(),
    patch_training: PatchTrainingSettings = PatchTrainingSettings(),
    seed: int = 0,
    num_workers: int | None = None,
    shard: str = "auto",
    gallery: bool = True,
) -> SaliencySummary:
    """Propose foreground masks for images: no label is read, nothing is fitted to labels.

    The methods tokencut, deep_spectral, lost, found_seeds and attention look through a pretrained encoder, whose
    weights may have seen labels, and self_trained through a network, which may have seen them through its teachers or
    through self_training.weights: saliency.json and the last line printed say what is known of that. The network of
    learned_patches sees none; all others load no weights.

    The constants of the default are published ones, follow from each other, or were compared on rendered scenes. Its
    list of cues was drawn up with labelled photographs at hand (docs/saliency.md says what was looked at).

    Writes masks/STEM.png (0 and 255), proposals.json (COCO layout, with the image ids of a --data in that layout),
    proposals_results.json (for COCO.loadRes), rejected.json, saliency.json and gallery/index.html below --out. A run
    that was stopped goes on where it ended when it is started again. An image that cannot be read, or on which the
    estimator fails, is rejected with the reason, and tried again by the next run.

    Args:
        out: folder to write; new, empty, or begun by this command with the same settings.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images).
        split: the split of --data to work on.
        method: the estimator. fused needs no weights; robust_background, barrier_distance, mb_plus, frequency_tuned,
            spectral_residual and centre are published or single ideas to compare it with; tokencut, deep_spectral,
            lost and found_seeds work on features of a pretrained encoder, attention on what the [CLS] token of a vision
            transformer looks at; learned_patches adds to fused what a small network learns from all images without
            labels, which patches look like background; self_trained is a network that learns from the maps of others;
            file takes masks that were made elsewhere (--masks), checks them and normalises them.
        refine: what is done to the soft map: colour_models (GrabCut seeded by it), guided_filter, bilateral_solver,
            dense_crf or none. By default none for method file, and colour_models for all others.
        threshold: soft values above it are foreground, in (0, 1).
        min_area: connected parts smaller than this fraction of the image are dropped, and images whose whole mask
            is smaller are rejected.
        max_area: images whose mask covers more than this fraction are rejected.
        keep_soft: also write the soft maps, soft/STEM.png.
        encoder: timm name of the encoder of the methods on features; by default DINO's ViT-S/16, as published.
        weights: file with the encoder's weights (torchvision, timm, MoCo, DINO, ...; told apart by their keys).
        pretrained: let timm download its published weights for the encoder's name instead.
        output_stride: image pixels per cell of a convolutional encoder's features.
        feature_size_px: long side that images are brought to for the encoder.
        network: file of the network of self_trained or learned_patches; without it one is trained on these images
            first, below OUT/self_training or OUT/patch_training, and kept there for use on other images (in one
            process, not in shards).
        masks: folder of the masks or soft maps of method file, one named like each image; 0/1, 0/255, palette, ids and
            soft maps are told apart. An image without one, or with one of another size, is rejected.
        attention_layer: of method attention: the layer, from 0, or from the end: -1 is the last.
        attention_head: of method attention: a head, from 0; mean of all; or best, the head that agrees best with the
            default masks (fused) of at most 64 of the images; attention_head.json says which that is.
        attention_mass: of method attention: the share of the head's attention that the mask keeps.
        num_segments: of method deep_spectral: list the segments of each image in proposals.json, so many with the
            background (4 is usual), or as many as the eigenvalues suggest (auto), in place of the parts of its mask.
        self_training: how the network of self_trained is trained.
        patch_training: how the network of learned_patches is trained.
        seed: of everything random in these trainings.
        num_workers: processes that share the work; 0 for none but this one. By default as many as there are cores,
            under torchrun or srun this process's share of them, but no more than one for every 64 images, and none
            below 128: starting one takes some seconds. Give a number where an image takes long, as with dense_crf or a
            large encoder.
        shard: the part of the images to do, such as 2/4 for the second of four; parts may run at the same time, on
            machines that share --out, and the last to end writes the lists. By default auto: all of them, or under
            torchrun or srun the part of this process.
        gallery: also write gallery/index.html, a page of thumbnails by which to judge the masks.

    Returns:
        How many images got a mask, how many were rejected, and the throughput.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    settings = SaliencySettings(
        method=method,
        refine=refine,
        threshold=threshold,
        min_area=min_area,
        max_area=max_area,
        keep_soft=keep_soft,
        encoder=encoder,
        weights=weights,
        pretrained=pretrained,
        output_stride=output_stride,
        feature_size_px=feature_size_px,
        network=network,
        masks=masks,
        attention_layer=attention_layer,
        attention_head=attention_head,
        attention_mass=attention_mass,
        num_segments=num_segments,
    )
    _refuse_unused_training(settings, self_training, patch_training)
    _refuse_unused_encoder(settings, self_training)
    part = choose_shard(shard)
    image_set = open_images(images, data, split, out)
    if part.count == 1:  # others may write there: containers with the same host name do not see each other's processes
        remove_abandoned_writes(out)
    if method in NETWORK_METHODS and network is None:
        folder = out / ("self_training" if method == "self_trained" else "patch_training")
        if part.count > 1:
            raise InputError(
                f"a network is trained in one process; train it first (saliency --method {method} in one process), "
                f"then make masks in parts with --network OUT/{folder.name}/network.safetensors"
            )
        refuse_before_training(out, settings)  # before the long training, not after it
        if method == "self_trained":
            trained = self_train(image_set, folder, settings, self_training, seed, num_workers, patch_training)
        else:
            trained = train_patches(image_set, folder, settings, patch_training, seed, num_workers)
        settings = replace(settings, network=trained)
    summary = generate_proposals(image_set, out, settings, num_workers, part, cores_per_process())
    print(summary)
    if gallery and summary.is_whole:
        is_idle = summary.num_reused == summary.num_images
        write_gallery(out, image_set, images_per_second=None if is_idle else summary.images_per_second)
    print(f"supervision: {summary.supervision}")
    return summary


def _refuse_unused_training(
    settings: SaliencySettings, self_training: SelfTrainingSettings, patch_training: PatchTrainingSettings
) -> None:
    """Raise `InputError` for what would only matter if a network were trained, where none is."""
    is_training_described = self_training != SelfTrainingSettings()
    are_patches_described = patch_training != PatchTrainingSettings()
    if settings.method != "self_trained" and is_training_described:
        raise InputError(
            f"saliency method {settings.method} trains no such network, but settings of its training are given "
            "(self_training); leave them out, or choose --method self_trained"
        )
    learners = {settings.method, *(self_training.teachers if settings.method == "self_trained" else ())}
    if are_patches_described and "learned_patches" not in learners:
        raise InputError(
            f"saliency method {settings.method} trains no such network, but settings of its training are given "
            "(patch_training); leave them out, or choose --method learned_patches (or make it one of "
            "--self_training.teachers)"
        )
    if settings.network is None:
        return
    given = {
        f"weights {settings.weights}": settings.weights is not None,
        "pretrained true": settings.pretrained,
        f"masks {settings.masks}": settings.masks is not None,
        "self_training": is_training_described,
        "patch_training": are_patches_described,
    }
    texts = [text for text, is_given in given.items() if is_given]
    if texts:
        raise InputError(
            f"network {settings.network} is trained already, but settings of its training are given "
            f"({', '.join(texts)}); leave them out, or leave network out to train another"
        )


def _refuse_unused_encoder(settings: SaliencySettings, self_training: SelfTrainingSettings) -> None:
    """Raise `InputError` for an encoder, or a part of its attention, that neither the method nor a teacher uses."""
    is_trained = settings.method == "self_trained" and settings.network is None
    methods = set(self_training.teachers) if is_trained else {settings.method}
    users = {
        "encoder": ENCODER_METHODS,
        "output_stride": DEEP_METHODS,
        "attention_layer": ("attention",),
        "attention_head": ("attention",),
        "attention_mass": ("attention",),
    }
    given = changed_settings(settings, SaliencySettings())
    for name, of_methods in users.items():
        if name in given and not methods & set(of_methods):
            raise InputError(
                f"{name} {given[name]} is given, but {', '.join(sorted(methods))} does not use it; leave it out, or "
                f"choose {' or '.join(of_methods)} (--method)"
            )
