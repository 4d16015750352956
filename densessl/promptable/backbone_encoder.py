"""Any timm backbone as image encoder of a promptable model: its last feature map on the 1/16 grid, and a neck."""

import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.encoders import Encoder, build_encoder, build_undilated_encoder, check_encoder_name
from densessl.models.feature_levels import FeatureLevel, encode_levels, find_levels
from densessl.promptable.fine_features import FINE_STRIDES, pack_features
from densessl.promptable.neck import TopDownPath, build_neck

_STRIDE = 16


class BackboneEncoder(nn.Module):
    """Encode images (batch, 3, height, width), normalised, to (batch, channels, height / 16, width / 16).

    Sides of the images are multiples of 16. Features on another grid (patches of 8 or 14 pixels, networks of stride 32)
    are brought to this one by the mean over areas where they are finer, and bilinearly where they are coarser; for the
    latter images are padded with zeros to whole cells, at the bottom and right, and what lies there is cut off.

    With `fine_levels`, the backbone's maps at strides 8 and 4, these come along for the mask decoder, projected to a
    quarter and an eighth of `num_channels` and folded into the grid: the embedding has 4 num_channels channels
    (`densessl.promptable.fine_features`). With `neck_blocks`, so many blocks of convolutions work on the embedding, and
    the finer maps are joined to it from the top down (`densessl.promptable.neck`).
    """

    def __init__(
        self,
        encoder: Encoder,
        num_channels: int,
        fine_levels: tuple[FeatureLevel, ...] = (),
        neck_blocks: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = build_neck(encoder.num_channels, num_channels, neck_blocks)
        self.fine_levels = fine_levels
        channels = tuple((level.num_channels, num_channels * level.stride // 32) for level in fine_levels)
        self.top_down = TopDownPath(num_channels, channels) if fine_levels and neck_blocks else None
        if fine_levels and self.top_down is None:
            self.fine_necks = nn.ModuleList(nn.Conv2d(given, wanted, 1) for given, wanted in channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.join(self.features(images))

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the backbone alone makes of images: the map on the grid, then those of the fine levels."""
        grid = (images.shape[-2] // _STRIDE, images.shape[-1] // _STRIDE)
        images = self._in_whole_cells(images)
        if not self.fine_levels:
            return (self._on_grid(self.encoder(images), grid),)
        last, maps = encode_levels(self.encoder, images, self.fine_levels)
        by_place = dict(zip(sorted(level.place for level in self.fine_levels), maps, strict=True))
        return self._on_grid(last, grid), *(self._fine_map(by_place[one.place], one, grid) for one in self.fine_levels)

    def join(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the embedding that the necks make of the backbone's features."""
        embedding = self.neck(features[0])
        if not self.fine_levels:
            return embedding
        if self.top_down is not None:
            fine = self.top_down(embedding, features[1:])
        else:
            fine = [neck(one) for neck, one in zip(self.fine_necks, features[1:], strict=True)]
        return pack_features(embedding, *fine)

    def _on_grid(self, features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        if self.encoder.stride == _STRIDE:
            return features
        if self.encoder.stride < _STRIDE:
            if torch.compiler.is_exporting():  # pooling is translated to ONNX with the areas of the traced size
                return area_means(features, grid)
            return nn.functional.adaptive_avg_pool2d(features, grid)
        size = [side * self.encoder.stride // _STRIDE for side in features.shape[-2:]]
        return nn.functional.interpolate(features, size, mode="bilinear")[..., : grid[0], : grid[1]]

    def _in_whole_cells(self, images: torch.Tensor) -> torch.Tensor:
        if self.encoder.stride <= _STRIDE:
            return images
        height, width = images.shape[-2:]
        return nn.functional.pad(images, (0, -width % self.encoder.stride, 0, -height % self.encoder.stride))

    def _fine_map(self, features: torch.Tensor, level: FeatureLevel, grid: tuple[int, int]) -> torch.Tensor:
        if self.encoder.stride <= _STRIDE:
            return features
        scale = _STRIDE // level.stride
        return features[..., : scale * grid[0], : scale * grid[1]]


def area_means(features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return what `adaptive_avg_pool2d` does, as products with the shares of rows and columns, for any size.

    Cell i of n holds the mean of cells floor(i m / n) to ceil((i + 1) m / n) - 1 of the m there were.
    """
    rows, columns = (_shares(given, wanted, features) for given, wanted in zip(features.shape[-2:], grid, strict=True))
    return rows @ features @ columns.T


def _shares(num_given: int, num_wanted: int, like: torch.Tensor) -> torch.Tensor:
    """Return (num_wanted, num_given), each row the shares of what is given in one cell."""
    cell = torch.arange(num_wanted, device=like.device)[:, None] * num_given
    place = torch.arange(num_given, device=like.device) * num_wanted
    inside = (place + num_wanted > cell) & (place < cell + num_given)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


def build_backbone_encoder(
    name: str,
    num_channels: int,
    *,
    pretrained: bool = False,
    has_fine_features: bool = False,
    neck_blocks: int = 0,
) -> BackboneEncoder:
    """Build the encoder of a timm name, with random weights or with timm's published ones (a download).

    Convolutional networks are dilated to an output stride of 16; those that cannot be, and transformers of several
    stages, keep the stride of their last map, which is resampled.

    Raises:
        InputError: an unknown name, a network that gives no map for images of any size, or one without maps at strides
            8 and 4 where fine features are wanted.
    """
    check_encoder_name(name)
    try:
        encoder = build_encoder(name, output_stride=_STRIDE, pretrained=pretrained)
    except InputError:  # no output stride of 16
        encoder = build_undilated_encoder(name, pretrained=pretrained)
    fine_levels = find_levels(encoder, FINE_STRIDES, name) if has_fine_features else ()
    return BackboneEncoder(encoder, num_channels, fine_levels, neck_blocks)
