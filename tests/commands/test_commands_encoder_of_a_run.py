"""`benchmark`, `linear`, `knn` and `retrieve` on a run and a miniature of VOC 2012, as the README calls them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import TINY, DrawnFolder, command
from voc_trees import VAL, write_voc_tree

from densessl.data.images import read_image
from densessl.data.label_maps import read_label_map
from densessl.data.normalisation import normalise_image
from densessl.evaluation.feature_store import open_feature_store, read_store
from densessl.evaluation.framing import Framing
from densessl.training.run_folder import load_run_model, save_weights

SMALL = ("--classes", "0,8,15", "--image_size", "64", "--bootstrap", "100", "--num_workers", "0")
EXACT = ("--exact.max_passes", "20")
PROTOCOLS = "native,maskcontrast,leopart,linear_exact,hummingbird,retrieval,finetune"


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOCdevkit/VOC2012 of a tree as published; read only."""
    return write_voc_tree(tmp_path_factory.mktemp("voc")) / "VOCdevkit" / "VOC2012"


@pytest.fixture(scope="module")
def run(drawn: DrawnFolder, voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose head embeds masks, so that embedding comes after pooling, and finds the objects; read only."""
    head = ("--model.embedding_of", "masks", "--model.embedding_dim", "5", "--model.embedding_hidden", "6")
    folder = tmp_path_factory.mktemp("masks") / "run"
    outcome = command("pretrain", "--out", folder, *drawn.flags(), *TINY, *head)
    assert outcome.status == 0, outcome.err
    model, settings = load_run_model(folder)
    framing = Framing((64, 64))
    images = [normalise_image(framing.image(read_image(voc / "JPEGImages" / f"{stem}.jpg"))) for stem in VAL]
    labels = [framing.labels(read_label_map(voc / "SegmentationClass" / f"{stem}.png")) for stem in VAL]
    is_object = torch.from_numpy(np.stack(labels))[:, 8::16, 8::16] > 0  # at the middle of each cell
    with torch.no_grad():
        decoded = model.eval()(torch.stack(images)).decoder.movedim(1, -1)  # (batch, h, w, channels)
        wanted = torch.where(is_object, 4.0, -4.0).reshape(-1, 1)
        found = torch.linalg.lstsq(decoded.reshape(len(wanted), -1), wanted).solution
        model.saliency_head.weight.copy_(found.T[:, :, None, None])
    save_weights(folder / "final.safetensors", model.state_dict(), settings)
    return folder


@pytest.fixture(scope="module")
def finished(run: Path, voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of the run; read only."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    few = ("--protocols", PROTOCOLS, "--seeds", "2", "--leopart.num_clusters", "7", *EXACT)
    tuning = ("--finetune.epochs", "1", "--finetune.batch_size", "3", "--finetune.size_px", "64")
    flags = ("--encoder", run, "--data", voc, "--out", out, *SMALL, *few, *tuning, "--finetune.num_workers", "0")
    outcome = command("benchmark", *flags)
    assert outcome.status == 0, outcome.err
    return out


def card(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / "cards" / f"{name}.json").read_text())


def test_every_protocol_takes_what_it_is_to_take_of_a_run(finished: Path) -> None:
    record = json.loads((finished / "benchmark.json").read_text())
    assert record["foreground"] == "head"  # nobody named one
    assert [row["name"] for row in record["protocols"]] == PROTOCOLS.split(",")
    assert all(0.2 < row["miou"] < 1 for row in record["protocols"])
    whole, decoder = finished / "features/val_64x64_stretch", finished / "features/val_64x64_stretch_decoder"
    assert read_store(whole)[1].has_projection
    assert read_store(whole)[1].saliency == (64, 64)
    assert open_feature_store(decoder).pixels(0).shape == (16, 4, 4)  # not embedded
    assert card(finished, "native")["labels"]["masks"].startswith("the network's saliency head, trained on masks")
    assert card(finished, "linear_exact")["fitted"] == "linear probe on 9 images of split train_aug"
    assert card(finished, "finetune")["fitted"].startswith("encoder and linear decoder on 9 images")


@pytest.mark.parametrize(
    ("name", "more", "protocol"),
    [("linear", EXACT, "linear_exact"), ("knn", (), "hummingbird"), ("retrieve", (), "retrieval")],
)
def test_each_command_scores_what_benchmark_scores(
    name: str, more: tuple[object, ...], protocol: str, finished: Path, run: Path, voc: Path, tmp_path: Path
) -> None:
    outcome = command(name, "--encoder", run, "--data", voc, "--out", tmp_path, *SMALL, *more)
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["protocol"] == protocol
    assert found["miou"] == card(finished, protocol)["miou"]
    assert found["foreground"] == ("head" if name == "retrieve" else None)
    assert len(list((tmp_path / "label_maps").iterdir())) == len(VAL)
