"""Finds the masks of a run: those it proposed itself, or the folders of masks that were given to it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.errors import InputError
from densessl.report.photographs import Photographs, stored_map, stored_stems
from densessl.structures import MaskArray


@dataclass(frozen=True)
class RunMasks:
    """The masks of a run by stem; `problems` says which folders could not be opened again."""

    proposals: Path
    photographs: Photographs = field(repr=False)
    given: tuple[MaskFolder, ...] = ()
    problems: tuple[str, ...] = ()

    def stems(self) -> list[str]:
        """Return the sorted stems of the images that have a mask: the proposed ones, else the given ones."""
        return stored_stems(self.proposals) or sorted({stem for folder in self.given for stem in folder.files})

    def read(self, stem: str) -> MaskArray | None:
        """Return the mask of a stem, or `None` where it has none that can be read."""
        stored = stored_map(self.proposals, stem)
        if stored is not None:
            return stored > 0
        for folder in self.given:
            if stem in folder.files:
                try:
                    return folder.read(self.photographs.images[stem]).foreground
                except InputError:
                    return None
        return None


def open_run_masks(run: Path, given: Iterable[object], photographs: Photographs) -> RunMasks:
    """Open the masks of a run; `given` are the recorded paths of masks made elsewhere (others are passed over).

    A folder that cannot be opened any more becomes a sentence in `problems`.
    """
    folders: list[MaskFolder] = []
    problems: list[str] = []
    for path in dict.fromkeys(path for path in given if isinstance(path, str) and path):
        if not photographs.images:
            continue
        try:
            folders.append(open_mask_folder(Path(path), photographs.images.values()))
        except InputError as error:
            problems.append(f"Masks could not be found again: {error}.")
    return RunMasks(run / "proposals" / "masks", photographs, tuple(folders), tuple(problems))
