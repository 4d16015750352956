"""The settings of the MaskContrast objective."""

from dataclasses import dataclass
from typing import Literal

from densessl.errors import InputError


@dataclass(frozen=True)
class ObjectiveSettings:
    """The MaskContrast loss.

    Args:
        mode: reference (as in the published code: the batch's other masks are negatives too, and pixels are weighted
            by the rarity of their mask) or formula (the paper's equation: negatives from the memory bank alone, every
            pixel counts the same).
        temperature: divides the similarities (published 0.5).
        queue_length: prototypes in the memory bank, any number, 0 for none (published 128 or 256).
        momentum: of the key network (published 0.999).
        saliency_weight: weight of the class-balanced cross-entropy of the saliency head (published 1; it is not part
            of the paper's equation, 0 leaves it out).
        resolution: grid (the loss on the feature grid) or full (embeddings upsampled to the image size first, as
            published; 64 times the rows at output stride 8).
        pixels_per_mask: draw at most this many pixels of each mask as rows of the loss; 0 takes all.
        exclude_similar: share of the negatives, those most similar to a mask's own prototype, that do not count for
            that mask, because they are likely to show the same class (false negative elimination, Huynh et al. 2022,
            arXiv:2011.11765, section 3.2); 0 keeps all, as published.
        confidence_weighted: a pixel of the query view counts as |2p - 1| pixels in the contrastive loss, p being the
            soft map that its mask was cut from, and the key prototype is the mean with the same weights; where the
            network embeds whole masks, the mean features of a mask have them. The saliency term stays as it is. Wants
            soft maps: masks that are soft themselves, or `soft/` beside `masks/` (`saliency --keep_soft true`). Ours.
        negatives: with several processes, local (each computes the loss of its own part of the batch: the masks of
            its own images are the negatives and the means are over its own pixels, as published) or global (the loss,
            saliency term included, is that of the whole batch, as one process would compute it).
    """

    mode: Literal["reference", "formula"] = "reference"
    temperature: float = 0.5
    queue_length: int = 128
    momentum: float = 0.999
    saliency_weight: float = 1.0
    resolution: Literal["grid", "full"] = "grid"
    pixels_per_mask: int = 0
    exclude_similar: float = 0.0
    confidence_weighted: bool = False
    negatives: Literal["local", "global"] = "local"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"objective.temperature is {self.temperature}; it must be positive (published 0.5)")
        if self.queue_length < 0:
            raise InputError(f"objective.queue_length is {self.queue_length}; it must be 0 or more (published 128)")
        if self.mode == "formula" and self.queue_length == 0:
            raise InputError(
                "objective.queue_length is 0 in formula mode, whose only negatives come from the memory bank; "
                "give it a length (published 128) or use mode reference"
            )
        if not 0 <= self.momentum <= 1:
            raise InputError(f"objective.momentum is {self.momentum}; it must lie in [0, 1] (published 0.999)")
        if self.saliency_weight < 0:
            raise InputError(f"objective.saliency_weight is {self.saliency_weight}; it must be 0 or more (published 1)")
        if self.pixels_per_mask < 0:
            raise InputError(f"objective.pixels_per_mask is {self.pixels_per_mask}; it must be 0 (all) or more")
        if not 0 <= self.exclude_similar < 1:
            raise InputError(
                f"objective.exclude_similar is {self.exclude_similar}; it is a share in [0, 1), 0 to keep all negatives"
            )
