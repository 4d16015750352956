"""Self-training: the loss by hand, learning on a tiny set, settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.soft_targets import SoftMaps, TargetView, open_target_cache
from densessl.errors import InputError
from densessl.models.saliency_network import SaliencyNetwork
from densessl.structures import ImageRef
from densessl.training import network_fitting, self_training
from densessl.training.devices import make_fabric
from densessl.training.self_training import (
    SelfTrainingSettings,
    confidence_weighted_loss,
    cutmix,
    train_saliency_network,
)

TINY = SelfTrainingSettings(rounds=1, epochs=8, size_px=32, batch_size=2, num_workers=0, learning_rate=3e-3)


def test_the_loss_weighs_each_pixel_by_how_sure_its_target_is() -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 5.0]]])
    targets = torch.tensor([[[1.0, 0.25], [0.0, 0.5]]])
    losses = [np.log(2), np.log1p(np.exp(2.0)), np.log1p(np.exp(-1.0))]
    expected = (losses[0] + 0.5 * losses[1] + losses[2]) / 2.5
    assert float(confidence_weighted_loss(logits, targets)) == pytest.approx(expected, rel=1e-6)
    assert float(confidence_weighted_loss(logits, torch.full_like(targets, 0.5))) == 0


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[ImageRef, ...], SoftMaps]:
    """Four noisy photographs with a bright rectangle, which is the target."""
    folder, generator = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    (folder / "soft").mkdir()
    images = []
    for number in range(4):
        target = np.zeros((40, 56), dtype=np.uint8)
        target[8:30, 10 + 5 * number : 30 + 5 * number] = 255
        noise = generator.integers(0, 90, (40, 56, 3))
        path = folder / f"{number}.png"
        Image.fromarray((noise + 0.6 * target[..., None]).astype(np.uint8)).save(path)
        Image.fromarray(target).save(folder / "soft" / f"{number}.png")
        images.append(ImageRef(str(number), path))
    return tuple(images), SoftMaps((folder / "soft",), (1.0,))


def _train(scenes: tuple[tuple[ImageRef, ...], SoftMaps], settings: SelfTrainingSettings) -> tuple[float, torch.Tensor]:
    torch.manual_seed(0)
    network = SaliencyNetwork("resnet18")
    loss = train_saliency_network(make_fabric("fp32"), network, *scenes, settings, seed=0)
    return loss, network.parts.encoder.model.conv1.weight.detach().clone()


def test_it_learns_and_repeats_itself(
    scenes: tuple[tuple[ImageRef, ...], SoftMaps], capsys: pytest.CaptureFixture[str]
) -> None:
    loss, weights = _train(scenes, TINY)
    assert f"epoch {TINY.epochs} of {TINY.epochs}  loss {loss:.4f}  " in capsys.readouterr().err
    again, same = _train(scenes, TINY)
    assert loss < 0.5  # chance is 0.69
    assert (loss, torch.equal(weights, same)) == (again, True)


def test_given_weights_keep_their_batch_norm_statistics(
    scenes: tuple[tuple[ImageRef, ...], SoftMaps], tmp_path: Path
) -> None:
    network = SaliencyNetwork("resnet18")
    before = network.parts.encoder.model.bn1.running_mean.clone()
    settings = SelfTrainingSettings(
        epochs=1, size_px=32, batch_size=2, num_workers=0, weights=tmp_path / "encoder.safetensors"
    )
    train_saliency_network(make_fabric("fp32"), network, *scenes, settings, seed=0)
    network.cpu()
    assert torch.equal(network.parts.encoder.model.bn1.running_mean, before)
    assert int(network.parts.decoder.blocks[0].conv1[1].num_batches_tracked) == 2


def test_an_encoder_of_rate_zero_stays_as_it_is(scenes: tuple[tuple[ImageRef, ...], SoftMaps]) -> None:
    network = SaliencyNetwork("resnet18")
    before = {name: value.clone() for name, value in network.named_parameters()}
    settings = SelfTrainingSettings(epochs=1, size_px=32, batch_size=2, num_workers=0, encoder_lr_scale=0)
    train_saliency_network(make_fabric("fp32"), network, *scenes, settings, seed=0)
    network.cpu()
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith("unet.encoder.") for name in moved)


def test_an_image_damaged_on_the_way_ends_a_loader_process_in_one_sentence(
    scenes: tuple[tuple[ImageRef, ...], SoftMaps], tmp_path: Path
) -> None:
    content = scenes[0][0].path.read_bytes()
    (tmp_path / "0.png").write_bytes(content[: len(content) // 2])
    images = (ImageRef("0", tmp_path / "0.png"), *scenes[0][1:])
    settings = replace(TINY, num_workers=1)
    with pytest.raises(InputError, match=r"0\.png") as caught:
        train_saliency_network(make_fabric("fp32"), SaliencyNetwork("resnet18"), images, scenes[1], settings, seed=0)
    assert "Traceback" not in str(caught.value)
    assert "worker process" not in str(caught.value)


def test_a_short_round_warms_up_for_a_tenth_and_says_that_it_is_short(
    scenes: tuple[tuple[ImageRef, ...], SoftMaps], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warmups = []

    def recorded(*given: object, warmup_steps: int, **named: object) -> float:
        warmups.append(warmup_steps)
        return 1.0

    monkeypatch.setattr(network_fitting, "learning_rate_factor", recorded)
    _train(scenes, replace(TINY, epochs=5))
    assert warmups == [1] * 10
    message = capsys.readouterr().err
    assert "the number of steps in this round is 10, few" in message
    assert "--self_training.epochs 50 (now 5) makes at least 100" in message


def test_the_share_of_a_view_follows_from_how_it_is_drawn() -> None:
    assert (TINY.views.min_scale, TINY.views.max_scale, TINY.views.size_px) == (0.3, 1.0, 32)
    assert TINY.view_share == 0.65
    assert replace(TINY, magnification=2.0).view_share == 0.65 / 4


def test_cutmix_moves_one_rectangle_of_image_and_target_together() -> None:
    torch.manual_seed(1)
    image = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16)
    before = TargetView(image, image[:, 0])
    seen = set()
    for _ in range(40):
        mixed = cutmix(before, 1.0)
        assert torch.equal(mixed.image[:, 0], mixed.target)
        assert torch.equal(mixed.image[:, 2], mixed.target)
        for number in range(4):
            rows, columns = torch.nonzero(mixed.target[number] != number, as_tuple=True)
            if len(rows):
                box = mixed.target[number, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                assert len(box.unique()) == 1
                assert box.numel() == len(rows)
                seen.add(len(rows))
    assert len(seen) > 10
    assert torch.equal(before.target, image[:, 0])


def test_without_cutmix_nothing_is_drawn() -> None:
    view = TargetView(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4))
    state = torch.get_rng_state()
    assert cutmix(view, 0.0) is view
    assert torch.equal(torch.get_rng_state(), state)


def test_a_round_leaves_the_moving_average_of_the_weights(
    scenes: tuple[tuple[ImageRef, ...], SoftMaps], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    original = self_training._WeightAverage.update

    def noted(average: Any, network: SaliencyNetwork) -> None:
        seen.append(network.parts.encoder.model.conv1.weight.detach().clone())
        original(average, network)

    monkeypatch.setattr(self_training._WeightAverage, "update", noted)
    _, weights = _train(scenes, replace(TINY, epochs=3, weight_averaging=0.01))
    assert len(seen) == 7  # before each of 6 steps, and after the last
    expected = seen[0]
    for step, value in enumerate(seen[1:], start=1):
        momentum = min(0.01, step / (step + 100))
        expected = momentum * expected + (1 - momentum) * value
    torch.testing.assert_close(weights, expected)
    assert not torch.equal(weights, seen[-1])


def test_an_fpn_learns_from_reduced_images_that_are_kept(
    scenes: tuple[tuple[ImageRef, ...], SoftMaps], tmp_path: Path
) -> None:
    settings = replace(TINY, decoder="fpn", cutmix=0.5, reduce_images=True)
    losses = []
    for name in ("first", "again"):
        torch.manual_seed(0)
        cache = open_target_cache(tmp_path / name, *scenes, settings.views, 1e9)
        network = SaliencyNetwork("resnet10t", "fpn")
        losses.append(train_saliency_network(make_fabric("fp32"), network, *scenes, settings, 0, cache))
    torch.manual_seed(0)
    network = SaliencyNetwork("resnet10t", "fpn")
    losses.append(train_saliency_network(make_fabric("fp32"), network, *scenes, settings, 0))  # not kept
    assert losses == [losses[0]] * 3
    assert losses[0] < 0.65


def test_nothing_to_learn_from(scenes: tuple[tuple[ImageRef, ...], SoftMaps]) -> None:
    with pytest.raises(InputError, match="none of the images has a soft map to learn from"):
        train_saliency_network(make_fabric("fp32"), SaliencyNetwork("resnet18"), (), scenes[1], TINY, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teachers": ()}, "self_training.teachers is empty; name at least one saliency method, such as fused"),
        ({"rounds": 0}, "self_training.rounds is 0; it must be at least 1"),
        ({"size_px": 16}, "self_training.size_px is 16; a view has 32 to 4096 pixels"),
        ({"teachers": ("fused", "self_trained")}, "names self_trained; a network learns from others, such as fused"),
        ({"weights": Path("w.pth"), "pretrained": True}, r"both weights w\.pth and pretrained true; choose one"),
        ({"min_scale": 0.0}, r"self_training.min_scale is 0.0; it is a share of the image in \(0, 1\]"),
        ({"learning_rate": 0.0}, "self_training.learning_rate is 0.0; it must be positive"),
        ({"kept_share": 0.0}, r"self_training.kept_share is 0.0; it is a share of the images in \(0, 1\]"),
        ({"averaging": 1.0}, r"self_training.averaging is 1.0; it is a share in \[0, 1\)"),
        ({"weight_averaging": 1.0}, r"self_training.weight_averaging is 1.0; it is a share in \[0, 1\)"),
        ({"magnification": 0.9}, r"self_training.magnification is 0.9; it is a factor in \[1, 4\]"),
        ({"cutmix": 1.5}, r"self_training.cutmix is 1.5; it lies in \[0, 1\]"),
        ({"grayscale": -0.1}, r"self_training.grayscale is -0.1; it lies in \[0, 1\]"),
        ({"refine_until": -1}, "self_training.refine_until is -1; it is a round, 0 for none, or null"),
        ({"scales": ()}, r"self_training.scales is \[\]; give 1 to 8 numbers, each 0.25 to 4"),
        ({"scales": (1.0, 5.0)}, r"self_training.scales is \[1.0, 5.0\]"),
        ({"decoder": "linknet"}, "self_training.decoder is 'linknet'; choose unet or fpn"),
        ({"cache_gb": -1.0}, "self_training.cache_gb is -1.0; it must be at least 0"),
    ],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SelfTrainingSettings(**values)  # type: ignore[arg-type]
