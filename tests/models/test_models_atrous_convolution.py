"""Atrous convolution with less work: equal to torch's, forward and backward, at every rate and size."""

import pytest
import torch
from torch import nn

from densessl.models.atrous_convolution import AtrousConvolution


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
