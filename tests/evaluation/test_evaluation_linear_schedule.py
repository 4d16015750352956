"""The linear probe of the published schedule: its steps against plain PyTorch, batches, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled_arrays import ArraySource, planted

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes
from densessl.evaluation.labelled_protocols import LINEAR, LinearScheduleSettings
from densessl.evaluation.linear_probe import predict_with_probe
from densessl.evaluation.linear_schedule import (
    FeatureBatch,
    cached_batches,
    fit_scheduled_probe,
    learning_rate_at,
    upsampled_cross_entropy,
)
from densessl.structures import IGNORE

CLASSES = Classes((0, 2, 3), 5)
SHORT = LinearScheduleSettings(epochs=4, batch_size=2, decay_after=1)


def test_the_defaults_are_the_published_schedule() -> None:
    settings = LINEAR.settings
    assert isinstance(settings, LinearScheduleSettings)
    assert (settings.epochs, settings.batch_size, settings.momentum, settings.weight_decay) == (60, 16, 0.9, 1e-4)
    rates = [learning_rate_at(settings, epoch) for epoch in range(60)]
    assert rates == pytest.approx([0.1] * 26 + [0.01] * 34)  # lowered after epoch 25, counted from 0


def test_the_loss_image_by_image_is_that_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(-1, 4, (3, 20, 30), generator=generator)
    targets[1] = -1
    loss = torch.nn.functional.cross_entropy(
        torch.nn.functional.interpolate(logits, (20, 30), mode="bilinear"), targets, ignore_index=-1
    )
    loss.backward()
    value, gradient = upsampled_cross_entropy(logits.detach(), targets)
    assert value == pytest.approx(float(loss.detach()), rel=1e-6)
    torch.testing.assert_close(gradient, logits.grad)


def test_steps_equal_plain_pytorch() -> None:
    source, labels = planted(4, (0, 2, 3, 4))
    batches = cached_batches(source, labels.__getitem__, 2, seed=5)
    progress: list[tuple[int, float]] = []
    fit = fit_scheduled_probe(batches, CLASSES, SHORT, 7, progress=lambda *given: progress.append(given))
    torch.manual_seed(7)
    layer = torch.nn.Conv2d(5, 3, 1)
    layer.weight.data = 0.01 * torch.randn(3, 5, 1, 1, generator=torch.Generator().manual_seed(7))
    layer.bias.data.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    column = torch.full((256,), 255)
    column[[0, 2, 3]] = torch.arange(3)
    losses = []
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 if epoch <= 1 else 0.01
        order = np.random.default_rng([5, epoch]).permutation(4)
        of_epoch = []
        for chosen in (order[:2], order[2:]):
            features = torch.stack([torch.from_numpy(source.maps[i]) for i in chosen])
            targets = torch.stack([torch.from_numpy(labels[i]) for i in chosen])
            logits = torch.nn.functional.interpolate(layer(features), size=targets.shape[1:], mode="bilinear")
            loss = criterion(logits, column[targets])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            of_epoch.append(float(loss.detach()))
        losses.append(np.mean(of_epoch))
    assert fit.losses == pytest.approx(losses, rel=1e-5)
    assert fit.probe.weight == pytest.approx(layer.weight.detach().flatten(1).numpy(), abs=1e-5)
    assert fit.probe.bias == pytest.approx(layer.bias.detach().numpy(), abs=1e-5)
    assert (fit.num_steps, fit.notes) == (8, ())
    assert progress == list(enumerate(fit.losses))


def test_it_learns_and_repeats_itself() -> None:
    source, labels = planted(8, (0, 2, 3), noise=0.2)
    settings = replace(SHORT, epochs=30, decay_after=20, batch_size=4)
    fits = [
        fit_scheduled_probe(cached_batches(source, labels.__getitem__, 4, 0), CLASSES, settings, 0) for _ in range(2)
    ]
    assert np.array_equal(fits[0].probe.weight, fits[1].probe.weight)
    assert fits[0].losses[-1] < 0.5 * fits[0].losses[0]
    right = [
        (predict_with_probe(fits[0].probe, image, one.shape) == one)[one != IGNORE].mean()
        for image, one in zip(source.maps, labels, strict=True)
    ]
    assert np.mean(right) > 0.7


def test_fresh_forward_passes_leave_no_gradient_in_the_encoder() -> None:
    encoder = torch.nn.Conv2d(3, 4, 1)

    def of_epoch(epoch: int) -> Iterator[FeatureBatch]:
        images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(epoch))
        yield FeatureBatch(encoder(images), torch.randint(0, 2, (2, 8, 8), dtype=torch.uint8))

    fit = fit_scheduled_probe(of_epoch, Classes((0, 1), 2), SHORT, 0)
    assert fit.num_steps == 4
    assert encoder.weight.grad is None


def test_cached_batches_drop_the_last_and_take_few_images_together() -> None:
    source, labels = planted(5, (0, 1))
    batches = list(cached_batches(source, labels.__getitem__, 2, 0)(3))
    assert [batch.features.shape for batch in batches] == [(2, 5, 3, 4)] * 2
    assert batches[0].targets.shape == (2, 12, 16)
    stems = [stem for batch in batches for stem in batch.stems]
    assert len(set(stems)) == 4
    assert stems != [stem for batch in cached_batches(source, labels.__getitem__, 2, 0)(4) for stem in batch.stems]
    (whole,) = cached_batches(source, labels.__getitem__, 16, 0)(0)
    assert len(whole.features) == 5


def test_label_maps_of_two_sizes() -> None:
    source, labels = planted(2, (0, 1))
    labels[1] = labels[1][:5]
    with pytest.raises(InputError, match=r"label maps of images 'image.' and 'image.' have shapes .* needs one size"):
        next(iter(cached_batches(source, labels.__getitem__, 2, 0)(0)))


def test_an_absent_class_has_no_row_and_a_batch_without_labels_makes_no_step() -> None:
    source, labels = planted(4, (0, 2))
    labels[1] = np.full_like(labels[1], IGNORE)
    settings = replace(SHORT, batch_size=1)
    fit = fit_scheduled_probe(cached_batches(source, labels.__getitem__, 1, 0), Classes((1, 2, 0), 5), settings, 0)
    assert fit.num_steps == 12
    assert fit.notes == ("classes [1] have no training pixel and are never predicted",)
    assert fit.probe.classes.labels == (2, 0)
    assert fit.probe.weight.shape == (2, 5)


def test_bad_input() -> None:
    source, labels = planted(4, (0, 2))
    fit = lambda data, one: fit_scheduled_probe(cached_batches(data, one.__getitem__, 2, 0), CLASSES, SHORT, 0)  # noqa: E731
    with pytest.raises(InputError, match=r"no pixel of epoch 1 is labelled with one of the classes \[0, 2, 3\]"):
        fit(source, [np.full_like(one, IGNORE) for one in labels])
    with pytest.raises(InputError, match=r"image 'image[0-3]' has label 5; labels are 0-4"):
        fit(source, [np.where(one == 2, 5, one) for one in labels])
    broken = ArraySource(tuple(image.copy() for image in source.maps))
    broken.maps[2][0, 0, 0] = np.inf
    with pytest.raises(InputError, match="features of image 'image2' hold NaN or infinity in 1 of 12 cells"):
        fit(broken, labels)
    with pytest.raises(InputError, match=r"features \(2, 5\) and targets \(2, 4, 4\); they are"):
        fit_scheduled_probe(
            lambda _: [FeatureBatch(torch.zeros(2, 5), torch.zeros(2, 4, 4, dtype=torch.int64))], CLASSES, SHORT, 0
        )
    with pytest.raises(InputError, match=r"became (nan|inf) in epoch 1; lower linear.learning_rate"):
        fit_scheduled_probe(
            cached_batches(ArraySource(tuple(1e20 * image for image in source.maps)), labels.__getitem__, 2, 0),
            CLASSES,
            replace(SHORT, learning_rate=1e20),
            0,
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "linear.epochs is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "linear.learning_rate is 0.0; it must be positive"),
        ({"momentum": 1.5}, r"linear.momentum is 1.5; it lies in \[0, 1\]"),
    ],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LinearScheduleSettings(**values)  # type: ignore[arg-type]
