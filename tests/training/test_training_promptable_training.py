"""Promptable training in miniature: it learns, resumes to the same bits, stores features, and keeps what is frozen."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_processes, start
from tiny_promptable import INTERACTION, MODEL, TRAINING, build, train, train_part
from tiny_training import draw_images, numbers

from densessl.errors import InputError
from densessl.promptable.promptable_model import PromptableModel, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.vision_transformer import VisionTransformerShape
from densessl.training import promptable_steps, promptable_training, training_loop
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.interaction import InteractionResult
from densessl.training.promptable_settings import InteractionSettings, PromptableTrainingSettings
from densessl.training.promptable_training import build_optimizer
from densessl.training.run_log import read_metrics


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("promptable") / "set")


def _same(first: PromptableModel, second: PromptableModel) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def _changed(**values: Any) -> PromptableTrainingSettings:
    return dataclasses.replace(TRAINING, **values)


def test_training_raises_the_iou_of_the_masks(root: Path, tmp_path: Path) -> None:
    result, _ = train(root, tmp_path, _changed(epochs=40, checkpoint_every=0))
    lines = read_metrics(tmp_path)
    assert result.num_steps == 80
    assert [line["step"] for line in lines] == list(range(1, 81))
    first, last = (sum(line["last_iou"] for line in part) / len(part) for part in (lines[:10], lines[-10:]))
    assert last > first + 0.2
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert result.final_loss == lines[-1]["loss"]


class _PowerCutError(Exception):
    """Ends a run in the middle of a step."""


@pytest.mark.parametrize("values", [{}, {"trained_encoder": "neck", "cache_gb": 1e-3}])
def test_an_interrupted_run_repeats_every_bit(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    """The next twenty losses are those that the run would have had."""
    training = _changed(epochs=13, **values)
    _, whole = train(root, tmp_path / "whole", training)
    take, counted = promptable_steps.PromptableSteps.take_step, []

    def cut(steps: promptable_steps.PromptableSteps, batch: Any) -> float:
        counted.append(1)
        if len(counted) == 6:
            raise _PowerCutError
        return take(steps, batch)

    monkeypatch.setattr(promptable_steps.PromptableSteps, "take_step", cut)
    with pytest.raises(_PowerCutError):
        train(root, tmp_path / "cut", training)
    monkeypatch.undo()
    assert load_checkpoint(list_checkpoints(tmp_path / "cut/checkpoints")[-1], "densessl-promptable-1")["step"] == 4
    _, resumed = train(root, tmp_path / "cut", training, resume=True)
    assert len(numbers(tmp_path / "cut")) == 26
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")
    assert _same(resumed, whole)


def _train_for_long(root: Path, run: Path) -> None:
    train(root, run, _changed(epochs=200), resume=True)


@pytest.mark.slow
def test_a_killed_run_goes_on(root: Path, tmp_path: Path) -> None:
    process, _ = start(_train_for_long, root, tmp_path / "killed")
    deadline = time.monotonic() + 120
    while len(read_metrics(tmp_path / "killed")) < 30 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    done = len(read_metrics(tmp_path / "killed"))
    assert 30 <= done < 400
    short = _changed(epochs=200, log_every=1)
    train(root, tmp_path / "killed", short, resume=True)
    train(root, tmp_path / "whole", short)
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_stored_features_change_nothing(root: Path, tmp_path: Path, share: float) -> None:
    """Not even where some of the images find no place."""
    training = _changed(trained_encoder="neck", keep_checkpoints=1)
    interaction = dataclasses.replace(INTERACTION, flip=True)
    _, plain = train(root, tmp_path / "plain", training, interaction)
    bytes_per_image = 2 * 2 * 96 * 3 * 3
    cached = dataclasses.replace(training, cache_gb=6 * share * bytes_per_image / 1e9, cache=tmp_path / "features")
    _, stored = train(root, tmp_path / "stored", cached, interaction)
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2
    tolerance = {"rtol": 1e-4, "atol": 1e-5}  # encoded in batches of other sizes, whose sums round otherwise
    for name, value in stored.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], **tolerance)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").glob("*.npy")}
    _, again = train(root, tmp_path / "again", cached, interaction)
    assert _same(again, stored)
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "features").glob("*.npy")}


def test_the_runs_own_store_goes_when_it_ends(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path, _changed(epochs=1, trained_encoder="none", cache_gb=0.1))
    assert not (tmp_path / "features").exists()


def test_a_folder_of_that_name_stays_where_nothing_is_stored(root: Path, tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    train(root, tmp_path, _changed(epochs=1))
    assert (tmp_path / "features").exists()


def test_features_of_other_weights_are_replaced_and_no_other_file(root: Path, tmp_path: Path) -> None:
    cached = _changed(epochs=1, trained_encoder="neck", cache_gb=0.1, cache=tmp_path / "features")
    train(root, tmp_path / "run", cached)
    chunk, theirs = tmp_path / "features" / "0-0000000.npy", tmp_path / "features" / "theirs.npy"
    before = chunk.read_bytes()
    theirs.write_bytes(b"an array")
    torch.manual_seed(1)
    train(root, tmp_path / "other", cached, model=build_promptable_model(MODEL))
    assert chunk.read_bytes() != before
    assert theirs.read_bytes() == b"an array"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("theirs.npy", "is not empty and has no features.json"),
        ("0-0000000.npy", "is not empty and has no features.json"),
        ("features.json", "is no record of stored features"),
    ],
)
def test_a_cache_that_holds_something_else_is_refused(root: Path, tmp_path: Path, name: str, message: str) -> None:
    theirs = tmp_path / "features" / name
    theirs.parent.mkdir()
    theirs.write_text('{"encoder": "resnet18"}')
    cached = _changed(epochs=1, trained_encoder="none", cache_gb=0.1, cache=theirs.parent)
    with pytest.raises(InputError, match=message):
        train(root, tmp_path / "run", cached)
    assert theirs.read_text() == '{"encoder": "resnet18"}'
    assert [path.name for path in theirs.parent.iterdir()] == [name]


@pytest.mark.parametrize("trained", ["all", "neck", "none"])
def test_what_is_not_trained_stays_as_it_is(root: Path, tmp_path: Path, trained: str) -> None:
    first = build()
    _, model = train(root, tmp_path, _changed(epochs=1, trained_encoder=trained))
    before = first.state_dict()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    in_backbone = {name for name in moved if name.startswith("image_encoder.encoder.")}
    in_neck = {name for name in moved if name.startswith("image_encoder.")} - in_backbone
    assert (bool(in_backbone), bool(in_neck)) == {"all": (True, True), "neck": (False, True), "none": (False, False)}[
        trained
    ]
    assert any(name.startswith("mask_decoder.") for name in moved)
    assert "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix" not in moved


def test_the_rate_of_the_encoder_is_not_that_of_the_layers_behind_it() -> None:
    """The neck of a timm backbone is new, however good the backbone's weights are."""
    model = build()
    optimizer = build_optimizer(model, _changed(encoder_lr_scale=0.1))
    scale_of = {id(value): group["lr_scale"] for group in optimizer.param_groups for value in group["params"]}
    slow = {name for name, value in model.named_parameters() if scale_of[id(value)] == 0.1}
    assert slow == {name for name, _ in model.named_parameters() if name.startswith("image_encoder.encoder.")}


