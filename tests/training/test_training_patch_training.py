"""Learning what fills borders: the loss by hand, cells, a tiny set of scenes, settings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.patch_views import BORDER, MIDDLE, NEITHER
from densessl.data.soft_targets import SoftMaps
from densessl.errors import InputError
from densessl.models.patch_network import FIELD_PX, STRIDE_PX, PatchNetwork
from densessl.structures import ImageRef
from densessl.training.devices import make_fabric
from densessl.training.patch_training import (
    PatchTrainingSettings,
    at_cells,
    balanced_loss,
    train_patch_network,
)


def test_the_loss_weighs_border_and_middle_alike() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 9.0, 0.3]])
    targets = torch.tensor([[BORDER, BORDER, MIDDLE, NEITHER, 0.75]])
    border = (np.log1p(np.exp(0.5)) + np.log1p(np.exp(-1.0))) / 2
    middle = (np.log1p(np.exp(-2.0)) + 0.5 * np.log1p(np.exp(-0.3))) / 1.5
    expected = (border + middle) / 2
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


def _train(scenes: tuple[ImageRef, ...], epochs: int, num_workers: int = 0) -> tuple[float, PatchNetwork]:
    torch.manual_seed(0)
    network = PatchNetwork()
    settings = PatchTrainingSettings(epochs=epochs, batch_size=3, num_workers=num_workers)
    return train_patch_network(make_fabric("fp32"), network, scenes, None, settings, seed=0), network.eval()


def test_it_learns_what_fills_borders(scenes: tuple[ImageRef, ...], capsys: pytest.CaptureFixture[str]) -> None:
    loss, _ = _train(scenes, epochs=6)
    assert loss < 0.5
    assert (
        "the number of steps in this round is 18, few for a network to learn from; --patch_training.epochs 34 (now 6)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])  # starts two interpreters
def test_it_repeats_itself(num_workers: int, scenes: tuple[ImageRef, ...]) -> None:
    loss, network = _train(scenes[:4], epochs=1)
    again, other = _train(scenes[:4], epochs=1, num_workers=num_workers)
    assert again == loss
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("size", [None, (400, 50)], ids=["unreadable", "thin"])
def test_images_with_nothing_to_learn_from(size: tuple[int, int] | None, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if size is None:
        path.write_bytes(b"no image")
    else:
        Image.new("RGB", size, (10, 200, 30)).save(path)
    settings = PatchTrainingSettings(epochs=1, num_workers=0)
    with pytest.raises(
        InputError, match="1 images show learned_patches no patch of one kind or of both: none can be read"
    ):
        train_patch_network(make_fabric("fp32"), PatchNetwork(), (ImageRef("a", path),), None, settings, seed=0)


def test_maps_teach_what_they_say(scenes: tuple[ImageRef, ...], tmp_path: Path) -> None:
    """Maps that call the green ground foreground teach the opposite of border and middle."""
    for ref in scenes[:-1]:
        with Image.open(ref.path) as image:
            red = np.asarray(image)[..., 0] > 90
        Image.fromarray(np.where(red, 0, 255).astype(np.uint8)).save(tmp_path / f"{ref.stem}.png")
    torch.manual_seed(0)
    network, maps = PatchNetwork(), SoftMaps((tmp_path,), (1.0,))
    settings = PatchTrainingSettings(epochs=6, batch_size=3, num_workers=0)
    loss = train_patch_network(make_fabric("fp32"), network, scenes[:-1], maps, settings, seed=0)
    assert loss < 0.5
    green, red_patch = torch.zeros(1, 3, 25, 25), torch.zeros(1, 3, 25, 25)
    green[:, 1], red_patch[:, 0] = 1.0, 1.0
    with torch.inference_mode():
        assert float(network.eval()(green)) > float(network(red_patch))


def test_maps_with_one_side_alone_teach_nothing(scenes: tuple[ImageRef, ...], tmp_path: Path) -> None:
    for ref in scenes[:2]:
        Image.new("L", (128, 96), 0).save(tmp_path / f"{ref.stem}.png")
    settings = PatchTrainingSettings(epochs=1, num_workers=0)
    maps = SoftMaps((tmp_path,), (1.0,))
    with pytest.raises(InputError, match=r"the maps of 2 images are foreground nowhere, .*--patch_training.rounds 1"):
        train_patch_network(make_fabric("fp32"), PatchNetwork(), scenes[:2], maps, settings, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "patch_training.rounds is 0; it must be at least 1"),
        ({"epochs": 0}, "patch_training.epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "patch_training.batch_size is 0"),
        ({"learning_rate": 0.0}, "patch_training.learning_rate is 0.0; it must be positive"),
        ({"weight_decay": -1.0}, "patch_training.weight_decay is -1.0"),
        ({"num_workers": -2}, "patch_training.num_workers is -2"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PatchTrainingSettings(**settings)  # type: ignore[arg-type]
