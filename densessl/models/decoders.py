"""Segmentation decoders between the encoder and the heads."""

import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPConv, ASPPPooling, DeepLabV3Decoder
from torch import nn
from torch.nn import functional as F

from densessl.models.atrous_convolution import AtrousConvolution


class DeepLabV3(nn.Module):
    """Atrous spatial pyramid pooling and a 3x3 convolution (Chen et al. 2017, arXiv:1706.05587, section 3.3).

    segmentation_models_pytorch's decoder, with one difference: the image-level pooling branch normalises with its
    running statistics when a training batch holds a single image, where batch statistics do not exist. Its atrous
    convolutions and that branch are computed with less work (`AtrousConvolution`, `_ImagePooling`), to the same result.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        *,
        atrous_rates: tuple[int, int, int] = (12, 24, 36),
        is_separable: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.network = DeepLabV3Decoder(
            in_channels,
            out_channels,
            atrous_rates=atrous_rates,
            aspp_separable=is_separable,
            aspp_dropout=dropout,
        )
        branches = self.network.aspp.convs
        pooling = branches[-1]
        if not isinstance(pooling, ASPPPooling):
            raise TypeError(f"expected the pooling branch last in the decoder's pyramid, found {type(pooling)}")
        pooling[2] = _BatchNormOfOne(out_channels)
        branches[-1] = _ImagePooling(*pooling)
        for branch in branches:
            if isinstance(branch, ASPPConv):
                branch[0] = AtrousConvolution(branch[0])  # type: ignore[arg-type]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Decode encoder features (batch, channels, h, w) to (batch, out_channels, h, w)."""
        return self.network([features])


class _ImagePooling(nn.Sequential):
    """The image-level branch: one value for each image and channel, repeated for every cell.

    The library enlarges the single cell bilinearly, which gives the same and costs more. Channels come last while
    averaging: the gradient of a plain average over (h, w) has them first whatever the features have, and adding it to
    that of the other branches is then ten times slower.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        average = features.permute(0, 2, 3, 1).mean(dim=(1, 2))[..., None, None]  # (batch, channels, 1, 1)
        for layer in list(self)[1:]:  # the first one is the average
            average = layer(average)
        return average.expand(-1, -1, *features.shape[-2:])


class _BatchNormOfOne(nn.BatchNorm2d):
    """Batch norm that uses its running statistics where a batch has a single value per channel."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.training and values[:, 0].numel() == 1:
            return F.batch_norm(
                values,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        return super().forward(values)
