"""The run folder: configuration, record, weights that rebuild their network."""

from pathlib import Path

import pytest
import torch
from tiny_training import MODEL, SETTINGS, changed

from densessl.errors import InputError, MissingInputError
from densessl.files import read_json
from densessl.models.mask_contrast_model import build_model
from densessl.models.network_file import save_network
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.run_folder import (
    check_same_config,
    environment_record,
    load_run_model,
    load_weights,
    plain,
    read_config,
    record_run,
    save_weights,
    write_config,
)


def test_the_configuration_comes_back_plain(tmp_path: Path) -> None:
    write_config(tmp_path, {"images": tmp_path, "model": changed(model={"frozen": ("conv1",)}).model, "seed": 3})
    config = read_config(tmp_path)
    assert config["images"] == str(tmp_path)
    assert config["model"]["frozen"] == ["conv1"]
    assert config["seed"] == 3


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"is not a run folder: no config.yaml in it; expected the --out of"):
        read_config(tmp_path)


def test_another_configuration_is_refused_with_both_values(tmp_path: Path) -> None:
    write_config(tmp_path, plain(SETTINGS))
    check_same_config(tmp_path, plain(SETTINGS), set(), {})
    other = plain(changed(training={"learning_rate": 0.5, "log_every": 3}))
    with pytest.raises(InputError, match=r"training.learning_rate: 0.05 in the run, 0.5 now\)"):
        check_same_config(tmp_path, other, {"training.log_every"}, {})


def test_records_are_merged(tmp_path: Path) -> None:
    record_run(tmp_path, seed=1, folder=tmp_path)
    record_run(tmp_path, finished=True)
    assert read_json(tmp_path / "run.json", "") == {"seed": 1, "folder": str(tmp_path), "finished": True}


def test_the_environment_names_what_numbers_depend_on() -> None:
    record = environment_record(torch.device("cpu"))
    assert set(record) == {"command", "started", "commit", "versions", "hardware"}
    assert {"python", "torch", "timm"} <= set(record["versions"])
    assert record["hardware"]["device"]


def test_weights_rebuild_their_network(tmp_path: Path) -> None:
    settings = changed(model={"frozen": ("conv1",), "weights": tmp_path / "gone.pth"}).model
    model = build_model(settings)
    save_weights(tmp_path / "final.safetensors", model.state_dict(), settings)
    loaded, found = load_weights(tmp_path / "final.safetensors")
    assert not loaded.training
    assert (found.encoder, found.frozen, found.weights) == (settings.encoder, ("conv1",), None)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_a_run_without_final_weights_is_told(tmp_path: Path) -> None:
    write_config(tmp_path, {})
    with pytest.raises(MissingInputError, match=r"no final.safetensors; its training did not finish, .*--resume true"):
        load_run_model(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "final.safetensors"
    with pytest.raises(MissingInputError, match=r"no weights .*expected final.safetensors of a finished densessl run"):
        load_weights(path)
    path.write_bytes(b"garbage" * 10)
    with pytest.raises(InputError, match=r"final.safetensors cannot be read"):
        load_weights(path)
    save_weights(path, build_model(MODEL).state_dict(), changed(model={"embedding_dim": 9}).model)
    with pytest.raises(InputError, match=r"holds another architecture than test_resnet"):
        load_weights(path)
    for header in ({}, {"frozen": [], "unheard_of": 1}, {"frozen": 3}):
        save_network(path, build_model(MODEL).state_dict(), "model_settings", header)
        with pytest.raises(InputError, match=r"does not hold the settings of a network .* expected final.safetensors"):
            load_weights(path)


def test_a_setting_that_the_run_did_not_know_was_at_its_default(tmp_path: Path) -> None:
    config = plain(SETTINGS)
    old = {**config, "training": {key: value for key, value in config["training"].items() if key != "strategy"}}
    write_config(tmp_path, old)
    check_same_config(tmp_path, config, set(), plain(PretrainSettings()))
    other = plain(changed(training={"strategy": "fsdp"}))
    with pytest.raises(InputError, match=r"training.strategy: 'ddp' in the run, 'fsdp' now"):
        check_same_config(tmp_path, other, set(), plain(PretrainSettings()))
