"""Draw the README's picture from a run of the demo: photograph, mask, segmentation before and after, label.

python -m benchmarks.demo_picture --run runs/demo --out docs/images/demo.png
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.images import read_image
from densessl.data.label_maps import read_label_map, voc_palette
from densessl.files import read_json, write_bytes

TILE_PX = 128
GAP_PX = 6


def main() -> None:
    """Draw six images, one column each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-images", type=int, default=8)
    arguments = parser.parse_args()
    data = arguments.run / "data"
    stems = (data / "ImageSets/Segmentation/val.txt").read_text(encoding="utf-8").split()
    step = len(stems) // arguments.num_images
    columns = [draw_column(arguments.run, data, stem) for stem in stems[:: step or 1][: arguments.num_images]]
    gap = np.full((columns[0].shape[0], GAP_PX, 3), 255, dtype=np.uint8)
    sheet = np.hstack([part for column in columns for part in (column, gap)][:-1])
    write_bytes(arguments.out, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def draw_column(run: Path, data: Path, stem: str) -> NDArray[np.uint8]:
    """Stack the five pictures of one image."""
    mask = read_image(run / "proposals_val/masks" / f"{stem}.png")
    label = read_label_map(data / "SegmentationClass" / f"{stem}.png")
    maps = [matched(run / folder, stem) for folder in ("clusters_initial", "clusters")]
    tiles = [read_image(data / "JPEGImages" / f"{stem}.jpg"), mask, *(colour(m) for m in maps), colour(label)]
    return np.vstack([part for tile in tiles for part in (fit(tile), _gap())][:-1])


def matched(folder: Path, stem: str) -> NDArray[np.int64]:
    """Read a label map of clusters and replace each cluster by its class."""
    scores = read_json(folder / "scores.json", "scores")
    classes = np.array([0 if value is None else value for value in scores["assignment"]])
    return classes[read_label_map(folder / "label_maps" / f"{stem}.png")]


def colour(label_map: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Paint a label map in the VOC palette."""
    return voc_palette()[label_map]


def fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Centre an image on a white square tile."""
    height, width = image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (round(width * scale), round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    tile = np.full((TILE_PX, TILE_PX, 3), 255, dtype=np.uint8)
    top, left = (TILE_PX - size[1]) // 2, (TILE_PX - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def _gap() -> NDArray[np.uint8]:
    return np.full((GAP_PX, TILE_PX, 3), 255, dtype=np.uint8)


if __name__ == "__main__":
    main()
