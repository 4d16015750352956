"""`pretrain --objective dino`: its run folder, what other commands make of it, resuming, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tiny_runs import DrawnFolder, command

from densessl.commands.encoder import EncoderSettings, open_encoder, trainable_encoder
from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.normalisation import normalise_image
from densessl.errors import InputError
from densessl.models.dense_encoder import TimmSource, timm_encoder
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.run_folder import load_run_model

CPU = torch.device("cpu")
TINY_DINO = (
    *("--objective", "dino", "--model.encoder", "test_vit", "--training.epochs", "2", "--training.batch_size", "4"),
    *("--training.num_workers", "0", "--training.precision", "fp32", "--training.log_every", "1"),
    *("--dino.head.num_outputs", "16", "--dino.head.hidden_dim", "24", "--dino.head.bottleneck_dim", "8"),
    *("--dino.crops.global_size_px", "32", "--dino.crops.num_local", "2", "--dino.crops.local_size_px", "16"),
    *("--dino.schedule.warmup_epochs", "1", "--dino.distillation.teacher_warmup_epochs", "0"),
)


@pytest.fixture(scope="module")
def dino(drawn: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on eight images, four steps; read only."""
    run = tmp_path_factory.mktemp("dino") / "run"
    outcome = command("pretrain", "--images", drawn.images, "--out", run, *TINY_DINO)
    assert (outcome.status, outcome.out) == (0, ""), outcome.err
    assert "8 of 8 images can be read; no mask and no label is used" in outcome.err
    assert f"--encoder test_vit --weights of the other commands: {run / 'final.safetensors'}" in outcome.err
    return run


