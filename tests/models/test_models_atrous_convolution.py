"""Atrous convolution with less work: equal to torch's, forward and backward, at every rate and size."""

import pytest
import torch
from torch import nn

from densessl.models.atrous_convolution import MANY_CHANNELS, AtrousConvolution


def _both(rate: int, size: tuple[int, int], kernel: int = 3) -> tuple[nn.Conv2d, AtrousConvolution, torch.Tensor]:
    torch.manual_seed(0)
    theirs = nn.Conv2d(5, 4, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)
    ours = AtrousConvolution(nn.Conv2d(5, 4, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours, torch.randn(2, 5, *size)


@pytest.mark.parametrize("size", [(28, 28), (7, 20), (1, 1), (13, 12)])
@pytest.mark.parametrize(("rate", "kernel"), [(1, 3), (6, 3), (12, 3), (24, 3), (36, 3), (3, 5)])
def test_result_and_gradients_are_those_of_torch(rate: int, kernel: int, size: tuple[int, int]) -> None:
    theirs, ours, features = _both(rate, size, kernel)
    inputs = [features.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(given) for layer, given in zip((theirs, ours), inputs, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    gradient = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(gradient)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_right_in_double_precision() -> None:
    _, ours, features = _both(3, (4, 6))
    ours = ours.double()

    def function(given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(ours, {"weight": weight}, (given,))

    assert torch.autograd.gradcheck(function, (features.double().requires_grad_(), ours.weight))


def test_half_precision_under_autocast() -> None:
    theirs, ours, features = _both(6, (9, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = theirs(features), ours(features)
    assert outputs[1].dtype == torch.bfloat16
    assert torch.equal(outputs[0], outputs[1])
    for output in outputs:
        output.sum().backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad.dtype == torch.float32
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("is_trained", [True, False])
def test_many_channels_in_half_precision(is_trained: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, MANY_CHANNELS, 3, 3) / MANY_CHANNELS**0.5
    theirs = nn.Conv2d(MANY_CHANNELS, 4, 3, padding=6, dilation=6, bias=False)
    theirs.weight = nn.Parameter(weight.bfloat16().float(), requires_grad=is_trained)
    ours = AtrousConvolution(theirs)
    features = torch.randn(2, MANY_CHANNELS, 9, 13).bfloat16().to(memory_format=torch.channels_last)
    inputs = [features.float().requires_grad_(), features.clone().requires_grad_()]
    exact = theirs(inputs[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = ours(inputs[1])
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output.float(), exact, rtol=0.01, atol=0.01)
    gradient = torch.randn_like(exact).bfloat16()
    exact.backward(gradient.float())
    of_weight = None if theirs.weight.grad is None else theirs.weight.grad.clone()
    ours.weight.grad = None
    output.backward(gradient)
    torch.testing.assert_close(inputs[1].grad.float(), inputs[0].grad, rtol=0.02, atol=0.05)
    if is_trained:
        torch.testing.assert_close(ours.weight.grad, of_weight, rtol=0.02, atol=0.2)


def test_no_gradient_where_none_is_asked_for() -> None:
    _, ours, features = _both(6, (9, 9))
    ours.weight.requires_grad = False
    given = features.requires_grad_()
    ours(given).sum().backward()
    assert given.grad is not None
    assert ours.weight.grad is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, bias=False, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, bias=False, dilation=2),
    ],
)
def test_other_convolutions_are_refused(layer: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="Conv2d"):
        AtrousConvolution(layer)
