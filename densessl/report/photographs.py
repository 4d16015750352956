"""Finds the photographs and labels of a run again, and says what can no longer be found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from densessl.data.images import read_image
from densessl.data.label_maps import read_label_map
from densessl.data.layouts import open_images
from densessl.errors import InputError
from densessl.structures import ImageArray, ImageRef, LabelMap, LabelReader


@dataclass(frozen=True)
class Photographs:
    """Image files and label readers by stem; `problems` says which sources could not be opened."""

    images: Mapping[str, ImageRef] = field(default_factory=dict)
    labels: Mapping[str, LabelReader] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def photo(self, stem: str) -> ImageArray | None:
        """Return the photograph of a stem, or `None` where it is gone or unreadable."""
        if stem not in self.images:
            return None
        try:
            return read_image(self.images[stem].path)
        except InputError:
            return None

    def label(self, stem: str) -> LabelMap | None:
        """Return the label map of a stem, or `None` where it has none that can be read."""
        if stem not in self.labels:
            return None
        try:
            return self.labels[stem](self.images[stem])
        except InputError:
            return None


def open_photographs(sources: Sequence[Mapping[str, Any]]) -> Photographs:
    """Open every recorded source of images (`{"images": folder, "data": root, "split": name}`).

    A source that cannot be opened any more becomes a sentence in `problems`.
    """
    images: dict[str, ImageRef] = {}
    labels: dict[str, LabelReader] = {}
    class_names: tuple[str, ...] = ()
    problems: list[str] = []
    opened: list[tuple[str | None, ...]] = []
    for source in sources:
        arguments = tuple(_text(source.get(key)) for key in ("images", "data", "split"))
        if arguments in opened or not any(arguments[:2]):
            continue
        opened.append(arguments)
        folder, data = (Path(value) if value else None for value in arguments[:2])
        try:
            image_set = open_images(images=folder, data=data, split=arguments[2] or "")
        except InputError as error:
            problems.append(f"Photographs could not be found again: {error}.")
            continue
        images |= {ref.stem: ref for ref in image_set.images}
        class_names = class_names or image_set.class_names
        if image_set.labels is not None:
            labels |= dict.fromkeys((ref.stem for ref in image_set.images), image_set.labels)
    return Photographs(images, labels, class_names, tuple(problems))


def stored_map(folder: Path, stem: str) -> LabelMap | None:
    """Read `<folder>/<stem>.png`, or return `None`; raises `InputError` for a stem that leaves the folder."""
    parts = PurePosixPath(stem)
    if parts.is_absolute() or ".." in parts.parts:
        raise InputError(f"stem {stem!r} leaves the folder {folder}; stems are paths below the image folder")
    path = folder / f"{stem}.png"
    return read_label_map(path) if path.is_file() else None


def stored_stems(folder: Path) -> list[str]:
    """Return the sorted stems of the PNG files below a folder; none where the folder is absent."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.png"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