@pytest.mark.parametrize(("batch_norm", "is_frozen"), [("frozen", True), ("batch", False), ("auto", False)])
def test_batch_norm_keeps_its_statistics_where_asked(
    root: Path, tmp_path: Path, batch_norm: str, is_frozen: bool
) -> None:
    _, model = train(root, tmp_path, _changed(epochs=1, batch_norm=batch_norm))
    means = [value for name, value in model.state_dict().items() if name.endswith("running_mean")]
    assert all((value == 0).all() for value in means) == is_frozen


def test_a_loss_that_is_no_number_stops_with_a_remedy(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = promptable_training.Interaction.forward, []

    def broken(*arguments: Any) -> InteractionResult:
        calls.append(1)
        result = forward(*arguments)
        return result._replace(loss=result.loss * math.nan) if len(calls) == 4 else result

    monkeypatch.setattr(promptable_training.Interaction, "forward", broken)
    message = r"loss became nan at step 4 \(masks .* kept. Lower training.learning_rate \(now 0.003\)"
    with pytest.raises(InputError, match=message):
        train(root, tmp_path)
    assert load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1], "densessl-promptable-1")["step"] == 2


def test_checkpoints_of_another_kind_or_shape_are_told(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path, _changed(epochs=1))
    path = list_checkpoints(tmp_path / "checkpoints")[-1]
    with pytest.raises(InputError, match="not a checkpoint of densessl pretraining"):
        load_checkpoint(path)
    other = build(dataclasses.replace(MODEL, dim=32))
    with pytest.raises(InputError, match="belongs to another architecture"):
        train(root, tmp_path, model=other, resume=True)


