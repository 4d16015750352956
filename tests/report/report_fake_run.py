"""Builds run folders that look like real ones, from drawn images or from a tree of photographs."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densessl.data.label_maps import read_label_map, write_label_map
from densessl.files import write_json, write_text
from densessl.structures import IGNORE

CLASSES = (0, 8, 10, 12, 13, 15, 17)
CLASS_NAMES = ("background", "cat", "cow", "dog", "horse", "person", "sheep")


def draw_tree(root: Path, num_images: int = 12, seed: int = 0) -> tuple[str, ...]:
    """Draw a data set in the VOC layout: textured ellipses of six classes on textured backgrounds."""
    generator = np.random.default_rng(seed)
    stems = tuple(f"drawn_{index:03d}" for index in range(num_images))
    (root / "JPEGImages").mkdir(parents=True)
    for index, stem in enumerate(stems):
        height, width = (90, 120) if index % 3 else (120, 90)
        class_id = CLASSES[1 + index % 6]
        blob = np.zeros((height, width), np.uint8)
        centre = (int(width * generator.uniform(0.35, 0.65)), int(height * generator.uniform(0.35, 0.65)))
        axes = (int(width * generator.uniform(0.15, 0.3)), int(height * generator.uniform(0.15, 0.3)))
        cv2.ellipse(blob, centre, axes, float(generator.uniform(0, 90)), 0, 360, 1, -1)
        noise = cv2.GaussianBlur(generator.uniform(0, 255, (height, width, 3)).astype(np.float32), (0, 0), 3)
        object_colour = generator.uniform(60, 255, 3) * (0.5 + class_id / 40)
        photo = np.where(blob[..., None] == 1, 0.5 * noise + 0.5 * object_colour, 0.6 * noise + 40)
        Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(root / "JPEGImages" / f"{stem}.jpg")
        border = cv2.dilate(blob, np.ones((3, 3), np.uint8)) - blob
        label = np.where(blob == 1, class_id, np.where(border == 1, IGNORE, 0))
        write_label_map(root / "SegmentationClass" / f"{stem}.png", label)
    write_text(root / "ImageSets" / "Segmentation" / "val.txt", "\n".join(stems) + "\n")
    return stems


def build_run(run: Path, root: Path, stems: Sequence[str], seed: int = 0) -> Path:
    """Write every file of a run over the images of a VOC tree; masks and clusters are labels made worse."""
    generator = np.random.default_rng(seed)
    labels = {stem: _scored_label(root, stem) for stem in stems}
    masks = {stem: _worse_mask(label, generator) for stem, label in labels.items()}
    _write_records(run, root)
    _write_metrics(run / "metrics.jsonl", generator)
    for name, noise in (("clusters_initial", 0.6), ("clusters", 0.25)):
        _write_clusters(run / name, root, labels, masks, noise, generator)
    for stem, mask in masks.items():
        path = run / "proposals" / "masks" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    rejected = [
        {"stem": stem, "reason": f"mask covers 0.{index} % of the image, under 1 %"}
        for index, stem in enumerate(stems[:4])
    ]
    rejected += [{"stem": stem, "reason": "mask covers the whole image"} for stem in stems[4:6]]
    write_json(run / "proposals" / "rejected.json", rejected)
    settings = {"method": "fused", "threshold": 0.5, "min_area": 0.01}
    counts = {"images": len(stems), "masks": len(masks), "rejected": len(rejected)}
    write_json(run / "proposals" / "saliency.json", {"settings": settings, "counts": counts})
    return run


def _scored_label(root: Path, stem: str) -> NDArray[np.int64]:
    label = read_label_map(root / "SegmentationClass" / f"{stem}.png")
    return np.where(np.isin(label, CLASSES), label, IGNORE)


def _worse_mask(label: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
    foreground = ((label > 0) & (label != IGNORE)).astype(np.float32)
    noise = generator.normal(0, 1, label.shape).astype(np.float32)
    rough = cv2.GaussianBlur(foreground, (0, 0), 4) + 1.6 * cv2.GaussianBlur(noise, (0, 0), 9)
    return rough > 0.5


def _majority(label: NDArray[np.int64], mask: NDArray[np.bool_]) -> int:
    counts = [int(((label == class_id) & mask).sum()) for class_id in CLASSES[1:]]
    return int(np.argmax(counts))


def _write_clusters(
    folder: Path,
    root: Path,
    labels: dict[str, NDArray[np.int64]],
    masks: dict[str, NDArray[np.bool_]],
    noise: float,
    generator: np.random.Generator,
) -> None:
    num_clusters = len(CLASSES) - 1
    members: list[list[dict[str, object]]] = [[] for _ in range(num_clusters)]
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    for stem, label in labels.items():
        cluster = _majority(label, masks[stem])
        if generator.random() < noise:
            cluster = int(generator.integers(num_clusters))
        prediction = np.where(masks[stem], cluster + 1, 0)
        write_label_map(folder / "label_maps" / f"{stem}.png", prediction)
        members[cluster].append({"stem": stem, "distance": round(float(generator.gamma(4, 0.06)), 4)})
        counted = label != IGNORE
        rows = np.searchsorted(CLASSES, label[counted])
        np.add.at(confusion, (rows, prediction[counted]), 1)
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    iou = [None if u == 0 else float(r / u) for r, u in zip(right, union, strict=True)]
    miou = float(np.mean([value for value in iou if value is not None]))
    images = {"data": str(root), "images": None, "split": "val"}
    protocol = {
        "name": "maskcontrast",
        "pca_dim": 32,
        "is_whitened": True,
        "algorithm": "minibatch",
        "image_size_px": [512, 512],
    }
    clusters = [
        {"id": index, "size": len(group), "members": sorted(group, key=lambda member: member["distance"])}
        for index, group in enumerate(members)
    ]
    label_free = {"stability": round(0.9 - noise / 2, 3), "silhouette": round(0.4 - noise / 2, 3)}
    write_json(
        folder / "clusters.json",
        {
            "num_clusters": num_clusters,
            "seeds": [0, 1, 2, 3, 4],
            "protocol": protocol,
            "foreground": "masks",
            "images": images,
            "clusters": clusters,
            "label_free": label_free,
        },
    )
    per_seed = [miou + delta for delta in (-0.012, 0.004, 0.0, 0.015, -0.007)]
    write_json(
        folder / "scores.json",
        {"miou": miou, "miou_std": float(np.std(per_seed)), "miou_per_seed": per_seed, "iou": iou,
         "classes": list(CLASSES), "class_names": list(CLASS_NAMES), "assignment": list(CLASSES),
         "protocol": "maskcontrast",
         "foreground": "masks", "match": "hungarian", "confusion": confusion.tolist()},
    )  # fmt: skip


def _write_records(run: Path, root: Path) -> None:
    provenance = {
        "backbone": "none (MoCo v2 weights, trained without labels)",
        "masks": "none (spectral saliency)",
        "selection": "none in this run (last epoch); docs/decisions.md says which labels the shipped recipes saw",
        "matching": "labels of the scored split (Hungarian on IoU)",
        "notes": ["The score is that of the best names for the clusters."],
    }
    record = {
        "command": f"densessl run --data {root} --out runs/animals --config configs/animals.yaml",
        "started": "2025-06-03T14:12:09",
        "seconds": 5025.4,
        "commit": "4f12808",
        "versions": {"densessl": "0.1.0", "python": "3.12.3", "torch": "2.8.0", "timm": "1.0.19"},
        "hardware": {"device": "NVIDIA A100 40GB", "cores": 16},
        "seed": 0,
        "provenance": provenance,
    }
    write_json(run / "run.json", record)
    config = "model:\n  encoder: resnet18\n  dim: 32\ntraining:\n  epochs: 20\n  batch_size: 64\n"
    write_text(run / "config.yaml", config)


def _write_metrics(path: Path, generator: np.random.Generator) -> None:
    lines = []
    for step in range(0, 3000, 6):
        t = step / 3000
        contrastive = 1.4 + 3.2 * np.exp(-4 * t) + generator.normal(0, 0.08)
        saliency = 0.25 + 0.4 * np.exp(-6 * t) + generator.normal(0, 0.015)
        line = {
            "step": step, "epoch": step // 150, "loss": contrastive + saliency,
            "contrastive_loss": contrastive,
            "saliency_loss": saliency, "learning_rate": 0.004 * (1 - t) ** 0.9,
            "images_per_second": 310 + generator.normal(0, 12),
            "positive_similarity": 0.9 - 0.5 * np.exp(-5 * t) + generator.normal(0, 0.01),
            "negative_similarity": 0.05 + 0.6 * np.exp(-4 * t) + generator.normal(0, 0.01),
            "embedding_std": 0.17 - 0.1 * np.exp(-8 * t), "effective_rank": 21 - 14 * np.exp(-3 * t),
        }  # fmt: skip
        lines.append(json.dumps(line))
    write_text(path, "\n".join(lines) + "\n")
