"""Turns image embedding and embedded prompts into masks and their predicted quality (arXiv:2304.02643, figure 14)."""

from typing import Literal, NamedTuple

import torch
from torch import nn

from densessl.promptable.channel_norm import ChannelNorm
from densessl.promptable.fine_features import unpack_features
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
        fine: tuple[torch.Tensor, ...] = ()
        if self.has_fine_features:
            image_embedding, *fine = unpack_features(image_embedding, self.dim)  # type: ignore[assignment]
        learned = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([learned.expand(sparse.shape[0], -1, -1), sparse], dim=1)  # (num_prompts, tokens, dim)
        cells = (image_embedding + dense).flatten(2).transpose(1, 2)  # (num_prompts or 1, height * width, dim)
        tokens, cells = self.transformer(cells, image_positions.flatten(2).transpose(1, 2), tokens)
        wanted = self._wanted(outputs)
        maps = self._enlarge(cells.unflatten(1, (height, width)).permute(0, 3, 1, 2), *fine)
        filters = [self.output_hypernetworks_mlps[index](tokens[:, 1 + index]) for index in wanted]
        logits = torch.einsum("pmc,pchw->pmhw", torch.stack(filters, dim=1), maps)
        return DecodedMasks(logits, self.iou_prediction_head(tokens[:, 0])[:, wanted.start : wanted.stop])

    def _enlarge(self, maps: torch.Tensor, *fine: torch.Tensor) -> torch.Tensor:
        """Bring maps (num_prompts, dim, h, w) to (num_prompts, dim / 8, 4 h, 4 w)."""
        if not fine:
            return self.output_upscaling(maps)
        first, norm, rectify, second, last = self.output_upscaling
        eighth, quarter = fine
        return last(second(rectify(norm(first(maps) + eighth))) + quarter)

    def _wanted(self, outputs: MaskOutputs) -> range:
        match outputs:
            case "single":
                return range(1)
            case "multiple":
                return range(1, self.num_masks)
            case "all":
                return range(self.num_masks)


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
