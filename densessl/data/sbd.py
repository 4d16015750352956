"""The Semantic Boundaries Dataset (SBD): label maps for VOC images, stored as MATLAB files."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from densessl.errors import InputError, MissingInputError
from densessl.structures import LabelMap

SBD_ADDRESS = "http://home.bharathh.info/pubs/codes/SBD/download.html"

_FOLDERS = ("SBD", "SBD/dataset", "SBD/benchmark_RELEASE/dataset", "benchmark_RELEASE/dataset", "sbd")
_STRUCTURE = "a struct GTcls whose field Segmentation is a (height, width) array of class indices"


@dataclass(frozen=True)
class SbdFolder:
    """An unpacked SBD: the folder that holds `cls/`, `train.txt` and `val.txt`."""

    root: Path

    def label_path(self, stem: str) -> Path:
        """Return where the label map of an image is stored, whether or not it is there."""
        return self.root / "cls" / f"{stem}.mat"

    def lists(self) -> tuple[Path, Path]:
        """Return the paths of SBD's own train and val lists, whether or not they are there."""
        return self.root / "train.txt", self.root / "val.txt"


def find_sbd(bases: Iterable[Path]) -> SbdFolder | None:
    """Return the first SBD found in or below the given folders (as `SBD/` or
    `benchmark_RELEASE/dataset/`)."""
    for base in bases:
        for folder in _FOLDERS:
            if (base / folder / "cls").is_dir():
                return SbdFolder(base / folder)
    return None


def read_sbd_label_map(path: Path) -> LabelMap:
    """Read the class map of one SBD file `cls/<image>.mat`, int64 (height, width).

    The file is parsed as data; nothing in it is executed. Raises `MissingInputError` where there is no file
    and `InputError` where it is broken or of another structure.
    """
    if not path.is_file():
        raise MissingInputError(f"no label file {path}; expected an SBD file with {_STRUCTURE}")
    try:
        content = loadmat(str(path), variable_names=["GTcls"])
        values = np.asarray(content["GTcls"]["Segmentation"][0, 0])
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        NotImplementedError,
        MemoryError,
        struct.error,
        zlib.error,
        MatReadError,
    ) as error:
        raise InputError(
            f"label file {path} cannot be read ({error or type(error).__name__}); expected {_STRUCTURE}: "
            f"get it again from {SBD_ADDRESS}"
        ) from error
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "ui":
        raise InputError(
            f"label file {path} holds {values.dtype} of shape {values.shape} as GTcls.Segmentation; "
            f"expected {_STRUCTURE}"
        )
    return values.astype(np.int64)
