"""Fine-tuning: rates by stage, learning on a tiny set, resuming to the same weights, what is refused."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.errors import InputError
from densessl.models.encoder_stages import encoder_stages
from densessl.models.segmentation_network import SegmentationNetwork
from densessl.structures import IGNORE, ImageRef, LabelMap
from densessl.training.devices import make_fabric
from densessl.training.finetuning import (
    FinetuneOutcome,
    FinetuneSettings,
    build_staged_optimizer,
    finetune_network,
)

TINY = FinetuneSettings(epochs=4, size_px=32, batch_size=2, num_workers=0, learning_rate=1e-2)
CLASSES = (0, 7, 9)


@pytest.fixture(autouse=True, scope="module")
def _single_threaded() -> Iterator[None]:
    """Compute on one core: networks as small as these only wait for each other on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Labels:
    """Label maps in memory."""

    maps: dict[str, LabelMap]

    def __call__(self, ref: ImageRef) -> LabelMap:
        return self.maps[ref.stem]


Scenes = tuple[tuple[ImageRef, ...], Labels]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """Four noisy photographs with a rectangle, bright (class 7) or red (class 9), on a dark ground (class 0)."""
    folder, generator = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    images, maps = [], {}
    for number in range(4):
        labels = np.zeros((40, 56), dtype=np.int64)
        labels[8:30, 10 + 5 * number : 30 + 5 * number] = 7 + 2 * (number % 2)
        pixels = generator.integers(0, 90, (40, 56, 3))
        pixels[labels == 7] += 150
        pixels[labels == 9, 0] += 150
        labels[:2], labels[2] = IGNORE, 4
        path = folder / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        images.append(ImageRef(str(number), path))
        maps[str(number)] = labels
    return tuple(images), Labels(maps)


def _network(decoder: str = "linear", name: str = "resnet10t") -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(name, decoder, 8, 3)  # type: ignore[arg-type]


def _train(
    scenes: Scenes, settings: FinetuneSettings, checkpoint: Path | None = None
) -> tuple[FinetuneOutcome, SegmentationNetwork]:
    network = _network(settings.decoder)
    outcome = finetune_network(make_fabric("fp32"), network, *scenes, CLASSES, settings, 0, checkpoint)
    return outcome, network.cpu()


def test_rates_fall_from_the_last_stage_to_the_first() -> None:
    network = _network()
    optimizer, scales = build_staged_optimizer(network, replace(TINY, encoder_lr_scale=0.5, stage_decay=0.5))
    assert scales == pytest.approx([0.5 * 0.5**power for power in (4, 3, 2, 1, 0)])
    assert [group["lr_scale"] for group in optimizer.param_groups] == [*scales, 1.0]
    counted = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    assert counted == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("trained", "expected"), [(0, 0), (2, 2), (5, 5), (-1, 5), (99, 5)])
def test_only_the_last_stages_need_a_gradient(trained: int, expected: int) -> None:
    network = _network("deeplabv3")
    _, scales = build_staged_optimizer(network, replace(TINY, trained_stages=trained))
    learns = [all(parameter.requires_grad for parameter in stage) for stage in encoder_stages(network)]
    assert learns == [False] * (5 - expected) + [True] * expected
    assert [scale > 0 for scale in scales] == learns
    assert all(parameter.requires_grad for parameter in network.body.decoder.parameters())


def test_it_learns_and_repeats_itself(scenes: Scenes) -> None:
    settings = replace(TINY, epochs=12, encoder_lr_scale=1.0)
    outcome, network = _train(scenes, settings)
    again, same = _train(scenes, settings)
    assert outcome.losses[-1] < 0.6 * outcome.losses[0]
    assert outcome.losses == again.losses
    assert outcome.notes == ()
    for value, other in zip(network.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("decoder", ["linear", "deeplabv3", "unet"])
def test_frozen_stages_and_batch_norm_stay_as_they_are(decoder: str, scenes: Scenes) -> None:
    settings = replace(TINY, epochs=1, trained_stages=1, decoder=decoder)
    before = _network(decoder).state_dict()
    _, network = _train(scenes, settings)
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    in_encoder = {name for name in moved if name.startswith("body.encoder.")}
    assert moved > in_encoder
    assert in_encoder
    assert all(".layer4." in name for name in in_encoder)
    for name, value in network.named_buffers():
        if name.startswith("body.encoder."):
            assert torch.equal(value, before[name])


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(scenes: Scenes, tmp_path: Path) -> None:
    settings = replace(TINY, decoder="deeplabv3")  # it has dropout
    whole, expected = _train(scenes, settings)
    checkpoint = tmp_path / "finetune.pt"

    class Cut(Exception):
        pass

    def cut(epoch: int, loss: float) -> None:
        if epoch == 1:
            raise Cut

    with pytest.raises(Cut):
        finetune_network(
            make_fabric("fp32"), _network("deeplabv3"), *scenes, CLASSES, settings, 0, checkpoint, progress=cut
        )
    seen: list[int] = []
    network = _network("deeplabv3")
    outcome = finetune_network(
        make_fabric("fp32"), network, *scenes, CLASSES, settings, 0, checkpoint, lambda epoch, _: seen.append(epoch)
    )
    assert seen == [2, 3]
    assert outcome.losses == whole.losses
    for value, other in zip(network.cpu().state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(value, other)
    with pytest.raises(InputError, match=r"finetune\.pt belongs to another training"):
        _train(scenes, replace(settings, weight_decay=0.0), checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"finetune\.pt is cut off"):
        _train(scenes, settings, checkpoint)


def test_a_class_without_training_pixels_is_said(scenes: Scenes) -> None:
    network = SegmentationNetwork("resnet10t", "linear", 8, 4)
    classes = (0, 7, 9, 3)
    outcome = finetune_network(make_fabric("fp32"), network, *scenes, classes, replace(TINY, epochs=1), 0)
    assert outcome.notes == ("classes [3] have no training pixel; their logits learned only to be low",)


def test_bad_input(scenes: Scenes) -> None:
    images, labels = scenes
    settings = replace(TINY, epochs=1)
    fit = lambda *given: finetune_network(make_fabric("fp32"), _network(), *given, settings, 0)  # noqa: E731
    with pytest.raises(InputError, match="there is no training image"):
        fit((), labels, CLASSES)
    with pytest.raises(InputError, match=r"no pixel of epoch 1 is labelled with one of the classes \[1, 2, 3\]"):
        fit(images, labels, (1, 2, 3))
    with pytest.raises(InputError, match=r"image '\d' has label 300; labels are 0-255"):
        fit(
            images,
            Labels({stem: np.where(one == 7, 300, one + 0) + (one == 9) * 291 for stem, one in labels.maps.items()}),
            CLASSES,
        )
    with pytest.raises(InputError, match=r"the loss became (nan|inf) at step \d of fine-tuning; lower finetune"):
        finetune_network(make_fabric("fp32"), _network(), *scenes, CLASSES, replace(TINY, learning_rate=1e30), 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "finetune.epochs is 0; it must be at least 1"),
        ({"trained_stages": -2}, "finetune.trained_stages is -2; it must be at least -1"),
        ({"stage_decay": 0.0}, r"finetune.stage_decay is 0.0; it lies in \(0, 1\]"),
        ({"size_px": 16}, "finetune.size_px is 16; a view has 32 to 4096 pixels"),
        ({"jitter": 2.0}, r"finetune.jitter is 2.0; a probability"),
        ({"learning_rate": 0.0}, "finetune.learning_rate is 0.0; it must be positive"),
    ],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FinetuneSettings(**values)  # type: ignore[arg-type]
