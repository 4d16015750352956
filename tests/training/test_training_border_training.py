"""Learning what fills borders: the loss by hand, cells, a tiny set of scenes, settings."""

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.border_views import BORDER, MIDDLE, NEITHER
from densessl.errors import InputError
from densessl.models.border_network import FIELD_PX, STRIDE_PX, BorderNetwork
from densessl.structures import ImageRef
from densessl.training.border_training import (
    BorderTrainingSettings,
    at_cells,
    balanced_loss,
    train_border_network,
)
from densessl.training.devices import make_fabric


def test_the_loss_weighs_border_and_middle_alike() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 9.0]])
    targets = torch.tensor([[BORDER, BORDER, MIDDLE, NEITHER]])
    border = (np.log1p(np.exp(0.5)) + np.log1p(np.exp(-1.0))) / 2
    expected = (border + np.log1p(np.exp(-2.0))) / 2
    assert float(balanced_loss(logits, targets)) == pytest.approx(expected, rel=1e-6)
    assert float(balanced_loss(logits, torch.full_like(targets, NEITHER))) == 0


def test_targets_are_taken_at_the_centres_of_patches() -> None:
    targets = torch.arange(60.0 * 50).view(1, 60, 50)
    logits = torch.zeros(1, (60 - FIELD_PX) // STRIDE_PX + 1, (50 - FIELD_PX) // STRIDE_PX + 1)
    taken = at_cells(targets, logits)
    assert taken.shape == logits.shape
    for row in range(taken.shape[1]):
        for column in range(taken.shape[2]):
            centre = row * STRIDE_PX + FIELD_PX // 2, column * STRIDE_PX + FIELD_PX // 2
            assert taken[0, row, column] == targets[0, centre[0], centre[1]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRef, ...]:
    """Eight green images with a red square somewhere in the middle, and a file that is no image."""
    folder, generator = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    images = []
    for number in range(8):
        image = generator.integers(0, 60, (96, 128, 3))
        image[..., 1] += 120
        top, left = generator.integers(25, 35), generator.integers(30, 50)
        image[top : top + 40, left : left + 50, 0] += 180
        path = folder / f"{number}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
        images.append(ImageRef(str(number), path))
    (folder / "broken.png").write_bytes(b"no image")
    return (*images, ImageRef("broken", folder / "broken.png"))


def _train(scenes: tuple[ImageRef, ...]) -> tuple[float, BorderNetwork]:
    torch.manual_seed(0)
    network = BorderNetwork()
    settings = BorderTrainingSettings(epochs=6, batch_size=3, num_workers=0)
    return train_border_network(make_fabric("fp32"), network, scenes, settings, seed=0), network.eval()


def test_it_learns_what_fills_borders_and_repeats_itself(
    scenes: tuple[ImageRef, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    loss, network = _train(scenes)
    assert loss < 0.5
    assert (
        "18 steps are few for a network to learn from; --border_training.epochs 34 (now 6)" in capsys.readouterr().err
    )
    again, other = _train(scenes)
    assert again == loss
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "border_training.epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "border_training.batch_size is 0"),
        ({"learning_rate": 0.0}, "border_training.learning_rate is 0.0; it must be positive"),
        ({"weight_decay": -1.0}, "border_training.weight_decay is -1.0"),
        ({"num_workers": -2}, "border_training.num_workers is -2"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BorderTrainingSettings(**settings)  # type: ignore[arg-type]
