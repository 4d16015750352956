"""Draw what the heads of a DINO run look at, before training (above) and after it (below).

    python -m benchmarks.dino_picture --run RUN --image FILE --out docs/images/dino_attention.png

From the left: the photograph; attention of [CLS] in the last layer, mean of the heads; the patches that hold 60 % of
it; those of every head, each in its colour; the first three principal components of the patches. The picture in the
documentation is of Chelsea the cat (`skimage.data.chelsea()`, by Stéfan van der Walt, CC0), whom no run has seen.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.dino_attention import WEIGHTS, image_size_of
from densessl.attention.mass import PAPER_MASS
from densessl.commands.attention_arrays import store_image
from densessl.commands.attention_looks import fit_colours, look_at
from densessl.files import write_bytes
from densessl.models.dense_encoder import TimmSource
from densessl.models.vision_encoder import open_vision_encoder
from densessl.report.attention_sheet import panels_of
from densessl.structures import ImageRef
from densessl.training.run_folder import read_config

PANELS = ("photo", "mean", "mask", "heads", "components")
GAP_PX = 6


def main() -> None:
    """Draw both rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [draw_row(arguments.run, weights, arguments.image) for weights in WEIGHTS]
    gap = np.full((GAP_PX, rows[0].shape[1], 3), 255, dtype=np.uint8)
    picture = np.vstack([rows[0], gap, rows[1]])
    write_bytes(arguments.out, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def draw_row(run: Path, weights: str, image: Path) -> NDArray[np.uint8]:
    """Return the panels of one of a run's weights side by side."""
    config = read_config(run)
    source = TimmSource(config["model"]["encoder"], weights=run / f"{weights}.safetensors", normalisation="imagenet")
    encoder = open_vision_encoder(source, torch.device("cpu"))
    ref = ImageRef(image.stem, image)
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "arrays.npz"
        store_image(arrays, ref, encoder, -1, image_size_of(config), ())
        look = look_at(ref, arrays, fit_colours([arrays], remove_background=False), PAPER_MASS)
    pictures = {panel.name: panel.picture for panel in panels_of(look)}
    gap = np.full((look.photo.shape[0], GAP_PX, 3), 255, dtype=np.uint8)
    return np.hstack([part for name in PANELS for part in (pictures[name], gap)][:-1])


if __name__ == "__main__":
    main()
