"""The files in configs/ are complete, are read by their commands, and say what they reproduce."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from densessl.command_line import build_parser, stage_function
from densessl.commands import demo
from densessl.commands.pretrain_dino import check_dino
from densessl.saliency.proposals import SaliencySettings
from densessl.training.dino_settings import USED_OF_MODEL, USED_OF_TRAINING, DinoRun
from densessl.training.run_folder import plain

SALIENCY_SETTINGS = {field.name for field in fields(SaliencySettings)}
FILES = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
SALIENCY = [path for path in FILES if path.name.startswith("saliency_")]
SELF_LABEL = [path for path in FILES if path.name.startswith("self_label_")]
PROMPTABLE = [path for path in FILES if path.name.startswith("train_promptable_")]
DINO = [path for path in FILES if path.name.startswith("dino_")]
CONFIGS = [path for path in FILES if path not in SALIENCY + SELF_LABEL + PROMPTABLE + DINO]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_opens_with_three_comments_and_is_complete(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for line, word in zip(lines, ("# Reproduces:", "# Command:", "# Measured:"), strict=False):
        assert line.startswith(word)
    content = yaml.safe_load("\n".join(lines))
    assert set(content) == {"split", "seed", "saliency", "model", "views", "objective", "training"}
    assert set(content["saliency"]) == SALIENCY_SETTINGS


@pytest.mark.parametrize("path", SALIENCY, ids=lambda path: path.stem)
def test_config_of_saliency_is_accepted_and_says_what_it_reproduces(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for line, word in zip(lines, ("# Reproduces:", "# Command:", "# Measured:"), strict=False):
        assert line.startswith(word)
    parser = build_parser("saliency", stage_function("saliency"))
    values = parser.instantiate(parser.parse_args(["--config", str(path), "--out", "OUT", "--images", "DIR"]))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    part = {"self_trained": "self_training", "learned_patches": "patch_training"}[values["method"]]
    read = plain(values[part])
    assert {key: read[key] for key in written[part]} == written[part]
    assert any(character.isdigit() for character in lines[2])
    assert set(written) >= SALIENCY_SETTINGS


@pytest.mark.parametrize("path", SELF_LABEL, ids=lambda path: path.stem)
def test_config_of_self_label_is_accepted_and_complete(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for line, word in zip(lines, ("# Reproduces:", "# Command:", "# Measured:"), strict=False):
        assert line.startswith(word)
    parser = build_parser("self_label", stage_function("self_label"))
    values = parser.instantiate(parser.parse_args(["--config", str(path), "--out", "OUT", "--images", "DIR"]))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert plain(values["self_labelling"]) == written["self_labelling"]
    places = {"out", "images", "data", "masks", "run", "eval_data", "eval_split", "eval_masks", "network", "resume"}
    assert set(written) == set(values.as_dict()) - places - {"config"}


@pytest.mark.parametrize("path", PROMPTABLE, ids=lambda path: path.stem)
def test_config_of_promptable_training_is_accepted_and_complete(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for line, word in zip(lines, ("# Reproduces:", "# Command:", "# Measured:"), strict=False):
        assert line.startswith(word)
    parser = build_parser("train_promptable", stage_function("train_promptable"))
    values = parser.instantiate(parser.parse_args(["--config", str(path), "--out", "OUT", "--images", "DIR"]))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in ("objects", "model", "interaction", "training"):
        read = plain(values[section])
        free = {"vision_transformer", "tiny_vit", "cache"}  # of other encoders, and a place
        assert {key: value for key, value in read.items() if key not in free} == written[section]
    places = {"out", "images", "data", "masks", "weights", "backbone", "resume"}
    assert set(written) == set(values.as_dict()) - places - {"config"}


@pytest.mark.parametrize("path", DINO, ids=lambda path: path.stem)
def test_config_of_dino_is_accepted_and_complete(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for line, word in zip(lines, ("# Reproduces:", "# Command:", "# Measured:"), strict=False):
        assert line.startswith(word)
    parser = build_parser("pretrain", stage_function("pretrain"))
    values = parser.instantiate(parser.parse_args(["--config", str(path), "--out", "RUN", "--images", "DIR"]))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(written) == {"split", "seed", "model", "objective", "dino", "training"}
    assert plain(values["dino"]) == written["dino"]
    for section, used in (("model", USED_OF_MODEL - {"weights"}), ("training", USED_OF_TRAINING)):
        assert {key: plain(values[section])[key] for key in used} == written[section]
    check_dino(None, *(values[name] for name in ("saliency", "model", "views", "objective", "training")))
    DinoRun(values["dino"], values["training"], values["seed"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("command", ["pretrain", "run"])
def test_config_is_accepted_by_the_commands(path: Path, command: str) -> None:
    parser = build_parser(command, stage_function(command))
    values = parser.instantiate(parser.parse_args(["--config", str(path), "--out", "RUN", "--images", "DIR"]))
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in ("saliency", "model", "views", "objective", "training"):
        read = plain(values[section])
        assert {key: read[key] for key in written[section]} == written[section]


def test_demo_config_is_what_the_demo_does() -> None:
    written = yaml.safe_load((CONFIGS[0].parent / "demo.yaml").read_text(encoding="utf-8"))
    for section, settings in (
        ("model", demo.MODEL),
        ("views", demo.VIEWS),
        ("objective", demo.OBJECTIVE),
        ("training", demo.TRAINING),
    ):
        expected = plain(settings)
        assert {key: expected[key] for key in written[section]} == written[section]
