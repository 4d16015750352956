"""How the views of an image are drawn: the settings."""

from dataclasses import dataclass, replace

from densessl.errors import InputError


@dataclass(frozen=True)
class ViewSettings:
    """How the two views of an image are drawn; the defaults are the published MaskContrast recipe.

    Args:
        size_px: height and width of a view.
        min_scale: smallest share of the image's area that a crop may take.
        max_scale: largest share of the image's area that a crop may take.
        flip: probability of a horizontal flip.
        symmetries: also turn views by a random multiple of 90 degrees, each view by its own; for images without an
            up direction (aerial, microscopy, rendered), not for photographs of scenes.
        jitter: probability of colour jitter.
        jitter_strength: brightness, contrast and saturation change by up to this factor, hue by a quarter of it.
        grayscale: probability of dropping colour.
        min_foreground: smallest share of a view that may be foreground; both views must satisfy it.
        max_foreground: largest share of a view that may be foreground.
        max_tries: how often a pair is drawn again before another image takes its place.
        split_instances: treat the connected regions of a mask as separate masks, each with its own prototype.
        neighbours: draw the key view from one of so many nearest neighbours of the image, found once by the features
            of the initial weights, instead of from the image itself (neighbours as in SCAN, arXiv:2005.12320,
            section 2.1, here as positives); 0 draws both views from the same image, as published. The masks of an
            image then count as one; not together with split_instances.
        neighbours_size_px: height and width of the images by whose features neighbours are found.
        num_local: also draw so many small crops of the image of the query view, which the query network alone sees;
            their foreground pixels are pulled to the same prototypes as those of the query view (multi-crop, local to
            global: SwAV, arXiv:2006.09882, section 3.2; DINO, arXiv:2104.14294, section 3.1), and the contrastive loss
            is the mean over the query view and the local ones, each with its own mean; 0 for none, as published. A
            local crop is drawn again, at most max_tries times, until min_foreground of it is foreground; there is no
            upper limit. If none is found the last one stays: its foreground takes part, and without any it gives no
            row. The query and the key view are the same with and without local crops. These go through the network in
            a pass of their own, all together: batch norm that is trained normalises them by their own statistics, and
            its running ones move a second time in each step, towards those of small crops.
        local_size_px: height and width of a local crop, at most size_px.
        local_min_scale: smallest share of the image's area that a local crop may take.
        local_max_scale: largest share of the image's area that a local crop may take.
        num_stored: with an encoder that is frozen as a whole: draw so many views of each image once, encode them, and
            train the heads on their stored features, which takes a fraction of the time; 0 draws every view anew, as
            published. The masks of an image then count as one.
        reduce_images: read images that are larger than views need at reduced size, so that the smallest crop still has
            size_px pixels (`densessl.data.view_sources.source_size`). For photographs of 2000 px and more this takes a
            fraction of the time. Views differ: crops are resized from averaged pixels and not from single ones.
    """

    size_px: int = 224
    min_scale: float = 0.2
    max_scale: float = 1.0
    flip: float = 0.5
    symmetries: bool = False
    jitter: float = 0.8
    jitter_strength: float = 0.4
    grayscale: float = 0.2
    min_foreground: float = 0.01
    max_foreground: float = 0.99
    max_tries: int = 10
    split_instances: bool = False
    neighbours: int = 0
    neighbours_size_px: int = 320
    num_local: int = 0
    local_size_px: int = 96
    local_min_scale: float = 0.05
    local_max_scale: float = 0.2
    num_stored: int = 0
    reduce_images: bool = False

    def __post_init__(self) -> None:
        if self.size_px < 16:
            raise InputError(f"views.size_px is {self.size_px}; a view must be at least 16 pixels (published 224)")
        if not 0 < self.min_scale <= self.max_scale <= 1:
            raise InputError(
                f"views.min_scale {self.min_scale} and max_scale {self.max_scale} must satisfy 0 < min <= max <= 1"
            )
        if not 0 <= self.min_foreground < self.max_foreground <= 1:
            raise InputError(
                f"views.min_foreground {self.min_foreground} and max_foreground {self.max_foreground} must satisfy "
                "0 <= min < max <= 1"
            )
        for name in ("flip", "jitter", "grayscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"views.{name} is {getattr(self, name)}; a probability lies in [0, 1]")
        if not 0 <= self.jitter_strength <= 1:
            raise InputError(f"views.jitter_strength is {self.jitter_strength}; it must lie in [0, 1] (published 0.4)")
        if self.max_tries < 1:
            raise InputError(f"views.max_tries is {self.max_tries}; it must be at least 1")
        if self.neighbours < 0:
            raise InputError(f"views.neighbours is {self.neighbours}; it must be 0 (the image itself) or more")
        if self.neighbours_size_px < 16:
            raise InputError(f"views.neighbours_size_px is {self.neighbours_size_px}; it must be at least 16 pixels")
        if self.num_local < 0:
            raise InputError(f"views.num_local is {self.num_local}; it must be 0 (no local crops) or more")
        if not 0 < self.local_min_scale <= self.local_max_scale <= 1:
            raise InputError(
                f"views.local_min_scale {self.local_min_scale} and local_max_scale {self.local_max_scale} must satisfy "
                "0 < min <= max <= 1"
            )
        if self.num_local and not 16 <= self.local_size_px <= self.size_px:
            raise InputError(
                f"views.local_size_px is {self.local_size_px}; a local crop must have at least 16 pixels and at most "
                f"those of a view, views.size_px {self.size_px}"
            )
        if self.num_stored < 0 or (self.num_stored == 1 and not self.neighbours):
            raise InputError(
                f"views.num_stored is {self.num_stored}; give 0 (draw every view anew), 2 or more, or 1 with "
                "views.neighbours, so that the two views of a pair differ"
            )
        if self.num_stored and (self.split_instances or self.num_local):
            other = "split_instances true" if self.split_instances else f"num_local {self.num_local}"
            raise InputError(
                f"views.num_stored is {self.num_stored} and views.{other}; stored views hold one mask and no local "
                "crops, so use one or the other"
            )
        if self.neighbours and self.split_instances:
            raise InputError(
                f"views.neighbours is {self.neighbours} and views.split_instances true; neighbours are those of whole "
                "masks, so use one or the other"
            )


def local_settings(settings: ViewSettings) -> ViewSettings:
    """Return the settings of a view that is drawn as local crops are."""
    if not settings.num_local:
        return settings
    return replace(
        settings,
        size_px=settings.local_size_px,
        min_scale=settings.local_min_scale,
        max_scale=settings.local_max_scale,
        num_local=0,
    )


def finest_scale(settings: ViewSettings) -> float:
    """Return the smallest share of an image that a view of `size_px` pixels would have to show to be as fine as any.

    That is min_scale, or less where local crops show the image larger than such a view does.
    """
    if not settings.num_local:
        return settings.min_scale
    return min(settings.min_scale, settings.local_min_scale * (settings.size_px / settings.local_size_px) ** 2)
