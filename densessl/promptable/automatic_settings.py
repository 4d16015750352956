"""How automatic masks are proposed and chosen; every setting here changes the result."""

from dataclasses import dataclass

from densessl.errors import InputError, check_at_least


@dataclass(frozen=True)
class AutomaticSettings:
    """How masks of everything in an image are proposed and chosen; the defaults are those published for SAM's ViT-H.

    Args:
        points_per_side: points of the grid along each side of the image; each asks for three masks.
        predicted_iou_threshold: masks whose predicted IoU is no higher are dropped; 0 keeps all.
        stability_threshold: masks whose stability is lower are dropped, in [0, 1].
        stability_offset: stability is the IoU of the masks at logits above +offset and above -offset.
        box_nms_threshold: of two masks of one crop whose boxes have a higher IoU, the one of the lower predicted IoU is
            dropped.
        crop_layers: layers of crops that are worked on beside the whole image; layer i has 4^i crops.
        crop_nms_threshold: the same between crops, where the mask of the smaller crop stays.
        crop_overlap: crops of the first layer overlap by this fraction of the image's short side, of each further layer
            by half as much.
        crop_points_divisor: layer i has points_per_side / divisor^i points along each side of a crop.
        min_region_px: holes and islands of masks with fewer pixels are filled and removed; 0 leaves masks as they are.
    """

    points_per_side: int = 32
    predicted_iou_threshold: float = 0.88
    stability_threshold: float = 0.95
    stability_offset: float = 1.0
    box_nms_threshold: float = 0.7
    crop_layers: int = 0
    crop_nms_threshold: float = 0.7
    crop_overlap: float = 512 / 1500
    crop_points_divisor: int = 1
    min_region_px: int = 0

    def __post_init__(self) -> None:
        lowest = {"points_per_side": 1, "crop_layers": 0, "crop_points_divisor": 1, "min_region_px": 0}
        check_at_least("automatic", self, lowest)
        for name in ("stability_threshold", "box_nms_threshold", "crop_nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"automatic.{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if not 0 <= self.crop_overlap < 1:
            raise InputError(
                f"automatic.crop_overlap is {self.crop_overlap}; it must lie in [0, 1), published 512 / 1500"
            )
        if not self.stability_offset >= 0:
            raise InputError(f"automatic.stability_offset is {self.stability_offset}; it must not be negative")
        if not self.predicted_iou_threshold >= 0:
            raise InputError(
                f"automatic.predicted_iou_threshold is {self.predicted_iou_threshold}; it must not be negative, and 0 "
                "keeps all masks"
            )
        if self.points_of_layer(self.crop_layers) < 1:
            raise InputError(
                f"automatic.points_per_side {self.points_per_side} leaves no point for crops of layer "
                f"{self.crop_layers} with automatic.crop_points_divisor {self.crop_points_divisor}; lower the divisor"
            )

    def points_of_layer(self, layer: int) -> int:
        """Return the points along each side of a crop of a layer; layer 0 is the whole image."""
        return int(self.points_per_side / self.crop_points_divisor**layer)