def test_run_folder(dino: Path, drawn: DrawnFolder) -> None:
    config = yaml.safe_load((dino / "config.yaml").read_text())
    assert tuple(config) == ("images", "data", "split", "seed", "model", "objective", "dino", "training")
    assert (config["images"], config["objective"]["method"]) == (str(drawn.images), "dino")
    record = json.loads((dino / "run.json").read_text())
    assert (record["num_images"], record["num_steps"], record["finished"]) == (8, 4, True)
    assert record["provenance"]["backbone"] == "none (random weights)"
    assert record["provenance"]["masks"] == "none (dino sees images alone)"
    assert record["cpu_minutes"] >= 0
    lines = [json.loads(line) for line in (dino / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    expected = {"loss", "teacher_entropy", "kl_divergence", "learning_rate", "weight_decay", "teacher_momentum"}
    assert expected <= set(lines[0])


def test_config_of_a_run_is_accepted_unchanged(dino: Path, tmp_path: Path) -> None:
    outcome = command("pretrain", "--config", dino / "config.yaml", "--out", tmp_path / "again")
    assert outcome.status == 0, outcome.err
    for name in ("config.yaml", "final.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (dino / name).read_bytes()


def test_a_run_goes_on(drawn: DrawnFolder, dino: Path, tmp_path: Path) -> None:
    words = ("pretrain", "--images", drawn.images, "--out", tmp_path / "run", *TINY_DINO)
    assert command(*words, "--training.checkpoint_every", "1").status == 0
    last = list_checkpoints(tmp_path / "run/checkpoints")[-1]
    last.unlink()
    refused = command(*words, "--training.checkpoint_every", "1")
    assert "already holds a run; add --resume true" in refused.err
    other = command(*words, "--training.checkpoint_every", "1", "--resume", "true", "--dino.head.num_outputs", "9")
    assert "dino.head.num_outputs: 16 in the run, 9 now" in other.err
    outcome = command(*words, "--training.checkpoint_every", "1", "--resume", "true")
    assert outcome.status == 0, outcome.err
    assert load_checkpoint(last, "densessl-dino-1")["step"] == 4
    assert (tmp_path / "run/final.safetensors").read_bytes() == (dino / "final.safetensors").read_bytes()


def test_attention_draws_its_heads(dino: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    places = ("--images", drawn.images, "--masks", drawn.masks, "--out", tmp_path / "out", "--image_size", "64")
    outcome = command("attention", "--encoder", "test_vit", "--weights", dino / "final.safetensors", *places)
    assert outcome.status == 0, outcome.err
    assert "format: densessl run" in outcome.err
    assert json.loads((tmp_path / "out/attention.json").read_text())["head_ious"]


def test_a_run_is_an_encoder_of_other_commands(dino: Path, drawn: DrawnFolder) -> None:
    photo = read_image(open_image_folder(drawn.images).images[0].path)
    images = normalise_image(photo)[None]
    source = TimmSource("test_vit", weights=dino / "final.safetensors")
    expected = timm_encoder(source, CPU).function(images)
    opened = open_encoder(EncoderSettings(str(dino), precision="fp32"), CPU)
    assert torch.equal(opened.encode(images).features, expected)
    assert (
        opened.supervision == "first weights: none (random weights); masks in training: none (dino sees images alone)"
    )
    initial = open_encoder(EncoderSettings(str(dino), weights="initial", precision="fp32"), CPU)
    assert not torch.equal(initial.encode(images).features, expected)
    found = trainable_encoder(EncoderSettings(str(dino)), CPU)
    assert (found.name, found.encoder.stride) == ("test_vit", 16)
    with pytest.raises(InputError, match=r"features is decoder, but run .* was pretrained by dino"):
        open_encoder(EncoderSettings(str(dino), features="decoder"), CPU)


def test_it_is_clustered_and_predicts(dino: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    words = ("--images", drawn.images, "--masks", drawn.masks, "--foreground", "masks", "--num_clusters", "3")
    outcome = command("cluster", "--encoder", dino, *words, "--seeds", "1", "--out", tmp_path / "clusters")
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "clusters/clusters.json").read_text())
    assert record["encoder"]["name"] == "test_vit"
    words = ("--clusters", tmp_path / "clusters", "--images", drawn.images, "--masks", drawn.masks)
    outcome = command("predict", *words, "--out", tmp_path / "predicted")
    assert outcome.status == 0, outcome.err


def test_its_report_is_written(dino: Path) -> None:
    assert command("report", "--run", dino).status == 0
    page = (dino / "report/index.html").read_text()
    assert "Entropy of the teacher, KL of the student" in page
    assert "rank of the embedding" not in page


def test_mask_contrast_begins_with_its_encoder(dino: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    tiny = ("--model.encoder", "test_vit", "--model.decoder", "none", "--views.size_px", "32")
    steps = ("--training.epochs", "1", "--training.batch_size", "4", "--training.num_workers", "0")
    weights = ("--model.weights", dino / "final.safetensors")
    outcome = command("pretrain", *drawn.flags(), "--out", tmp_path / "run", *tiny, *steps, *weights)
    assert outcome.status == 0, outcome.err
    behind = json.loads((tmp_path / "run/run.json").read_text())["provenance"]["backbone"]
    assert behind.startswith("those behind run run (first weights: none (random weights)")
    again = command("pretrain", "--images", drawn.images, "--out", tmp_path / "more", *TINY_DINO, *weights)
    assert again.status == 0, again.err


def test_commands_for_embeddings_say_what_a_dino_run_lacks(dino: Path) -> None:
    with pytest.raises(InputError, match="was pretrained by dino and holds an encoder alone"):
        load_run_model(dino)


@pytest.mark.parametrize("spelling", [("--objective=dino",), ("--objective.method", "dino"), ("--config", "FILE")])
def test_ways_to_ask_for_dino(spelling: tuple[str, ...], drawn: DrawnFolder, tmp_path: Path) -> None:
    (tmp_path / "dino.yaml").write_text("objective: {method: dino}\n")
    words = [tmp_path / "dino.yaml" if word == "FILE" else word for word in spelling]
    outcome = command("pretrain", "--images", drawn.images, "--out", tmp_path / "run", *words, *TINY_DINO[2:])
    assert outcome.status == 0, outcome.err
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["objective"]["method"] == "dino"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--masks", "DIR"), "masks DIR is given, but objective.method dino sees images alone; leave masks out"),
        (("--saliency.threshold", "0.3"), "saliency.threshold is 0.3, but objective.method dino proposes no masks"),
        (("--objective.momentum", "0.5"), "objective.momentum is 0.5, but objective.method dino does not use it"),
        (("--views.size_px", "64"), "views.size_px is 64, but objective.method dino does not use it; set dino.crops"),
        (("--model.encoder", "resnet18"), "model.encoder is resnet18, but objective.method dino trains the [CLS]"),
        (("--dino.schedule.warmup_epochs", "3"), "dino.schedule.warmup_epochs is 3, but training.epochs is 2"),
        (("--seed", "-1"), "seed is -1; it must be 0 or more"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = command("pretrain", "--images", drawn.images, "--out", tmp_path / "run", *TINY_DINO, *words)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_settings_of_dino_are_refused_by_mask_contrast(drawn: DrawnFolder, tmp_path: Path) -> None:
    words = ("--dino.head.num_outputs", "16")
    outcome = command("pretrain", *drawn.flags(), "--out", tmp_path / "run", *words)
    assert outcome.status == 1
    assert "dino.head is set, but objective.method is mask_contrast, which does not use it" in outcome.err


def test_run_trains_no_dino(drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = command("run", "--images", drawn.images, "--out", tmp_path / "run", "--objective", "dino")
    assert outcome.status == 1
    assert "objective.method is dino, which trains an encoder and no clusters; use `pretrain` with it" in outcome.err


def test_an_unknown_method_is_refused(drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = command("pretrain", "--images", drawn.images, "--out", tmp_path / "run", "--objective", "dinosaur")
    assert outcome.status == 2
    assert "dinosaur" in outcome.err
