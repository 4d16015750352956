"""Atrous convolution on small feature maps, where most taps of the kernel see nothing but padding."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

MANY_CHANNELS = 1024
"""From so many input channels on, bf16 is convolved tap by tap on the processor too (docs/decisions.md)."""


class AtrousConvolution(nn.Module):
    """A square `torch.nn.Conv2d` of stride 1 without bias, dilated and padded by its rate; same result, less work.

    At the rates of DeepLabV3 (12, 24, 36; arXiv:1706.05587, section 3.3) on the 28 x 28 cells of a 224-pixel view, 27
    taps together see 7.2 maps' worth of cells; the rest is padding. Taps that reach beyond the map altogether are cut
    from the kernel. oneDNN skips the padding of the others in the forward pass and in the gradient of the features, but
    not in that of the weights, which is therefore taken tap by tap on the processor. So is the forward pass in bf16
    from `MANY_CHANNELS` on, where its kernel is six times slower than matrix products.

    Args:
        convolution: the convolution whose weight this one takes over, so that names in checkpoints stay the same.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        rate = convolution.dilation[0]
        size = convolution.kernel_size[0]
        if convolution.bias is not None or convolution.groups != 1 or convolution.stride != (1, 1):
            raise ValueError(f"{convolution} has a bias, groups or a stride")
        if convolution.padding != (rate * (size // 2),) * 2 or convolution.kernel_size != (size, size):
            raise ValueError(f"{convolution} does not keep the size of its map")
        self.weight = convolution.weight
        self.rate = rate

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (batch, in_channels, h, w) to (batch, out_channels, h, w)."""
        weight = self._reaching_taps(features.shape[-2:])
        is_trained = torch.is_grad_enabled() and weight.requires_grad
        if features.device.type != "cpu":
            return F.conv2d(features, weight, None, 1, _padding(weight, self.rate), self.rate)
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            features, weight = features.to(kind), weight.to(kind)
        if not is_trained:
            return _convolve(features, weight, self.rate)
        result: torch.Tensor = _TapByTap.apply(features, weight, self.rate)
        return result

    def _reaching_taps(self, size: torch.Size) -> torch.Tensor:
        """Return the part of the kernel (out, in, rows, columns) whose taps fall inside a map of that size."""
        middle = self.weight.shape[-1] // 2
        rows, columns = (min(middle, (side - 1) // self.rate) for side in size)
        if rows == columns == middle:  # a slice would copy the gradient twice
            return self.weight
        return self.weight[:, :, middle - rows : middle + rows + 1, middle - columns : middle + columns + 1]


class _TapByTap(torch.autograd.Function):
    """The convolution, with the gradient of its weight as one matrix product for each tap, over the cells it sees."""

    @staticmethod
    def forward(context, features: torch.Tensor, weight: torch.Tensor, rate: int) -> torch.Tensor:  # type: ignore[no-untyped-def]
        context.save_for_backward(features, weight)
        context.rate = rate
        return _convolve(features, weight, rate)

    @staticmethod
    def backward(context, gradient: torch.Tensor):  # type: ignore[no-untyped-def,override]
        features, weight = context.saved_tensors
        rate = context.rate
        of_features = of_weight = None
        if context.needs_input_grad[0]:
            padding = _padding(weight, rate)
            of_features = conv2d_input(features.shape, weight, gradient, 1, padding, rate)
        if context.needs_input_grad[1]:
            of_weight = _weight_gradient(features, gradient, weight, rate)
        return of_features, of_weight, None


def _convolve(features: torch.Tensor, weight: torch.Tensor, rate: int) -> torch.Tensor:
    if weight.dtype == torch.bfloat16 and weight.shape[1] >= MANY_CHANNELS:
        return _sum_of_taps(features, weight, rate)
    return F.conv2d(features, weight, None, 1, _padding(weight, rate), rate)


def _sum_of_taps(features: torch.Tensor, weight: torch.Tensor, rate: int) -> torch.Tensor:
    """Return the convolution (batch, out, h, w): for each tap a product with the cells it sees, added in fp32."""
    inputs = features.permute(0, 2, 3, 1)  # (batch, h, w, in)
    result = inputs.new_zeros((*inputs.shape[:3], len(weight)), dtype=torch.float32)
    for row, column, seen, at in _taps(weight, inputs.shape[1:3], rate):
        product = inputs[seen].flatten(0, 2) @ weight[:, :, row, column].T
        result[at] += product.view_as(result[at])
    return result.to(features.dtype).permute(0, 3, 1, 2)


def _weight_gradient(features: torch.Tensor, gradient: torch.Tensor, weight: torch.Tensor, rate: int) -> torch.Tensor:
    """Return dL/dW (out, in, rows, columns): for each tap, the sum over cells of gradient times the feature it saw."""
    inputs, outputs = features.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)  # (batch, h, w, channels)
    result = torch.empty_like(weight)
    for row, column, seen, at in _taps(weight, inputs.shape[1:3], rate):
        result[:, :, row, column] = outputs[at].flatten(0, 2).T @ inputs[seen].flatten(0, 2)
    return result


Cells = tuple[slice, slice, slice]
"""A rectangle of the cells of maps (batch, h, w)."""


def _taps(weight: torch.Tensor, size: torch.Size, rate: int) -> Iterator[tuple[int, int, Cells, Cells]]:
    """Yield of each tap of the kernel its row and column, the cells of a map (h, w) it sees, and from where."""
    height, width = size
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            down, right = (row - weight.shape[2] // 2) * rate, (column - weight.shape[3] // 2) * rate
            seen = slice(None), slice(max(0, down), height + down), slice(max(0, right), width + right)
            at = slice(None), slice(max(0, -down), height - down), slice(max(0, -right), width - right)
            yield row, column, seen, at


def _padding(weight: torch.Tensor, rate: int) -> tuple[int, int]:
    return weight.shape[2] // 2 * rate, weight.shape[3] // 2 * rate
