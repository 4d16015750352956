"""A miniature of PASCAL VOC 2012 as published: lists, palette labels with void borders, SBD's MATLAB files."""

from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from densessl.data.label_maps import write_label_map

TRAIN = tuple(f"2007_{number:06d}" for number in range(6))
VAL = tuple(f"2008_{number:06d}" for number in range(10))
SBD_ONLY = ("2009_000000", "2009_000001", "2009_000002")
CAT, PERSON, SHEEP = 8, 15, 17
_COLOURS = {CAT: (30, 160, 60), PERSON: (200, 60, 40), SHEEP: (90, 90, 220)}


def write_voc_tree(root: Path) -> Path:
    """Write VOCdevkit/VOC2012 and benchmark_RELEASE below `root`, and `masks/` of the objects; returns `root`.

    Images are 48x64 or 64x48, each with one object: cats and persons by turns, the last of each list a sheep.
    """
    tree, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    lists = tree / "ImageSets" / "Segmentation"
    for folder in (lists, tree / "JPEGImages", tree / "SegmentationClass", sbd / "cls", root / "masks"):
        folder.mkdir(parents=True)
    for name, stems in (("train", TRAIN), ("val", VAL), ("trainval", TRAIN + VAL)):
        (lists / f"{name}.txt").write_text("\n".join(stems) + "\n")
    (sbd / "train.txt").write_text("\n".join((*SBD_ONLY[:2], TRAIN[0], VAL[0])))  # SBD's lists overlap VOC's
    (sbd / "val.txt").write_text(SBD_ONLY[2])
    generator = np.random.default_rng(0)
    for stems in (TRAIN, VAL, SBD_ONLY):
        for index, stem in enumerate(stems):
            label = SHEEP if index == len(stems) - 1 else (CAT, PERSON)[index % 2]
            labels = _labels(label, generator, is_tall=index % 3 == 0)
            _write_image(tree / "JPEGImages" / f"{stem}.jpg", labels, label, generator)
            cv2.imwrite(str(root / "masks" / f"{stem}.png"), np.where(labels > 0, 255, 0).astype(np.uint8))
            if stem in SBD_ONLY:
                inside = np.where(labels == 255, 0, labels).astype(np.uint8)
                savemat(sbd / "cls" / f"{stem}.mat", {"GTcls": {"Segmentation": inside}}, do_compression=True)
            else:
                write_label_map(tree / "SegmentationClass" / f"{stem}.png", labels)
    return root


def _labels(label: int, generator: np.random.Generator, *, is_tall: bool) -> np.ndarray:
    labels = np.zeros((64, 48) if is_tall else (48, 64), dtype=np.uint8)
    top, left = generator.integers(4, 14, 2)
    labels[top : top + 28, left : left + 26] = 255
    labels[top + 2 : top + 26, left + 2 : left + 24] = label
    return labels


def _write_image(path: Path, labels: np.ndarray, label: int, generator: np.random.Generator) -> None:
    image = generator.integers(90, 130, (*labels.shape, 3))
    image[labels > 0] = np.array(_COLOURS[label]) + generator.integers(-20, 20, (int((labels > 0).sum()), 3))
    cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8))
