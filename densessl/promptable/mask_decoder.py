"""Turns image embedding and embedded prompts into masks and their predicted quality (arXiv:2304.02643, figure 14)."""

from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from densessl.promptable.channel_norm import ChannelNorm
from densessl.promptable.fine_features import FineCells, unpack_features
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
    iou_depth, iou_hidden_dim: of the perceptron that predicts quality. has_fine_features: embeddings come with finer
    maps (`densessl.promptable.fine_features`), which are added where the masks are enlarged, as SAM 2 does
    (arXiv:2408.00714, appendix C).
    """

    def __init__(
        self,
        dim: int,
        transformer: TwoWayTransformer,
        num_multimask: int = 3,
        iou_depth: int = 3,
        iou_hidden_dim: int = 256,
        *,
        has_fine_features: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.has_fine_features = dim, has_fine_features
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
            image_embedding: (num_prompts, dim, h, w), one for each prompt, or (1, dim, h, w) shared by all of them;
                4 dim channels where it comes with fine features.
            image_positions: (1, dim, h, w), the codes of its cells.
            sparse: (num_prompts, n, dim), tokens of points and boxes; n may be 0.
            dense: (num_prompts or 1, dim, h or 1, w or 1), the map of the mask prompt, or of there being none.
            outputs: which masks.
        """
        height, width = image_embedding.shape[-2:]
        embedding, fine = self.parts(image_embedding)
        tokens, cells = self.attend(embedding, image_positions, sparse, dense)
        wanted = self._wanted(outputs)
        logits = self.masks(tokens, cells.unflatten(1, (height, width)), fine, outputs)
        return DecodedMasks(logits, self.predict_iou(tokens)[:, wanted.start : wanted.stop])

    def parts(self, image_embedding: torch.Tensor) -> tuple[torch.Tensor, FineCells | None]:
        """Part an embedding (batch, channels, h, w) into that of the grid (batch, dim, h, w) and its finer maps."""
        if not self.has_fine_features:
            return image_embedding, None
        return unpack_features(image_embedding, self.dim)

    def attend(
        self, image_embedding: torch.Tensor, image_positions: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Let prompts and image attend to each other; takes the arguments of `forward`, of the embedding its `parts`.

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

    def masks(
        self, tokens: torch.Tensor, cells: torch.Tensor, fine: FineCells | None, outputs: MaskOutputs = "all"
    ) -> torch.Tensor:
        """Return the logits (num_prompts, num_masks, 4 h, 4 w) of tokens, cells (num_prompts, h, w, dim), finer maps.

        The finer maps are those of each prompt's image, or of the one image that the prompts share.
        """
        filters = [self.output_hypernetworks_mlps[index](tokens[:, 1 + index]) for index in self._wanted(outputs)]
        num_prompts, height, width, _ = cells.shape
        maps = self._upscale(cells.flatten(1, 2), fine)
        logits = torch.stack(filters, dim=1) @ maps.transpose(1, 2)  # (num_prompts, masks, cells * 16)
        halved = logits.reshape(num_prompts, len(filters), height, width, 2, 2, 2, 2)  # ..., y, x, finer y, finer x
        return halved.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(num_prompts, len(filters), 4 * height, 4 * width)

    def _upscale(self, cells: torch.Tensor, fine: FineCells | None) -> torch.Tensor:
        """Bring cells (num_prompts, n, dim) to (num_prompts, n * 16, dim / 8), as `FineCells` lie.

        The windows of the transposed convolutions do not overlap, so they are products with each cell on its own, and
        channels can stay last, where norm and product want them.
        """
        layers: Any = self.output_upscaling
        first, norm, activation, second, _ = layers
        halves, quarters = _split(first, cells), None
        if fine is not None:
            halves, quarters = halves + fine.eighth, fine.quarter
        enlarged = _split(second, activation(norm.of_cells(halves)))
        return activation(enlarged if quarters is None else enlarged + quarters)

    def _wanted(self, outputs: MaskOutputs) -> range:
        match outputs:
            case "single":
                return range(1)
            case "multiple":
                return range(1, self.num_masks)
            case "all":
                return range(self.num_masks)


def _split(convolution: Any, cells: torch.Tensor) -> torch.Tensor:
    """Apply a transposed convolution of side and stride 2 to cells (b, n, channels): (b, n * 4, out channels)."""
    weight = convolution.weight.permute(2, 3, 1, 0)  # (2, 2, out channels, channels)
    out_channels = weight.shape[2]
    parts = nn.functional.linear(cells, weight.reshape(4 * out_channels, -1), convolution.bias.repeat(4))
    return parts.reshape(cells.shape[0], -1, out_channels)


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
