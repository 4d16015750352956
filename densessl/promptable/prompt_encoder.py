"""Embeds prompts: points and box corners as tokens, mask prompts as a map (SAM, arXiv:2304.02643, appendix A)."""

import math

import torch
from torch import nn

from densessl.promptable.channel_norm import ChannelNorm
from densessl.promptable.prompts import BOTTOM_RIGHT, NOT_A_POINT, TOP_LEFT

_PIXEL_CENTRE = 0.5


def point_prompts(
    points: torch.Tensor | None, labels: torch.Tensor | None, boxes: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring points and boxes into one list of labelled points for each prompt, in the published order.

    Clicks come first, then a filling where there is no box, then the corners of the box.

    Args:
        points: float (num_prompts, num_points, 2), `(x, y)` in the model's frame.
        labels: int (num_prompts, num_points): 1 foreground, 0 background, -1 filling.
        boxes: float (num_prompts, 4), `(x0, y0, x1, y1)` in the model's frame.

    Returns:
        coordinates (num_prompts, n, 2) and labels (num_prompts, n), as `PromptEncoder` takes them.
    """
    coordinates, kinds = [], []
    if points is not None and labels is not None:
        coordinates.append(points)
        kinds.append(labels)
        if boxes is None:
            coordinates.append(points.new_zeros(points.shape[0], 1, 2))
            kinds.append(labels.new_full((labels.shape[0], 1), NOT_A_POINT))
    if boxes is not None:
        coordinates.append(boxes.reshape(-1, 2, 2))
        corners = torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]], device=boxes.device)
        kinds.append(corners.expand(boxes.shape[0], -1))
    if not coordinates:
        raise ValueError("neither points with labels nor boxes are given; give one of them")
    return torch.cat(coordinates, dim=1), torch.cat(kinds, dim=1)


class PromptEncoder(nn.Module):
    """Embed labelled points and mask prompts; attributes bear the names of the published weights.

    dim: channels of the embeddings. size_px: side of the square that positions are relative to. mask_channels: of the
    convolutions that embed masks. stride: pixels per cell of the image embedding.
    """

    def __init__(self, dim: int, size_px: int, mask_channels: int = 16, stride: int = 16) -> None:
        super().__init__()
        self.dim, self.size_px, self.stride = dim, size_px, stride
        self.pe_layer = FourierPositions(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, stride=2),
            ChannelNorm(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, stride=2),
            ChannelNorm(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def embed_points(self, coordinates: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the tokens (num_prompts, n, dim): the position's code plus what was learned for the kind of point.

        Args:
            coordinates: float (num_prompts, n, 2), `(x, y)` pixels in the model's frame.
            labels: int (num_prompts, n), as in `densessl.promptable.prompts`; the place of a filling does not matter.
        """
        positions = self.pe_layer((coordinates + _PIXEL_CENTRE) / self.size_px)
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        table = torch.cat([kind.weight for kind in kinds])  # type: ignore[misc]
        has_place = (labels != NOT_A_POINT)[..., None]
        return torch.where(has_place, positions, 0.0) + table[labels.long() + 1]

    def embed_masks(self, masks: torch.Tensor) -> torch.Tensor:
        """Return the maps (num_prompts, dim, h, w) of mask logits (num_prompts, 1, 4 h, 4 w)."""
        return self.mask_downscaling(masks)

    def embed_no_mask(self) -> torch.Tensor:
        """Return the map (1, dim, 1, 1) that stands for no mask prompt, in every cell."""
        return self.no_mask_embed.weight[:, :, None, None]

    def image_positions(self, height: int, width: int) -> torch.Tensor:
        """Return the codes (1, dim, height, width) of the centres of the image embedding's cells."""
        device, side = self.pe_layer.positional_encoding_gaussian_matrix.device, self.size_px / self.stride
        y = (torch.arange(height, device=device) + 0.5) / side
        x = (torch.arange(width, device=device) + 0.5) / side
        centres = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
        return self.pe_layer(centres).permute(2, 0, 1)[None]


class FourierPositions(nn.Module):
    """Random Fourier features of positions (Tancik et al., arXiv:2006.10739, equation 5): sines, then cosines, of
    2 pi (2 p - 1) G with G drawn once from a normal distribution.
    """

    positional_encoding_gaussian_matrix: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Encode positions (..., 2), `(x, y)` as shares of the square's side, to (..., dim), in float32."""
        centred = 2 * positions.float() - 1
        along_x, along_y = self.positional_encoding_gaussian_matrix.float()
        # two products and a sum, no matrix product, which mixed precision would compute in bfloat16
        phase = 2 * math.pi * (centred[..., :1] * along_x + centred[..., 1:] * along_y)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)
