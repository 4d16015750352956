"""Turns image embedding and embedded prompts into masks and their predicted quality (arXiv:2304.02643, figure 14)."""

from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from densessl.promptable.channel_norm import ChannelNorm
from densessl.promptable.two_way_transformer import TwoWayTransformer

MaskOutputs = Literal["single", "multiple", "all"]
"""Which masks are wanted: the single one, the three (or more) of an ambiguous prompt, or first the one, then the
three."""


class DecodedMasks(NamedTuple):
    """The masks of each prompt; a named tuple because distributed wrappers and exporters rebuild the outputs.

    logits: (num_prompts, num_masks, 4 h, 4 w), positive inside, on four times the grid of the image embedding.
    predicted_iou: (num_prompts, num_masks), what the network thinks the IoU of each with the object is; not bounded.
    """

    logits: torch.Tensor
    predicted_iou: torch.Tensor


class MaskDecoder(nn.Module):
    """Two-way transformer, upscaling, a hypernetwork for each mask, IoU head; named as the published weights are.

    dim: channels of the embeddings. num_multimask: masks of an ambiguous prompt. transformer: of width `dim`.
    iou_depth, iou_hidden_dim: of the perceptron that predicts quality.
    """

    def __init__(
        self,
        dim: int,
        transformer: TwoWayTransformer,
        num_multimask: int = 3,
        iou_depth: int = 3,
        iou_hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        self.num_masks = num_multimask + 1
        self.transformer = transformer
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, stride=2),
            ChannelNorm(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(dim, dim, dim // 8, depth=3) for _ in range(self.num_masks)
        )
        self.iou_prediction_head = Perceptron(dim, iou_hidden_dim, self.num_masks, iou_depth)

    def forward(
        self,
        image_embedding: torch.Tensor,
        image_positions: torch.Tensor,
        sparse: torch.Tensor,
        dense: torch.Tensor,
        outputs: MaskOutputs = "all",
    ) -> DecodedMasks:
        """Decode the masks of a batch of prompts.

        Args:
            image_embedding: (num_prompts, dim, h, w), one for each prompt, or (1, dim, h, w) shared by all of them.
            image_positions: (1, dim, h, w), the codes of its cells.
            sparse: (num_prompts, n, dim), tokens of points and boxes; n may be 0.
            dense: (num_prompts or 1, dim, h or 1, w or 1), the map of the mask prompt, or of there being none.
            outputs: which masks.
        """
        height, width = image_embedding.shape[-2:]
        tokens, cells = self.attend(image_embedding, image_positions, sparse, dense)
        wanted = self._wanted(outputs)
        logits = self.masks(tokens, cells.unflatten(1, (height, width)), outputs)
        return DecodedMasks(logits, self.predict_iou(tokens)[:, wanted.start : wanted.stop])

    def attend(
        self, image_embedding: torch.Tensor, image_positions: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Let prompts and image attend to each other; the first half of `forward`, whose arguments it takes.

        Returns:
            tokens (num_prompts, n, dim) for `predict_iou` and `masks`, and cells (num_prompts, h * w, dim) for `masks`.
        """
        learned = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([learned.expand(sparse.shape[0], -1, -1), sparse], dim=1)  # (num_prompts, tokens, dim)
        cells = (image_embedding + dense).flatten(2).transpose(1, 2)  # (num_prompts or 1, height * width, dim)
        return self.transformer(cells, image_positions.flatten(2).transpose(1, 2), tokens)

    def predict_iou(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the predicted IoU (num_prompts, num_masks) of all masks, from the tokens alone."""
        return self.iou_prediction_head(tokens[:, 0])

    def masks(self, tokens: torch.Tensor, cells: torch.Tensor, outputs: MaskOutputs = "all") -> torch.Tensor:
        """Return the logits (num_prompts, num_masks, 4 h, 4 w) from tokens and cells (num_prompts, h, w, dim)."""
        filters = [self.output_hypernetworks_mlps[index](tokens[:, 1 + index]) for index in self._wanted(outputs)]
        num_prompts, height, width, _ = cells.shape
        maps = self._upscale(cells.flatten(0, 2)).unflatten(0, (num_prompts, height * width * 16))
        logits = torch.stack(filters, dim=1) @ maps.transpose(1, 2)  # (num_prompts, masks, cells * 16)
        halved = logits.reshape(num_prompts, len(filters), height, width, 2, 2, 2, 2)  # ..., y, x, finer y, finer x
        return halved.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(num_prompts, len(filters), 4 * height, 4 * width)

    def _upscale(self, cells: torch.Tensor) -> torch.Tensor:
        """Bring cells (n, dim) to (n * 16, dim / 8), the 2 x 2 parts of the 2 x 2 parts of each, one after the other.

        The windows of the transposed convolutions do not overlap, so they are products with each cell on its own, and
        channels can stay last, where norm and product want them.
        """
        layers: Any = self.output_upscaling
        first, norm, activation, second, _ = layers
        halves = activation(norm.of_cells(_split(first, cells)))
        return activation(_split(second, halves))

    def _wanted(self, outputs: MaskOutputs) -> range:
        match outputs:
            case "single":
                return range(1)
            case "multiple":
                return range(1, self.num_masks)
            case "all":
                return range(self.num_masks)


def _split(convolution: Any, cells: torch.Tensor) -> torch.Tensor:
    """Apply a transposed convolution of side and stride 2 to cells (n, channels): (n * 4, out channels), row by row."""
    weight = convolution.weight.permute(2, 3, 1, 0)  # (2, 2, out channels, channels)
    out_channels = weight.shape[2]
    parts = nn.functional.linear(cells, weight.reshape(4 * out_channels, -1), convolution.bias.repeat(4))
    return parts.reshape(cells.shape[0] * 4, out_channels)


class Perceptron(nn.Module):
    """`depth` linear layers with rectified units between them."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, depth: int) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(dims[index], dims[index + 1]) for index in range(depth))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            vectors = layer(vectors).relu()
        return self.layers[-1](vectors)
