"""What a network says of an image: averaged over the flip, at the image's size, under masks; by hand."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from densessl.data.normalisation import normalise_image
from densessl.evaluation.class_maps import (
    class_probabilities,
    classes_of_masks,
    foreground_classes,
    labels_under_masks,
    most_likely,
)
from densessl.models.segmentation_network import SegmentationNetwork, SegmentationNetworkHeader

HEADER = SegmentationNetworkHeader("resnet10t", "unet", 16, 3, 32, 0.5, "", "")


class _Ramp(nn.Module):
    """Logits of three classes: zero, the first channel of the image, and the column."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.seen: tuple[int, ...] = ()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = tuple(images.shape)
        first = images[:, 0].float()
        column = torch.arange(first.shape[2]).expand_as(first) / 10
        return torch.stack([torch.zeros_like(first), first, column], dim=1)


def test_softmax_is_averaged_over_image_and_mirror_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 64, 3)).astype(np.uint8)  # 2048 px: 32^2 / 0.5
    network = _Ramp().eval()
    found = class_probabilities(image, cast(SegmentationNetwork, network), HEADER)
    assert network.seen == (2, 3, 32, 64)
    first = normalise_image(image)[0].double().numpy()
    columns = np.arange(64) / 10
    expected = 0
    for column in (columns, columns[::-1]):
        powers = np.exp(np.stack([np.zeros((32, 64)), first, np.broadcast_to(column, (32, 64))]))
        expected = expected + powers / powers.sum(axis=0) / 2
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_image_is_brought_to_the_scale_of_the_training_views() -> None:
    network = _Ramp().eval()
    class_probabilities(np.zeros((320, 160, 3), np.uint8), cast(SegmentationNetwork, network), HEADER)
    assert network.seen == (2, 3, 64, 32)
    class_probabilities(np.zeros((8, 16, 3), np.uint8), cast(SegmentationNetwork, network), HEADER)
    assert network.seen == (2, 3, 32, 64)


def test_the_most_likely_class_at_another_size() -> None:
    probabilities = np.array([[[0.6, 0.2]], [[0.3, 0.3]], [[0.1, 0.5]]], np.float32)  # (3, 1, 2)
    found = most_likely(probabilities, (2, 4))
    # halfway between the two cells: weights 1, 3/4, 1/4, 0 of the first
    assert found.labels.tolist() == [[0, 0, 2, 2]] * 2
    assert found.certainty == pytest.approx(np.array([[0.6, 0.5, 0.4, 0.5]] * 2), abs=1e-6)
    assert foreground_classes(probabilities, (1, 2)).tolist() == [[1, 2]]


def test_equal_probabilities_take_the_lowest_class() -> None:
    assert most_likely(np.full((3, 1, 1), 1 / 3, np.float32), (1, 1)).labels.tolist() == [[0]]


def test_masks_take_the_class_of_highest_summed_logits() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(4, 5, 6))
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    instances = generator.integers(0, 4, (5, 6))
    instances[instances == 2] = 0  # ids have gaps
    found = classes_of_masks(probabilities, instances)
    for mask in (1, 3):
        inside = instances == mask
        best = 1 + int(logits[1:, inside].sum(axis=1).argmax())
        assert found.classes[mask - 1] == best
        among = probabilities[best, inside] / probabilities[1:, inside].sum(axis=0)
        assert found.certainty[mask - 1] == pytest.approx(among.mean(), rel=1e-5)
    whole = labels_under_masks(probabilities, instances, one_class_per_mask=True)
    each = labels_under_masks(probabilities, instances, one_class_per_mask=False)
    for y in range(5):
        for x in range(6):
            mask = instances[y, x]
            assert whole[y, x] == (0 if mask == 0 else found.classes[mask - 1])
            assert each[y, x] == (0 if mask == 0 else 1 + probabilities[1:, y, x].argmax())


def test_an_image_without_masks_is_background() -> None:
    probabilities = np.full((3, 2, 2), 1 / 3, np.float32)
    nothing = np.zeros((4, 4), np.uint8)
    assert len(classes_of_masks(probabilities, nothing).classes) == 0
    for one_class in (True, False):
        assert not labels_under_masks(probabilities, nothing, one_class).any()
