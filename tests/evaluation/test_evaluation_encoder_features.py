"""Outputs of encoders that are no feature maps are refused; autocast returns float32."""

from collections.abc import Callable

import pytest
import torch

from densessl.errors import InputError
from densessl.evaluation.encoder_features import AutocastFeatures, CheckedFeatures
from densessl.evaluation.prototypes import DenseFeatures


def test_half_precision_comes_out_as_float32() -> None:
    dense = CheckedFeatures(lambda images: images.half(), "net")(torch.ones(2, 3, 4, 5))
    assert (dense.features.dtype, dense.saliency) == (torch.float32, None)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: images.flatten(2), r"encoder net returns shape \(2, 3, 20\) of torch.float32; an encoder maps"),
        (lambda images: images[:1], r"encoder net returns 1 maps for 2 images"),
        (lambda images: (images, images), r"encoder net returns a tuple; .* so return the map alone"),
        (lambda images: images.long(), r"returns shape \(2, 3, 4, 5\) of torch.int64"),
        (lambda images: images[:, :, :0], r"returns shape \(2, 3, 0, 5\)"),
    ],
)
def test_what_is_no_feature_map(function: Callable[[torch.Tensor], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CheckedFeatures(function, "net")(torch.ones(2, 3, 4, 5))


def test_autocast_computes_in_bfloat16_and_returns_float32() -> None:
    network = torch.nn.Conv2d(3, 4, 1)
    types = []

    def encode(images: torch.Tensor) -> DenseFeatures:
        features = network(images)
        types.append(features.dtype)
        return DenseFeatures(features, features[:, 0])

    dense = AutocastFeatures(encode, torch.device("cpu"))(torch.ones(2, 3, 4, 5))
    assert types == [torch.bfloat16]
    assert dense.features.dtype == torch.float32
    assert dense.saliency is not None
    assert dense.saliency.dtype == torch.float32
