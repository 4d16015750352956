"""By which method `pretrain` learns, and the settings of the MaskContrast objective."""

from dataclasses import dataclass
from typing import Literal

from densessl.errors import InputError

Method = Literal["mask_contrast", "dino"]


@dataclass(frozen=True)
class ObjectiveSettings:
    """The method, and the MaskContrast loss; with another method all but `method` must stay at their defaults.

    Args:
        method: mask_contrast (pixels or masks are told apart, arXiv:2102.06191) or dino (self-distillation of a vision
            transformer, arXiv:2104.14294, whose settings are the group dino). `--objective dino` says the same.
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
        background: none, or negatives: the mean key embedding of what no mask covers in an image is one more negative
            for the rows of all images of the process (of all processes, with negatives global), which pushes foreground
            from background. It does not enter the memory bank; exclude_similar counts it among the negatives, and
            confidence_weighted weighs its pixels too. Foreground against the backgrounds of all images is the idea of
            C2AM, arXiv:2203.13505, which learns masks by it; as columns of this loss it is ours.
        confidence_weighted: a pixel of the query view counts as |2p - 1| pixels in the contrastive loss, p being the
            soft map that its mask was cut from, and the key prototype is the mean with the same weights; where the
            network embeds whole masks, the mean features of a mask have them. The saliency term stays as it is. Wants
            soft maps: masks that are soft themselves, or `soft/` beside `masks/` (`saliency --keep_soft true`). Ours.
        swav_weight: weight of a further loss, for which the mean of a mask in the query view predicts to which of
            model.num_prototypes learned prototypes the same mask belongs in the key view; Sinkhorn-Knopp parts the
            masks of all processes (of each part, with training.accumulate) equally among them (SwAV, arXiv:2006.09882,
            section 3.1, here on masks in place of images and with codes from the key network alone). Local crops do
            not take part. On the feature grid only; 0 leaves it out, as published.
        swav_temperature: divides the similarities of the predictions (SwAV 0.1).
        swav_use_bank: the prototypes in the memory bank join that partition and predict nothing, as the queue of SwAV
            does where batches are small; random first vectors do not.
        sinkhorn_epsilon: smoothness of the codes, the smaller the harder (SwAV 0.05).
        sinkhorn_iterations: of Sinkhorn-Knopp (SwAV 3).
        negatives: with several processes, local (each computes the loss of its own part of the batch: the masks of
            its own images are the negatives and the means are over its own pixels, as published) or global (the loss,
            saliency term included, is that of the whole batch, as one process would compute it).
    """

    method: Method = "mask_contrast"
    mode: Literal["reference", "formula"] = "reference"
    temperature: float = 0.5
    queue_length: int = 128
    momentum: float = 0.999
    saliency_weight: float = 1.0
    resolution: Literal["grid", "full"] = "grid"
    pixels_per_mask: int = 0
    exclude_similar: float = 0.0
    background: Literal["none", "negatives"] = "none"
    confidence_weighted: bool = False
    swav_weight: float = 0.0
    swav_temperature: float = 0.1
    swav_use_bank: bool = False
    sinkhorn_epsilon: float = 0.05
    sinkhorn_iterations: int = 3
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
        self._check_swav()

    def _check_swav(self) -> None:
        if self.swav_weight < 0:
            raise InputError(f"objective.swav_weight is {self.swav_weight}; it must be 0 (off) or more")
        for name, source in (("swav_temperature", "SwAV 0.1"), ("sinkhorn_epsilon", "SwAV 0.05")):
            if not getattr(self, name) > 0:
                raise InputError(f"objective.{name} is {getattr(self, name)}; it must be positive ({source})")
        if self.sinkhorn_iterations < 1:
            raise InputError(f"objective.sinkhorn_iterations is {self.sinkhorn_iterations}; it must be 1 or more")
        if self.swav_weight and self.resolution == "full":
            raise InputError(
                f"objective.swav_weight is {self.swav_weight}, whose means of masks are taken on the feature grid, but "
                "objective.resolution is full; use grid"
            )
        if self.swav_use_bank and not (self.swav_weight and self.queue_length):
            raise InputError(
                f"objective.swav_use_bank is true, but objective.swav_weight is {self.swav_weight} and "
                f"objective.queue_length {self.queue_length}; give both a value above 0, or leave it out"
            )
