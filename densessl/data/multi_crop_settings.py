"""How the crops of an image are drawn for self-distillation: the settings."""

from dataclasses import dataclass

from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError


@dataclass(frozen=True)
class MultiCropSettings:
    """How the global and local crops of an image are drawn; the defaults are DINO's (arXiv:2104.14294).

    Every crop is resized bicubically, mirrored and recoloured. The first global crop is always blurred, the second
    rarely, but sometimes solarised; a local crop is blurred half of the time, as published.

    Args:
        global_size_px: height and width of the two global crops, which teacher and student see.
        global_min_scale: smallest share of the image's area that a global crop may take.
        global_max_scale: largest share of the image's area that a global crop may take.
        num_local: further small crops, which the student alone sees; 0 for none.
        local_size_px: height and width of a local crop.
        local_min_scale: smallest share of the image's area that a local crop may take.
        local_max_scale: largest share of the image's area that a local crop may take.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter: brightness and contrast change by up to a factor of 0.4, saturation of
            0.2, hue by 0.1.
        grayscale: probability of dropping colour.
        first_blur: probability that the first global crop is blurred, by a Gaussian of 0.1 to 2 pixels.
        second_blur: the same of the second global crop.
        local_blur: the same of a local crop.
        solarise: probability that the second global crop is solarised: values of 128 and more are inverted.
        reduce_images: read images that are larger than crops need at reduced size, as `views.reduce_images` does.
    """

    global_size_px: int = 224
    global_min_scale: float = 0.4
    global_max_scale: float = 1.0
    num_local: int = 8
    local_size_px: int = 96
    local_min_scale: float = 0.05
    local_max_scale: float = 0.4
    flip: float = 0.5
    jitter: float = 0.8
    grayscale: float = 0.2
    first_blur: float = 1.0
    second_blur: float = 0.1
    local_blur: float = 0.5
    solarise: float = 0.2
    reduce_images: bool = False

    def __post_init__(self) -> None:
        for kind in ("global", "local"):
            size, low, high = (getattr(self, f"{kind}_{name}") for name in ("size_px", "min_scale", "max_scale"))
            if size < 16:
                raise InputError(f"dino.crops.{kind}_size_px is {size}; a crop must have at least 16 pixels")
            if not 0 < low <= high <= 1:
                raise InputError(
                    f"dino.crops.{kind}_min_scale {low} and {kind}_max_scale {high} must satisfy 0 < min <= max <= 1"
                )
        if self.num_local < 0:
            raise InputError(f"dino.crops.num_local is {self.num_local}; it must be 0 (no local crops) or more")
        for name in ("flip", "jitter", "grayscale", "first_blur", "second_blur", "local_blur", "solarise"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"dino.crops.{name} is {getattr(self, name)}; a probability lies in [0, 1]")

    @property
    def global_view(self) -> ViewSettings:
        """How a global crop is cut and mirrored."""
        return ViewSettings(self.global_size_px, self.global_min_scale, self.global_max_scale, self.flip)

    @property
    def local_view(self) -> ViewSettings:
        """How a local crop is cut and mirrored."""
        return ViewSettings(self.local_size_px, self.local_min_scale, self.local_max_scale, self.flip)

    @property
    def finest_scale(self) -> float:
        """The smallest share of an image that a global crop would have to show to be as fine as any crop."""
        if not self.num_local:
            return self.global_min_scale
        return min(self.global_min_scale, self.local_min_scale * (self.global_size_px / self.local_size_px) ** 2)
