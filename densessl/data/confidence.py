"""How sure a mask is of each pixel: |2p - 1| of the soft map p that it was cut from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from densessl.data.images import find_by_stem
from densessl.data.mask_encodings import load_mask_file
from densessl.data.masks import MaskFolder, nearest_pixels
from densessl.errors import InputError, MissingInputError
from densessl.structures import ImageRef

_SOFT = ("soft 8-bit", "soft 16-bit", "soft float", "alpha channel")


@dataclass(frozen=True)
class MaskConfidence:
    """The soft maps of a list of images.

    Args:
        masks: their masks; where `files` is None these are the soft maps themselves.
        files: the soft map of each stem, where they lie beside the masks.
    """

    masks: MaskFolder
    files: Mapping[str, Path] | None = field(repr=False)

    def read(
        self, ref: ImageRef, size: tuple[int, int], reduced_to: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """Return 255 |2p - 1| of an image's soft map p, uint8 (height, width): 0 at p = 0.5, 255 at p = 0 and 1.

        Args:
            ref: the image.
            size: (height, width) that the map must have.
            reduced_to: (height, width) to which the map is then reduced, nearest samples.

        Raises:
            InputError: no soft map of the image, a broken one, or one of another size.
        """
        soft = self._soft(ref, size)
        confidence = np.rint(np.abs(2 * soft - 1) * 255).astype(np.uint8)
        return confidence if reduced_to is None else nearest_pixels(confidence, reduced_to)

    def file(self, stem: str) -> Path | None:
        """Return the file of a soft map, where that is not the mask's own."""
        return None if self.files is None else self.files.get(stem)

    def _soft(self, ref: ImageRef, size: tuple[int, int]) -> NDArray[np.float32]:
        if self.files is None:
            return self.masks.read(ref, size).soft
        path = self.files.get(ref.stem)
        if path is None:
            raise MissingInputError(f"image {ref.stem} has no soft map beside the masks of {self.masks.folder}")
        values = load_mask_file(path).values
        if values.shape != tuple(size):
            raise InputError(
                f"soft map {path} is {values.shape[0]} x {values.shape[1]}, its image {size[0]} x {size[1]} (height x "
                "width); make the map at the image's size"
            )
        highest = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(values.dtype, 1)
        return (values / np.float32(highest)).astype(np.float32)


def open_confidence(masks: MaskFolder, images: Iterable[ImageRef]) -> MaskConfidence:
    """Find the soft maps that go with the masks of these images: the masks themselves, or `soft/` beside `masks/`.

    Raises:
        InputError: the masks are hard and there are no soft maps beside them, or some images have none.
    """
    if masks.encoding in _SOFT:
        return MaskConfidence(masks, None)
    stems = [ref.stem for ref in images]
    above = masks.folder.parent if masks.folder.name == "masks" else masks.folder
    files = find_by_stem(above / "soft", stems)
    missing = [stem for stem in stems if stem not in files]
    if missing:
        raise InputError(
            f"objective.confidence_weighted is true, but the masks in {masks.folder} are read as {masks.code}, which "
            f"does not say how sure they are, and {above / 'soft'} lacks the soft maps of {len(missing)} of "
            f"{len(stems)} images (the first: {missing[0]}); make the masks with `saliency --keep_soft true`, give a "
            "folder of soft maps as --masks, or set objective.confidence_weighted to false"
        )
    return MaskConfidence(masks, files)
