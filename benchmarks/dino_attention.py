"""Do the heads of a DINO run see objects? Foreground IoU of masks that hold 60 % of the last layer's attention.

    python -m benchmarks.dino_attention --run RUN --data ROOT --split val

Two rows, of the initial and of the final weights, go to results/dino_attention.jsonl. Each has the IoU, averaged over
images, of the mask of one head and of the mask of the mean over heads. The head is chosen without labels: it is the one
that agrees best with masks that `saliency` proposes, with its defaults, for `--num-chosen-on` images of `--chosen-on`.
Rows also hold two oracles, which choose by the labels that they are scored with and are no results: the best head for
all images, and the best head for each image, as in figure 4 of DINO (arXiv:2104.14294).

Foreground is every label but 0 and `IGNORE`; pixels labelled `IGNORE` are left out. With `--classes 8,10,12` only these
are foreground, and pixels of other classes are left out too. Images without foreground are left out. Images are seen
with a long side of 480 pixels for a run on crops of 224, as DINO's figures are, and in that ratio to the crops of
others; `--image-size` says otherwise.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rows import Row, append_row
from densessl.attention.maps import attention_maps
from densessl.attention.mass import PAPER_MASS, head_ious
from densessl.commands.attention_arrays import covered_size, pixels_of, scaled_size
from densessl.commands.attention_looks import mass_masks
from densessl.commands.classes import parse_classes
from densessl.data.images import read_image
from densessl.data.layouts import open_data_set
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.evaluation.saliency_truth import only_classes
from densessl.models.dense_encoder import TimmSource
from densessl.models.vision_encoder import VisionEncoder, open_vision_encoder
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import IGNORE, ImageRef, ImageSet
from densessl.training.run_folder import read_config, read_run_record, run_method

FIGURE_SIZE_PX, FIGURE_CROP_PX = 480, 224
"""Long side of the images in DINO's figures, and side of the crops that it was trained on."""
WEIGHTS = ("initial", "final")


