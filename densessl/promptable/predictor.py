"""Masks from prompts on an image: `Predictor(model).set_image(image).predict(points=..., labels=...)`."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.models.precision import choose_precision, on_device
from densessl.promptable.fitting_masks import fitting_masks, keep_fitting
from densessl.promptable.framing import Frame, frame_image
from densessl.promptable.mask_decoder import DecodedMasks, MaskOutputs
from densessl.promptable.mask_refinement import Refinement, check_refinement, refine_masks
from densessl.promptable.memory_plan import prompts_at_a_time
from densessl.promptable.mirroring import average_masks, mirror_image, mirror_prompts
from densessl.promptable.predicted_masks import (
    PredictedMasks,
    Selection,
    check_selection,
    join_masks,
    measure_masks,
    select_masks,
)
from densessl.promptable.prompt_tensors import prompt_batch
from densessl.promptable.promptable_model import PromptableModel, PromptBatch
from densessl.promptable.promptable_weights import load_promptable_model
from densessl.promptable.prompts import Prompts, check_image, check_prompts, part_of_prompts
from densessl.structures import ImageArray

_MAX_CACHED_IMAGES = 8  # 4 MiB each at the published size, with the mirror image 8


@dataclass(frozen=True)
class ImageEmbedding:
    """An image as the decoder sees it: features (1, channels, h, w), codes of their positions, and the frame.

    mirrored: features of the mirror image, for a predictor that looks at it too.
    """

    features: torch.Tensor
    positions: torch.Tensor
    frame: Frame
    mirrored: torch.Tensor | None = None


class Predictor:
    """Keeps the embedding of an image, so that each further prompt costs only the decoder.

    Embeddings of the last images are kept by content (SHA-256 of shape and pixels). A model whose weights change
    afterwards needs a new predictor, or `forget_images`.
    """

    def __init__(
        self,
        model: PromptableModel,
        device: torch.device | str | None = None,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        max_cached_images: int = _MAX_CACHED_IMAGES,
        mirrored: bool = False,
    ) -> None:
        """Move the model to a device and into evaluation mode.

        Args:
            model: of `build_promptable_model` or `load_promptable_model`.
            device: by default a GPU where there is one.
            precision: fp32, bf16 (mixed), or auto: bf16 where the device multiplies it in hardware.
            max_cached_images: embeddings to keep, at least 1.
            mirrored: see the image in the mirror too, and average the masks of prompts: twice the time, a little
                better masks of small models.
        """
        if max_cached_images < 1:
            raise InputError(f"max_cached_images is {max_cached_images}; it must be at least 1, the image that is set")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = on_device(model, self.device).eval()
        self.precision = choose_precision(precision, self.device)
        self._mirrored = mirrored
        self._max_cached_images = max_cached_images
        self._embeddings: OrderedDict[str, ImageEmbedding] = OrderedDict()
        self._current: ImageEmbedding | None = None
        self._image: ImageArray | None = None

    @classmethod
    def from_weights(
        cls,
        path: str | Path,
        device: torch.device | str | None = None,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        mirrored: bool = False,
    ) -> "Predictor":
        """Load the model of a file: densessl's, SAM's, MobileSAM's or transformers' (`load_promptable_model`)."""
        return cls(load_promptable_model(Path(path))[0], device, precision, mirrored=mirrored)

    @property
    def mirrored(self) -> bool:
        """Whether masks are averaged with those of the mirror image."""
        return self._mirrored

    @property
    def embedding(self) -> ImageEmbedding:
        """The embedding of the image that was set last.

        Raises:
            InputError: none was set.
        """
        if self._current is None:
            raise InputError("no image is set; call set_image(image) first")
        return self._current

    def set_image(self, image: ImageArray | str | Path) -> "Predictor":
        """Encode an image, uint8 RGB (height, width, 3) or the path of a file, unless its embedding is kept.

        Returns:
            This predictor.

        Raises:
            InputError: an image that cannot be used.
        """
        if isinstance(image, str | Path):
            pixels = read_image(Path(image))
            self._current, self._image = self.embed(pixels), pixels
        else:
            self._current, self._image = self.embed(image), image.copy()  # the caller may fill it again
        return self

    def embed(self, image: ImageArray) -> ImageEmbedding:
        """Return the embedding of an image, uint8 RGB (height, width, 3), kept or computed; it is not set.

        Raises:
            InputError: no such image.
        """
        check_image(image)
        key = _content(image)
        if key not in self._embeddings:
            self._embeddings[key] = self.encode(image)
        self._embeddings.move_to_end(key)
        while len(self._embeddings) > self._max_cached_images:
            self._embeddings.popitem(last=False)
        return self._embeddings[key]

    def forget_images(self) -> None:
        """Drop all embeddings, also that of the image which is set."""
        self._embeddings.clear()
        self._current = self._image = None

    def predict(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        multimask: bool = True,
        select: Selection | None = None,
        refine: Refinement = "none",
    ) -> PredictedMasks:
        """Return the masks of one or several prompts on the image that was set.

        Several prompts are one batch, decoded a few at a time (`prompts_at_a_time`); points, boxes and masks of the
        same prompt belong together.

        Args:
            points: `(x, y)` pixels, (num_points, 2) of one prompt or (num_prompts, num_points, 2).
            labels: 1 on the object, 0 off it; shaped as the points. Without them, all points are on the object.
            boxes: `(x0, y0, x1, y1)` pixels, (4,) or (num_prompts, 4).
            mask: `low_resolution` logits of an earlier prediction, (4 h, 4 w) or (num_prompts, 4 h, 4 w).
            multimask: three masks for each prompt, best for a single click, or one, for prompts that are clear.
            select: keep one of the three: best, whole, part or subpart (see `select_masks`), or fitting, the one in
                whose middle the click lies, or that the box is close around, at the threshold where it fits
                (see `fitting_masks`).
            refine: none, or grabcut: masks are cut anew along colours and edges (`refine_masks`), for small models.

        Raises:
            InputError: no image is set, no prompt, one that does not fit the image, or a selection or refinement that
                is not there.
        """
        embedding = self.embedding
        check_refinement(refine)
        if select is not None:
            check_selection(select, self.model.settings.num_multimask)
        if select in ("whole", "part", "subpart") and not multimask:
            raise InputError(f"select {select!r} chooses among three masks, but multimask is false; set multimask true")
        prompts = check_prompts(points, labels, boxes, mask, embedding.frame)
        size = prompts_at_a_time(self.device)
        parts = [part_of_prompts(prompts, start, start + size) for start in range(0, len(prompts), size)]
        return join_masks([self._predict_part(part, embedding, multimask, select, refine) for part in parts])

    def encode(self, image: ImageArray) -> ImageEmbedding:
        """Compute the embedding of an image, uint8 RGB (height, width, 3), without keeping it."""
        pixels, frame = frame_image(image, self.model.settings)
        with torch.inference_mode(), self.autocast():
            framed = pixels[None].to(self.device)
            features = self.model.encode(framed).float()
            positions = self.model.image_positions(*frame.grid)
            mirrored = self.model.encode(mirror_image(framed, frame)).float() if self._mirrored else None
        return ImageEmbedding(features, positions, frame, mirrored)

    def autocast(self) -> torch.autocast:
        """Return the context in which the model's parts compute, for those who call them themselves."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _predict_part(
        self,
        prompts: Prompts,
        embedding: ImageEmbedding,
        multimask: bool,
        select: Selection | None,
        refine: Refinement,
    ) -> PredictedMasks:
        if refine == "none" or self._image is None:
            return self._decode_part(prompts, embedding, multimask, select, 1)
        num_fitting = self.model.settings.num_multimask if multimask else 1
        found = self._decode_part(prompts, embedding, multimask, select, num_fitting)
        refined = refine_masks(self._image, found, prompts, embedding.frame)
        return keep_fitting(refined, prompts) if select == "fitting" and num_fitting > 1 else refined

    @torch.inference_mode()
    def _decode_part(
        self,
        prompts: Prompts,
        embedding: ImageEmbedding,
        multimask: bool,
        select: Selection | None,
        num_fitting: int,
    ) -> PredictedMasks:
        """Return the masks of prompts that are wanted; of fitting ones `num_fitting` of each."""
        outputs: MaskOutputs = "multiple" if multimask else "single"
        batch = prompt_batch(prompts, embedding.frame, self.device)
        logits, predicted_iou = self._decode(batch, embedding, outputs)
        numbers = range(1, 1 + logits.shape[1]) if multimask else range(1)
        if select == "fitting":
            given = batch.points, batch.labels
            return fitting_masks(logits, predicted_iou, numbers, embedding.frame, *given, num_fitting)
        num_kept = 1 if select == "best" else len(numbers)
        found = measure_masks(logits, predicted_iou, numbers, embedding.frame, num_kept)
        return found if select is None or select == "best" else select_masks(found, select)

    def _decode(self, batch: PromptBatch, embedding: ImageEmbedding, outputs: MaskOutputs) -> DecodedMasks:
        with self.autocast():
            found = self.model.decode(embedding.features, batch, outputs, embedding.positions)
            if embedding.mirrored is None:
                return found
            turned = mirror_prompts(batch, embedding.frame)
            mirrored = self.model.decode(embedding.mirrored, turned, outputs, embedding.positions)
        return average_masks(found, mirrored, embedding.frame)


def _content(image: ImageArray) -> str:
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
