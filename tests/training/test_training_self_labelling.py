"""Self-labelling: the loss and its weights by hand, learning on a tiny set, settings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.errors import InputError
from densessl.models.segmentation_network import SegmentationNetwork
from densessl.structures import IGNORE, ImageRef
from densessl.training.devices import make_fabric
from densessl.training.network_fitting import FitOutcome
from densessl.training.self_labelling import (
    SelfLabellingSettings,
    class_weights,
    count_pixels,
    labelled_cross_entropy,
    train_segmentation_network,
)

TINY = SelfLabellingSettings(epochs=8, size_px=32, batch_size=2, num_workers=0, learning_rate=3e-3)


@pytest.fixture(autouse=True, scope="module")
def _single_threaded() -> Iterator[None]:
    """Compute on one core: networks as small as these only wait for each other on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 1.0]], [[2.0, -1.0]], [[0.5, 0.0]]]])  # (1, 3, 1, 2)
    targets = torch.tensor([[[1, 0]]])
    losses = [np.log(1 + np.exp(2) + np.exp(0.5)) - 2, np.log(np.e + np.exp(-1) + 1) - 1]
    assert float(labelled_cross_entropy(logits, targets)) == pytest.approx(np.mean(losses), rel=1e-6)
    weights = torch.tensor([3.0, 1.0, 9.0])
    expected = (losses[0] + 3 * losses[1]) / 4
    assert float(labelled_cross_entropy(logits, targets, weights)) == pytest.approx(expected, rel=1e-6)
    half = torch.tensor([[[1, IGNORE]]])
    assert float(labelled_cross_entropy(logits, half, weights)) == pytest.approx(losses[0], rel=1e-6)


def test_nothing_to_learn_gives_no_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = labelled_cross_entropy(logits, torch.full((1, 2, 2), IGNORE))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_gradient_of_the_loss() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[[0, 1], [2, IGNORE]], [[1, 1], [IGNORE, 0]]])
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: labelled_cross_entropy(x, targets, weights), logits)


def test_weights_let_classes_count_alike() -> None:
    weights = class_weights(np.array([60, 30, 0, 10]))
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 90, 0, 100 / 30])
    assert (weights * torch.tensor([60, 30, 0, 10])).tolist() == pytest.approx([100 / 3, 100 / 3, 0, 100 / 3])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[ImageRef, ...], Path]:
    """Four noisy photographs with a rectangle, bright (class 1) or red (class 2), on a dark ground (class 0)."""
    folder, generator = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    images = []
    for number in range(4):
        labels = np.zeros((40, 56), dtype=np.int64)
        labels[8:30, 10 + 5 * number : 30 + 5 * number] = 1 + number % 2
        pixels = generator.integers(0, 90, (40, 56, 3))
        pixels[labels == 1] += 150
        pixels[labels == 2, 0] += 150
        labels[:2] = IGNORE
        path = folder / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        write_label_map(folder / "labels" / f"{number}.png", labels)
        images.append(ImageRef(str(number), path))
    return tuple(images), folder / "labels"


Scenes = tuple[tuple[ImageRef, ...], Path]


def _train(scenes: Scenes, settings: SelfLabellingSettings) -> tuple[FitOutcome, SegmentationNetwork]:
    torch.manual_seed(0)
    network = SegmentationNetwork("resnet10t", settings.decoder, 16, 3)
    outcome = train_segmentation_network(make_fabric("fp32"), network, *scenes, 3, settings, 0, "round 1")
    return outcome, network.cpu()


def test_pixels_are_counted(scenes: Scenes) -> None:
    assert count_pixels(*scenes, 4).tolist() == [4 * 38 * 56 - 4 * 440, 880, 880, 0]


@pytest.mark.parametrize("balance", ["none", "classes"])
def test_it_learns_and_repeats_itself(balance: str, scenes: Scenes, capsys: pytest.CaptureFixture[str]) -> None:
    settings = replace(TINY, balance=balance)
    outcome, network = _train(scenes, settings)
    message = capsys.readouterr().err
    assert f"round 1: epoch 8 of 8  loss {outcome.loss:.4f}" in message
    assert " images/s  0.0 min left in this round" in message
    again, same = _train(scenes, settings)
    assert outcome.loss < 0.8  # chance is 1.10
    assert outcome.loss == again.loss
    for value, other in zip(network.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3"])
@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_the_encoder_learns_only_where_it_is_asked_to(decoder: str, scale: float, scenes: Scenes) -> None:
    settings = replace(TINY, epochs=1, encoder_lr_scale=scale, decoder=decoder)
    torch.manual_seed(0)
    before = SegmentationNetwork("resnet10t", settings.decoder, 16, 3).state_dict()
    _, network = _train(scenes, settings)
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert any(not name.startswith("body.encoder.") for name in moved)
    assert any(name.startswith("body.encoder.") for name in moved) == (scale > 0)
    buffers = [name for name, _ in network.named_buffers() if name.startswith("body.encoder.")]
    assert buffers
    for name in buffers:  # batch norm keeps the statistics of the run
        assert torch.equal(network.state_dict()[name], before[name])


def test_a_loss_that_is_no_number_is_said(scenes: Scenes) -> None:
    with pytest.raises(InputError, match=r"the loss became (nan|inf) at step \d+ of round 1; lower self_labelling"):
        _train(scenes, replace(TINY, learning_rate=1e30))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 0}, "self_labelling.rounds is 0; it must be at least 1"),
        ({"size_px": 16}, "self_labelling.size_px is 16; a view has 32 to 4096 pixels"),
        ({"kept_share": 0.0}, r"self_labelling.kept_share is 0.0; it is a share in \(0, 1\]"),
        ({"min_scale": 1.5}, r"self_labelling.min_scale is 1.5; it is a share in \(0, 1\]"),
        ({"unsure": 0.5}, r"self_labelling.unsure is 0.5; it is a distance from 0.5, in \[0, 0.5\)"),
        ({"jitter": 2.0}, r"self_labelling.jitter is 2.0; a probability"),
        ({"learning_rate": 0.0}, "self_labelling.learning_rate is 0.0; it must be positive"),
        ({"band_px": -1}, "self_labelling.band_px is -1; it must be at least 0"),
    ],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SelfLabellingSettings(**values)  # type: ignore[arg-type]