def test_a_checkpoint_with_other_groups_of_the_optimiser_is_told(root: Path, tmp_path: Path) -> None:
    """Earlier versions counted the neck with the encoder; the network is the same."""
    train(root, tmp_path, _changed(epochs=1))
    path = list_checkpoints(tmp_path / "checkpoints")[-1]
    content = torch.load(path, weights_only=True)
    first, second, *_ = content["optimizer"]["param_groups"]
    first["params"].append(second["params"].pop(0))
    torch.save(content, path)
    message = r"after step 2 has other groups of parameters in its optimiser \(\[.*begun by an earlier version, or with"
    with pytest.raises(InputError, match=message):
        train(root, tmp_path, resume=True)


def test_a_vision_transformer_has_no_neck_of_its_own(root: Path, tmp_path: Path) -> None:
    vit = PromptableSettings(
        "vision_transformer", 48, dim=16, vision_transformer=VisionTransformerShape(16, 1, 2, (0,), 16, window=3)
    )
    with pytest.raises(InputError, match="trained_encoder is neck, but encoder vision_transformer is no timm backbone"):
        train(root, tmp_path, _changed(trained_encoder="neck"), model=build(vit))
    _, model = train(root, tmp_path, _changed(epochs=1, trained_encoder="none", cache_gb=0.1), model=build(vit))
    assert model.settings == vit


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
@pytest.mark.slow
def test_two_processes_train_one_model_and_resume_exactly(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 8)
    first, second = run_processes(2, train_part, root, tmp_path / "run", 4)
    assert all(torch.equal(value, second[name]) for name, value in first.items() if "running" not in name)
    assert [line["step"] for line in numbers(tmp_path / "run")] == list(range(1, 9))
    lines = numbers(tmp_path / "run")
    list_checkpoints(tmp_path / "run/checkpoints")[-1].unlink()
    again, _ = run_processes(2, train_part, root, tmp_path / "run", 4, True)
    assert numbers(tmp_path / "run") == lines
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (InteractionSettings, {"box_share": 1.5}, r"interaction.box_share is 1.5; a probability"),
        (InteractionSettings, {"middle_share": -0.5}, r"interaction.middle_share is -0.5; a probability"),
        (InteractionSettings, {"objects_per_image": 65}, "objects_per_image is 65; at most 64 objects of an image"),
        (InteractionSettings, {"prompts_per_object": 0}, "interaction.prompts_per_object is 0; it must be at least 1"),
        (InteractionSettings, {"num_points": 0, "num_refinements": 0}, "both 0, so that the single mask"),
        (PromptableTrainingSettings, {"learning_rate": 0.0}, "training.learning_rate is 0.0; it must be positive"),
        (PromptableTrainingSettings, {"epochs": 0}, "training.epochs is 0; it must be at least 1"),
        (PromptableTrainingSettings, {"cache_gb": 1.0}, "set trained_encoder to neck or none, or cache_gb to 0"),
        (PromptableTrainingSettings, {"cache": Path("x")}, "training.cache is x, but training.cache_gb is 0"),
    ],
)
def test_settings_out_of_range_are_told(settings: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**values)


def test_the_defaults_are_the_published_ones() -> None:
    interaction, training = InteractionSettings(), PromptableTrainingSettings()
    assert (interaction.num_points, interaction.num_refinements) == (8, 2)
    assert (interaction.focal_weight, interaction.dice_weight, interaction.iou_weight) == (20, 1, 1)
    assert (interaction.noise.share, interaction.noise.max_px) == (0.1, 20)
    assert (training.learning_rate, training.warmup_steps, training.weight_decay) == (8e-4, 250, 0.1)


def test_the_loop_is_the_one_of_pretraining() -> None:
    assert promptable_training.run_steps is training_loop.run_steps
