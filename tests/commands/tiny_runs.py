"""Small drawn images, settings that train in a second, and a way to call the command line inside the tests."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from densessl.command_line import main

TINY = (
    *("--model.encoder", "resnet10t", "--model.output_stride", "16", "--model.separable_decoder", "true"),
    *("--model.decoder_channels", "16", "--views.size_px", "32", "--objective.queue_length", "8"),
    *("--training.epochs", "1", "--training.batch_size", "4", "--training.num_workers", "0"),
    *("--training.precision", "fp32", "--training.log_every", "1"),
)
"""Flags of `pretrain` and `run` for a network and a schedule that take about a second."""


@dataclass(frozen=True)
class Outcome:
    """What a command line did: exit status, standard output, standard error."""

    status: int | str | None
    out: str
    err: str


@dataclass(frozen=True)
class DrawnFolder:
    """A folder of drawn photographs with their masks."""

    root: Path
    images: Path
    masks: Path

    def flags(self) -> tuple[str, ...]:
        """Return `--images` and `--masks` of this folder."""
        return "--images", str(self.images), "--masks", str(self.masks)


def command(*words: object) -> Outcome:
    """Call `densessl <words>` in this process; anything but a clean exit propagates as the traceback that it is."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as exit_status:
            return Outcome(exit_status.code, out.getvalue(), err.getvalue())
    raise RuntimeError("the command line returned without an exit status")


def draw_folder(root: Path, num_images: int = 8) -> DrawnFolder:
    """Draw noisy images, 48x64 and 64x48 by turns, each with a bright rectangle, and masks (0/255) of those."""
    folder = DrawnFolder(root, root / "images", root / "masks")
    generator = np.random.default_rng(0)
    for part in (folder.images, folder.masks):
        part.mkdir(parents=True)
    for index in range(num_images):
        mask = np.zeros((48, 64) if index % 2 == 0 else (64, 48), np.uint8)
        mask[12:36, 8:40] = 255
        image = generator.integers(0, 60, (*mask.shape, 3)).astype(np.uint8)
        image[mask > 0] += np.array([150, 20 * index % 256, 90], np.uint8)
        cv2.imwrite(str(folder.images / f"{index}.jpg"), image)
        cv2.imwrite(str(folder.masks / f"{index}.png"), mask)
    return folder


def write_mask(folder: DrawnFolder, stem: str, value: int, size: tuple[int, int] | None = None) -> None:
    """Replace a mask by one of a single value, at its own or another (height, width)."""
    path = folder.masks / f"{stem}.png"
    shape = size or cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def truncate(path: Path) -> None:
    """Cut the second half of a file off."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
