"""Stored views: heads trained on features of views that were encoded once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from tiny_training import SETTINGS, changed, draw_images, numbers, train

from densessl.data.image_folder import open_image_folder
from densessl.data.masks import open_mask_folder
from densessl.data.normalisation import normalise_bytes
from densessl.data.view_settings import ViewSettings
from densessl.data.views import PairedViews
from densessl.errors import InputError
from densessl.models.mask_contrast_model import ViewMasks, build_model
from densessl.structures import ViewBatch
from densessl.training import gradients
from densessl.training.devices import make_fabric
from densessl.training.sampler import BatchSampler
from densessl.training.step import training_step
from densessl.training.stored_views import GivenFeatures, StoredViews, one_thread, store_views

ROUNDING = {"rtol": 1e-2, "atol": 1e-3} if torch.cuda.is_available() else {}
"""Stored features come from a GPU where there is one, which multiplies in TF32."""


def _frozen() -> tuple[str, ...]:
    names = {name.split(".")[0] for name, _ in build_model(SETTINGS.model).encoder.backbone.named_parameters()}
    return tuple(sorted(names))


def _settings(num_stored: int = 3, **sections: dict) -> object:
    base = changed(
        model={"embedding_of": "masks", "decoder": "none", "frozen": _frozen(), "batch_norm": "frozen"},
        views={"num_stored": num_stored},
        objective={"saliency_weight": 0.0},
    )
    return changed(base, **sections)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return draw_images(tmp_path)


def _stored(root: Path, folder: Path, num_views: int = 2) -> tuple[StoredViews, PairedViews, torch.nn.Module]:
    images = open_image_folder(root / "images").images
    views = PairedViews(images, open_mask_folder(root / "masks", images), ViewSettings(size_px=32))
    torch.manual_seed(0)
    model = build_model(_settings().model).eval()
    stored = store_views(make_fabric("fp32"), model.encoder, views, folder, num_views, 0, 7)
    return stored, views, model.cpu()


def test_a_stored_feature_is_the_mean_of_the_encoder_over_the_mask(root: Path, tmp_path: Path) -> None:
    stored, views, model = _stored(root, tmp_path / "stored")
    assert stored.features.shape[:2] == (2, 6)
    assert stored.is_usable.all()
    for number, index in ((0, 0), (1, 4)):
        image, mask, _ = views.draw_view(index, np.random.default_rng([7, number, index]))
        with torch.no_grad():
            maps = model.encoder(normalise_bytes(image[None]))[0]  # (channels, h, w)
        share = torch.nn.functional.adaptive_avg_pool2d((mask > 0).float()[None], maps.shape[-2:])[0]
        slow = sum(
            share[row, column] * maps[:, row, column]
            for row in range(share.shape[0])
            for column in range(share.shape[1])
        )
        torch.testing.assert_close(torch.from_numpy(stored.features[number, index]), slow / share.sum(), **ROUNDING)


def test_a_step_on_stored_features_is_that_on_their_views(root: Path, tmp_path: Path) -> None:
    stored, views, model = _stored(root, tmp_path / "stored")
    drawn = [[views.draw_view(i, np.random.default_rng([7, number, i])) for i in range(6)] for number in (0, 1)]
    images = [normalise_bytes(torch.stack([image for image, _, _ in side])) for side in drawn]
    masks = [torch.stack([(mask > 0).long() for _, mask, _ in side]) for side in drawn]
    stems = stored.stems
    batch = ViewBatch(images[0], masks[0], images[1], masks[1], stems)
    ones = torch.ones(6, 1, 1, dtype=torch.long)
    features = [torch.from_numpy(stored.features[number])[:, :, None, None] for number in (0, 1)]
    given = ViewBatch(features[0], ones, features[1], ones, stems)
    fabric, queue = Fabric(accelerator="cpu", devices=1), torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    objective = _settings().objective

    def loss(of: ViewBatch) -> torch.Tensor:
        return training_step(fabric, model, model, queue, of, objective, "masks").term.loss

    with_images = loss(batch)
    model.encoder = GivenFeatures()
    torch.testing.assert_close(loss(given), with_images, **ROUNDING)


def test_views_of_a_pair_differ_and_come_from_neighbours() -> None:
    features = np.arange(3 * 4, dtype=np.float32).reshape(3, 4, 1)  # value = 4 view + image
    usable = np.ones((3, 4), dtype=bool)
    usable[0, 1] = False
    usable[:, 3] = False
    stems = ("a", "b", "c", "d")
    alone = StoredViews(features, usable, None, stems)
    beside = StoredViews(features, usable, np.array([[1], [2], [0], [0]]), stems)
    for stored in (alone, beside):
        num_replaced = 0
        for batch, replaced in stored.batches(BatchSampler(4, 4, 20, 0), torch.device("cpu")):
            num_replaced += replaced
            query, key = (values.flatten().numpy().astype(int) for values in (batch.query_images, batch.key_images))
            for stem, one, other in zip(batch.stems, query, key, strict=True):
                image = stems.index(stem)
                assert one % 4 == image
                assert usable[one // 4, one % 4]
                assert usable[other // 4, other % 4]
                if stored is alone:
                    assert other % 4 == image
                    assert other != one
                else:
                    assert other % 4 == {0: 1, 1: 2, 2: 0}[image]
        assert num_replaced >= 20  # the image without a usable view is passed over in every epoch


def test_images_without_usable_views_are_an_error() -> None:
    stored = StoredViews(np.zeros((2, 2, 1), np.float32), np.zeros((2, 2), bool), None, ("a", "b"))
    with pytest.raises(InputError, match=r"no pair of usable stored views.*'[ab]'"):
        next(stored.batches(BatchSampler(2, 2, 1, 0), torch.device("cpu")))


def test_a_run_keeps_the_encoder_and_trains_the_head(root: Path) -> None:
    result = train(root, root / "run", _settings())
    first, last = (load_file(root / "run" / f"{name}.safetensors") for name in ("initial", "final"))
    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) for name in first if name.startswith("encoder."))
    assert not torch.equal(first["embedding_head.weight"], last["embedding_head.weight"])
    assert result.num_steps == 6
    assert (root / "run" / "stored_views" / "view-2.npz").is_file()
    assert not any("foreground_share" in line for line in numbers(root / "run"))  # or it would be an alarm each time


def test_a_cut_off_run_repeats_every_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings()
    train(root, root / "whole", settings)
    step, calls = gradients.training_step, []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(gradients, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(root, root / "run", settings)
    (root / "run" / "stored_views" / "view-1.npz").unlink()  # as if it had been cut off while encoding
    train(root, root / "run", settings, resume=True)
    assert numbers(root / "run") == numbers(root / "whole")
    one, other = (load_file(root / name / "final.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_evaluation_sees_the_whole_network(root: Path) -> None:
    settings = _settings(training={"evaluate_every": 1})

    def judge(model: torch.nn.Module) -> dict[str, float]:
        images = torch.zeros(1, 3, 32, 32, device=next(model.parameters()).device)
        return {"channels": float(model(images).encoder.shape[1])}

    train(root, root / "run", settings, evaluate=judge)
    judged = [line["channels"] for line in numbers(root / "run") if "channels" in line]
    assert judged == [build_model(settings.model).encoder.num_channels] * 3


def test_one_thread_works_and_the_number_comes_back() -> None:
    before = torch.get_num_threads()
    with one_thread(torch.device("cpu")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_views_of_something_else_are_encoded_again(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = _stored(root, tmp_path / "stored")
    capsys.readouterr()
    again, *_ = _stored(root, tmp_path / "stored")
    assert "again" not in capsys.readouterr().err
    assert np.array_equal(first.features, again.features)
    fewer, *_ = _stored(draw_images(tmp_path / "fewer", num=3), tmp_path / "stored")
    assert "holds views of other images, masks; they are encoded again" in capsys.readouterr().err
    assert fewer.features.shape[1] == 3
    (tmp_path / "stored" / "views.json").unlink()
    _stored(tmp_path / "fewer", tmp_path / "stored")
    assert "they are encoded again" in capsys.readouterr().err


def test_an_encoder_that_is_trained_is_refused(root: Path) -> None:
    settings = _settings(model={"frozen": _frozen()[1:]})
    with pytest.raises(InputError, match=r"tensors of the encoder are trained \(such as .*model\.frozen"):
        train(root, root / "run", settings)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"embedding_of": "pixels"}}, "model.embedding_of is pixels.*use masks"),
        ({"model": {"decoder": "deeplabv3"}}, "model.decoder is deeplabv3.*use none"),
        ({"objective": {"saliency_weight": 1.0}}, "objective.saliency_weight is 1.0.*use 0.0"),
        ({"training": {"batch_size": 0}}, "training.batch_size is 0"),
        ({"views": {"num_stored": 1}}, "views.num_stored is 1"),
        ({"views": {"num_stored": -1}}, "views.num_stored is -1"),
        ({"views": {"split_instances": True}}, "views.num_stored is 3 and views.split_instances true"),
        ({"views": {"num_local": 2, "local_size_px": 16}}, "views.num_stored is 3 and views.num_local 2"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(sections: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _settings(**sections)


def test_masks_are_pooled_by_area() -> None:
    """`masked_mean` is what the stored features and the network's own pooling share."""
    from densessl.models.mask_contrast_model import masked_mean

    maps = torch.tensor([[[[1.0, 3.0]]]])
    mask = torch.zeros(1, 2, 4, dtype=torch.bool)
    mask[0, :, 1:] = True
    assert masked_mean(maps, ViewMasks(mask, torch.zeros(1, dtype=torch.long))).item() == pytest.approx(7 / 3)