def main() -> None:
    """Measure both weights of a run."""
    arguments = _parse()
    if run_method(arguments.run) != "dino":
        raise SystemExit(f"{arguments.run} was not pretrained by dino; give the --out of `pretrain --objective dino`")
    scored = _scored(arguments)
    chosen_on = _sample(open_data_set(arguments.data, arguments.chosen_on), arguments.num_chosen_on, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        masks_folder = arguments.masks or Path(folder) / "masks"
        if arguments.masks is None:
            generate_proposals(chosen_on, masks_folder, SaliencySettings(), arguments.num_workers)
        masks = open_mask_folder(masks_folder, chosen_on.images)
        for weights in WEIGHTS:
            row = measure(arguments, weights, scored, chosen_on, masks)
            if not arguments.dry:
                append_row(arguments.results, row)
            print(json.dumps(row), flush=True)


def measure(
    arguments: argparse.Namespace, weights: str, scored: ImageSet, chosen_on: ImageSet, masks: MaskFolder
) -> Row:
    """Return the row of one of a run's weights."""
    config = read_config(arguments.run)
    crop_px = int(config["dino"]["crops"]["global_size_px"])
    size = arguments.image_size or image_size_of(config)
    source = TimmSource(
        config["model"]["encoder"], weights=arguments.run / f"{weights}.safetensors", normalisation="imagenet"
    )
    network = open_vision_encoder(source, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    agreement = np.stack(list(proposal_ious(network, chosen_on.images, masks, size, arguments.mass)))
    ious = np.stack(list(label_ious(network, scored, size, arguments.mass)))  # (images, heads + 1)
    heads = ious[:, :-1]
    head = int(agreement[:, :-1].mean(0).argmax())
    oracle = int(heads.mean(0).argmax())
    trained = read_run_record(arguments.run)
    return {
        "benchmark": "dino_attention",
        "run": arguments.run.resolve().name,
        "encoder": source.name,
        "weights": weights,
        "crop_px": crop_px,
        "epochs": config["training"]["epochs"],
        "training_seed": config["seed"],
        "training_cpu_minutes": trained.get("cpu_minutes"),
        "training_hardware": trained["hardware"],
        "data": arguments.data.name,
        "split": arguments.split,
        "classes": arguments.classes or "all",
        "num_images": len(ious),
        "image_size_px": size,
        "mass": arguments.mass,
        "head": head,
        "head_iou": _mean(heads[:, head]),
        "head_standard_error": _error(heads[:, head]),
        "mean_of_heads_iou": _mean(ious[:, -1]),
        "mean_of_heads_standard_error": _error(ious[:, -1]),
        "head_chosen_by": f"masks of `saliency`, no labels: {len(agreement)} images of {arguments.chosen_on}",
        "head_agreement": _mean(agreement[:, head]),
        "oracle_head": oracle,
        "oracle_head_iou": _mean(heads[:, oracle]),
        "oracle_head_per_image_iou": _mean(heads.max(1)),
        "oracle_chosen_by": f"the labels of {arguments.split} that score it",
        "whole_image_iou": _mean(np.array(list(_whole_image_ious(scored)))),
    }


def image_size_of(config: dict[str, Any]) -> int:
    """Return the long side in pixels at which a run's network sees images, as far above its crops as in the figures."""
    return round(FIGURE_SIZE_PX / FIGURE_CROP_PX * int(config["dino"]["crops"]["global_size_px"]))


def proposal_ious(
    network: VisionEncoder, images: tuple[ImageRef, ...], masks: MaskFolder, size: int, mass: float
) -> Iterator[NDArray[np.float64]]:
    """Yield the IoU (heads + 1,) of each image's masks of attention with its proposed mask, where it has one."""
    missing = set(masks.missing)
    for ref in images:
        if ref.stem not in missing:
            kept = _kept(network, ref, size, mass)
            foreground = masks.read(ref, (kept.shape[1], kept.shape[2])).foreground
            yield head_ious(torch.from_numpy(kept), torch.from_numpy(foreground)).numpy()


def label_ious(network: VisionEncoder, images: ImageSet, size: int, mass: float) -> Iterator[NDArray[np.float64]]:
    """Yield the IoU (heads + 1,) of each image's masks of attention with its labelled foreground."""
    for ref, foreground, valid in _foregrounds(images):
        kept = torch.from_numpy(_kept(network, ref, size, mass) & valid)
        yield head_ious(kept, torch.from_numpy(foreground)).numpy()


def _foregrounds(images: ImageSet) -> Iterator[tuple[ImageRef, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield the images that have foreground, with it and with the pixels that count."""
    if images.labels is None:
        raise SystemExit(f"split {images.name} has no labels to score by")
    for ref in images.images:
        labels = images.labels(ref)
        valid = labels != IGNORE
        foreground = valid & (labels != 0)
        if foreground.any():
            yield ref, foreground, valid


def _whole_image_ious(images: ImageSet) -> Iterator[float]:
    """Yield what a mask of everything would have, below which attention says nothing."""
    for _, foreground, valid in _foregrounds(images):
        yield float(foreground.sum() / valid.sum())


def _kept(network: VisionEncoder, ref: ImageRef, size: int, mass: float) -> NDArray[np.bool_]:
    """Return the masks of attention of the last layer at the image's own size, the last one of the mean over heads."""
    if network.transformer is None:
        raise SystemExit(f"{network.description} has no attention: {network.no_attention}")
    photo = read_image(ref.path)
    native = (photo.shape[0], photo.shape[1])
    seen = scaled_size(native, size)
    maps = attention_maps(network.transformer, pixels_of(photo, seen, network)).maps[0, 0].cpu().numpy()
    return mass_masks(maps, covered_size(maps.shape[1:], network.stride, seen, native), native, mass)


def _scored(arguments: argparse.Namespace) -> ImageSet:
    images = open_data_set(arguments.data, arguments.split)
    classes = parse_classes(arguments.classes)
    images = images if classes is None else only_classes(images, classes, IGNORE)
    return images if arguments.num_images is None else _sample(images, arguments.num_images, arguments.seed)


def _sample(images: ImageSet, num: int, seed: int) -> ImageSet:
    chosen = random.Random(seed).sample(images.images, min(num, len(images)))
    return replace(images, images=tuple(sorted(chosen, key=lambda ref: ref.stem)))


def _mean(values: NDArray[np.float64]) -> float:
    return round(float(values.mean()), 4)


def _error(values: NDArray[np.float64]) -> float:
    return round(float(values.std(ddof=1) / len(values) ** 0.5), 4) if len(values) > 1 else 0.0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the --out of `pretrain --objective dino`")
    parser.add_argument("--data", type=Path, required=True, help="a data set in VOC or COCO layout")
    parser.add_argument("--split", default="val", help="whose labels score")
    parser.add_argument("--classes", default=None)
    parser.add_argument("--num-images", type=int, default=None, help="score a random sample alone")
    parser.add_argument("--chosen-on", default="train_aug", help="the split whose proposed masks choose the head")
    parser.add_argument("--num-chosen-on", type=int, default=200, help="how many of its images, drawn at random")
    parser.add_argument("--masks", type=Path, default=None, help="its masks, if `saliency` has proposed them already")
    parser.add_argument("--image-size", type=int, default=None, help="long side in pixels")
    parser.add_argument("--mass", type=float, default=PAPER_MASS)
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that propose masks")
    parser.add_argument("--results", type=Path, default=Path("results/dino_attention.jsonl"))
    parser.add_argument("--dry", action="store_true", help="print the rows alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
