"""The published MaskContrast step written out plainly, as the yardstick of `benchmarks.pretrain_step`.

fp32, NCHW, one tensor after the other: embeddings upsampled to the images, every foreground pixel a row of the loss,
the momentum update parameter by parameter, SGD without fused kernels (arXiv:2102.06191 and what its published code
does). It shares no code with `densessl.training` and `densessl.objectives`; network parts come from timm and
segmentation_models_pytorch, with the same names, so that the weights of densessl's network load into it.
"""

import copy
import math

import timm
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder
from torch import nn
from torch.nn import functional as F

from densessl.structures import ViewBatch

TEMPERATURE = 0.5
MOMENTUM = 0.999


class PlainNetwork(nn.Module):
    """Encoder, atrous spatial pyramid pooling, and the two heads; outputs at the size of the images."""

    def __init__(self, encoder: str, output_stride: int, embedding_dim: int = 32) -> None:
        super().__init__()
        self.backbone = timm.create_model(encoder, num_classes=0, output_stride=output_stride)
        channels = self.backbone.num_features
        self.decoder = DeepLabV3Decoder(
            channels, 256, atrous_rates=(12, 24, 36), aspp_separable=False, aspp_dropout=0.0
        )
        self.embedding_head = nn.Conv2d(256, embedding_dim, 1)
        self.saliency_head = nn.Conv2d(256, 1, 1, bias=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images (batch, 3, h, w) to unit embeddings (batch, dim, h, w) and saliency logits (batch, 1, h, w)."""
        decoded = self.decoder([self.backbone.forward_features(images)])
        size = images.shape[-2:]
        embedding = F.interpolate(self.embedding_head(decoded), size, mode="bilinear", align_corners=False)
        saliency = F.interpolate(self.saliency_head(decoded), size, mode="bilinear", align_corners=False)
        return F.normalize(embedding, dim=1), saliency

    def load_ours(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over the weights of a `densessl.models.mask_contrast_model.MaskContrastModel`."""
        names = {
            name: name.replace("encoder.backbone.", "backbone.").replace("decoder.network.", "decoder.")
            for name in tensors
        }
        self.load_state_dict({names[name]: value for name, value in tensors.items()})


class PlainTrainer:
    """Network, twin, queue and optimiser, and one step over them.

    Args:
        network: in fp32.
        queue: (length, dim), unit vectors.
        learning_rate: of SGD with momentum 0.9 and weight decay 1e-4, as published.
    """

    def __init__(self, network: PlainNetwork, queue: torch.Tensor, learning_rate: float = 0.004) -> None:
        self.network = network.train()
        self.twin = copy.deepcopy(network).train()
        self.queue = queue.clone()
        self.pointer = 0
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4, foreach=False
        )

    def step(self, batch: ViewBatch) -> float:
        """Train on one batch, one mask an image; returns the loss."""
        with torch.no_grad():
            for slow, fast in zip(self.twin.parameters(), self.network.parameters(), strict=True):
                slow.data = slow.data * MOMENTUM + fast.data * (1 - MOMENTUM)
        embedding, saliency = self.network(batch.query_images)
        with torch.no_grad():
            keys, _ = self.twin(batch.key_images)
            inside = (batch.key_masks > 0).float().unsqueeze(1)  # (batch, 1, h, w)
            prototypes = F.normalize((keys * inside).sum((2, 3)), dim=1)
        is_foreground = batch.query_masks > 0
        pixels = embedding.permute(0, 2, 3, 1)[is_foreground]  # (num, dim)
        owner = torch.arange(len(is_foreground), device=pixels.device)[:, None, None].expand_as(is_foreground)
        labels = owner[is_foreground]
        logits = torch.cat([pixels @ prototypes.T, pixels @ self.queue.T], dim=1) / TEMPERATURE
        share = torch.bincount(labels, minlength=logits.shape[1]).float() / len(labels)
        contrastive = F.cross_entropy(logits, labels, weight=1.0 / torch.log(1.02 + share))
        loss = contrastive + _balanced_cross_entropy(saliency.squeeze(1), is_foreground.float())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        length = len(self.queue)
        for prototype in prototypes:
            self.queue[self.pointer] = prototype
            self.pointer = (self.pointer + 1) % length
        return float(loss.detach())


def _balanced_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return (n_neg / n) * sum over positives + (n_pos / n) * sum over negatives, divided by n."""
    num = math.prod(target.shape)
    positive = target.sum()
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside, outside = (each * target).sum(), (each * (1 - target)).sum()
    return ((num - positive) / num * inside + positive / num * outside) / num
