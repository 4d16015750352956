"""`linear`, `knn` and `retrieve`: label maps that score what scores.json says, the probe's file, features shared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Outcome, command
from voc_trees import VAL, write_voc_tree

from densessl.data.label_maps import read_label_map
from densessl.evaluation.confusion import confusion_matrix
from densessl.evaluation.feature_store import open_feature_store
from densessl.evaluation.labelled_features import Classes
from densessl.evaluation.linear_probe import LinearProbe, predict_with_probe
from densessl.evaluation.scores import scores_from_confusion
from densessl.models.network_file import load_network

SMALL = ("--classes", "0,8,15", "--image_size", "64", "--bootstrap", "100", "--num_workers", "0")


def pooled(images: torch.Tensor) -> torch.Tensor:
    """A Python encoder."""
    return torch.nn.functional.avg_pool2d(images, 8)


def call(name: str, root: Path, out: Path, *more: object) -> Outcome:
    encoder = f"{pooled.__module__}:pooled"
    return command(name, "--encoder", encoder, "--data", root, "--out", out, *SMALL, *more)


def scores(out: Path) -> dict[str, Any]:
    return json.loads((out / "scores.json").read_text())


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree as published; read only."""
    return write_voc_tree(tmp_path_factory.mktemp("voc"))


def by_masks(root: Path) -> tuple[object, ...]:
    return "--masks", root / "masks", "--train_masks", root / "masks"


@pytest.mark.parametrize(
    ("name", "more", "protocol"),
    [
        ("linear", ("--exact.max_passes", "30"), "linear_exact"),
        ("linear", ("--method", "schedule", "--linear.epochs", "2", "--linear.batch_size", "4"), "linear"),
        ("linear", ("--method", "schedule", "--linear.epochs", "2", "--linear.augmentation", "false"), "linear"),
        ("knn", ("--hummingbird.num_neighbours", "5"), "hummingbird"),
        ("retrieve", (), "retrieval"),
    ],
)
def test_label_maps_score_what_is_recorded(
    name: str, more: tuple[object, ...], protocol: str, voc: Path, tmp_path: Path
) -> None:
    outcome = call(name, voc, tmp_path, *more, *(by_masks(voc) if name == "retrieve" else ()))
    assert outcome.status == 0, outcome.err
    found = scores(tmp_path)
    assert found["protocol"] == protocol
    labels = voc / "VOCdevkit/VOC2012/SegmentationClass"
    total = np.zeros((21, 21), dtype=np.int64)
    for stem in VAL:
        predicted = read_label_map(tmp_path / "label_maps" / f"{stem}.png")
        total += confusion_matrix(read_label_map(labels / f"{stem}.png"), predicted, 21, 21)
    assert found["miou"] == pytest.approx(scores_from_confusion(total, len(VAL), "none", (0, 8, 15)).miou, abs=1e-12)
    assert 0 <= found["mean_boundary_iou"] <= 1
    assert found["class_names"] == ["background", "cat", "person"]
    assert found["labels"]["fit"] == f"pixel labels of split {'train' if name == 'retrieve' else 'train_aug'}"
    assert found["labels"]["backbone"].startswith("unknown")
    assert (tmp_path / "probe.safetensors").is_file() == (name == "linear")
    assert f"{protocol}: mIoU {100 * found['miou']:.2f} %" in outcome.out


def test_the_probe_in_its_file_predicts_the_label_maps(voc: Path, tmp_path: Path) -> None:
    outcome = call("linear", voc, tmp_path, "--exact.max_passes", "30")
    assert outcome.status == 0, outcome.err
    tensors, header = load_network(tmp_path / "probe.safetensors", "linear_probe", kind="probe", origin="`linear`")
    assert header["class_names"] == ["background", "cat", "person"]
    assert header["encoder_fingerprint"] == scores(tmp_path)["encoder"]["fingerprint"]
    classes = Classes(tuple(header["classes"]), header["num_labels"])
    probe = LinearProbe(tensors["weight"].numpy(), tensors["bias"].numpy(), classes)
    store = open_feature_store(tmp_path / "features" / "val_64x64_stretch")
    for index, stem in enumerate(store.stems):
        predicted = predict_with_probe(probe, store.pixels(index), store.sizes[index])
        assert np.array_equal(predicted, read_label_map(tmp_path / "label_maps" / f"{stem}.png"))


def test_features_of_one_command_serve_the_next(voc: Path, tmp_path: Path) -> None:
    assert call("knn", voc, tmp_path / "knn").status == 0
    outcome = call("linear", voc, tmp_path / "linear", "--store", tmp_path / "knn/features", "--exact.max_passes", "3")
    assert outcome.status == 0, outcome.err
    assert "images encoded" not in outcome.err
    assert not (tmp_path / "linear/features").exists()
    (tmp_path / "linear/label_maps/left.png").write_bytes(b"of an earlier call")
    flags = ("--store", tmp_path / "knn/features", "--exact.max_passes", "3")
    assert call("linear", voc, tmp_path / "linear", *flags).status == 0
    assert not (tmp_path / "linear/label_maps/left.png").exists()


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("retrieve", (), "protocol retrieval needs a foreground"),
        ("retrieve", ("--foreground", "all"), "retrieves masks, so --foreground all leaves it nothing"),
        ("retrieve", ("--foreground", "masks"), "needs --train_masks DIR"),
        ("retrieve", ("--foreground", "labels", "--masks", "m"), "masks m are only used with --foreground masks"),
        ("knn", ("--hummingbird.memory_size", "3"), "cannot hold one of each of 9 images"),
        ("knn", ("--bootstrap", "3"), "bootstrap is 3"),
        ("linear", ("--train_split", "val"), "scores on what was learned say nothing"),
        ("knn", ("--split", "train"), "holds 6 of the 6 images of split train"),
        ("retrieve", ("--split", "trainval", "--foreground", "labels"), "split train, which is learned from, holds 6"),
        ("linear", ("--seed", "-1"), "seed is -1"),
    ],
)
def test_bad_settings(name: str, more: tuple[object, ...], message: str, voc: Path, tmp_path: Path) -> None:
    outcome = call(name, voc, tmp_path, *more)
    assert outcome.status == 1
    assert message in outcome.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--linear.epochs", "2"),
            "settings linear.* are given, but method exact does not use them; add --method schedule",
        ),
        (
            ("--method", "schedule", "--exact.max_passes", "3"),
            "settings exact.* are given, but method schedule does not use them; add --method exact",
        ),
    ],
)
def test_settings_of_the_other_method_are_refused(
    more: tuple[str, ...], message: str, voc: Path, tmp_path: Path
) -> None:
    outcome = call("linear", voc, tmp_path / "out", *more)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()
