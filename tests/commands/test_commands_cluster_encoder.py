"""`cluster --encoder`: any encoder in the place of a run, the true foreground, and new images afterwards."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_runs import DrawnFolder, Outcome, command

from densessl.commands.cluster import cluster as cluster_function
from densessl.data.label_maps import read_label_map
from densessl.errors import InputError
from densessl.models.encoders import build_encoder
from densessl.segmenter import Segmenter


def cluster(out: Path, *more: object) -> Outcome:
    return command("cluster", "--out", out, "--seeds", "2", "--num_workers", "0", *more)


def by_masks(drawn: DrawnFolder) -> tuple[object, ...]:
    return "--images", drawn.images, "--foreground", "masks", "--masks", drawn.masks, "--num_clusters", "3"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a timm network in a file; read only."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    save_file(build_encoder("test_resnet").backbone.state_dict(), path)
    return path


def test_a_run_folder_as_encoder_is_a_run(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    for name, flag in (("run", "--run"), ("encoder", "--encoder")):
        outcome = cluster(tmp_path / name, flag, trained, *by_masks(drawn))
        assert outcome.status == 0, outcome.err
    one, other = (read(tmp_path / name / "clusters.json") for name in ("run", "encoder"))
    assert {**one, "environment": None} == {**other, "environment": None}
    assert "encoder" not in one
    vectors = [np.load(tmp_path / name / "prototypes.npz")["vectors"] for name in ("run", "encoder")]
    assert np.array_equal(*vectors)


def test_a_timm_network_and_new_images(weights: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "clusters"
    outcome = cluster(out, "--encoder", "test_resnet", "--weights", weights, *by_masks(drawn))
    assert outcome.status == 0, outcome.err
    record = read(out / "clusters.json")
    assert (record["run"], record["features"], record["weights"]) == (None, None, None)
    assert record["encoder"]["kind"] == "timm"
    assert record["encoder"]["name"] == "test_resnet"
    assert record["encoder"]["weights"] == str(weights)
    assert len(record["encoder"]["fingerprint"]) == 64
    segmenter = Segmenter.from_run(out, device="cpu")
    assert "unknown" in segmenter.header.provenance.backbone
    for index in (0, 3):
        mask = read_label_map(drawn.masks / f"{index}.png") > 0
        predicted = segmenter.predict(drawn.images / f"{index}.jpg", mask)
        assert np.array_equal(predicted, read_label_map(out / "label_maps" / f"{index}.png"))
    flags = ("--images", drawn.images, "--masks", drawn.masks, "--num_workers", "0", "--out", tmp_path / "new")
    outcome = command("predict", "--clusters", out, *flags)
    assert outcome.status == 0, outcome.err
    assert read(tmp_path / "new/predict.json")["encoder"]["name"] == "test_resnet"
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    Segmenter.from_run(out, run=moved, device="cpu")
    moved.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(InputError, match=r"moved.safetensors have SHA-256 .*, but .*clusters was clustered with"):
        Segmenter.from_run(out, run=moved, device="cpu")


def test_random_weights_come_back(drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = cluster(tmp_path, "--encoder", "test_vit", *by_masks(drawn))
    assert outcome.status == 0, outcome.err
    assert read(tmp_path / "clusters.json")["encoder"]["supervision"] == "none (random weights)"
    mask = read_label_map(drawn.masks / "2.png") > 0
    predicted = Segmenter.from_run(tmp_path, device="cpu").predict(drawn.images / "2.jpg", mask)
    assert np.array_equal(predicted, read_label_map(tmp_path / "label_maps/2.png"))


def pooled(images: torch.Tensor) -> torch.Tensor:
    """The Python encoder of these tests."""
    return torch.nn.functional.avg_pool2d(images, 8)


def test_a_callable_can_be_clustered_and_not_reopened(drawn: DrawnFolder, tmp_path: Path) -> None:
    options = {"images": drawn.images, "foreground": "masks", "masks": drawn.masks, "num_clusters": 3, "seeds": 1}
    result = cluster_function(None, tmp_path / "out", encoder=pooled, num_workers=0, **options)  # type: ignore[arg-type]
    assert result.num_clusters == 3
    assert read(tmp_path / "out/clusters.json")["encoder"]["name"].startswith("Python callable pooled")
    with pytest.raises(InputError, match=r"which is code \(callable\); no code is run because a clusters folder names"):
        Segmenter.from_run(tmp_path / "out", device="cpu")
    name = f"{pooled.__module__}:pooled"
    outcome = cluster(tmp_path / "named", "--encoder", name, *by_masks(drawn))
    assert outcome.status == 0, outcome.err
    arrays = [np.load(tmp_path / folder / "prototypes.npz")["vectors"] for folder in ("out", "named")]
    assert np.allclose(*arrays, atol=1e-5)


def test_the_true_foreground_is_said_to_be_an_oracle(tree: Path, tmp_path: Path) -> None:
    flags = ("--data", tree, "--split", "train", "--foreground", "labels", "--encoder", "test_resnet")
    outcome = cluster(tmp_path, *flags)
    assert outcome.status == 0, outcome.err
    assert "foreground: ORACLE: the true foreground, read from the labels" in outcome.err
    scores, record = read(tmp_path / "scores.json"), read(tmp_path / "clusters.json")
    assert scores["provenance"]["masks"].startswith("ORACLE")
    assert scores["foreground_note"] == record["foreground_note"] == scores["provenance"]["masks"]
    assert scores["iou"][0] == pytest.approx(1.0)  # the background is that of the labels
    assert scores["encoder"]["supervision"] == "none (random weights)"
    segmenter = Segmenter.from_run(tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"those of the true foreground, which only labels give; give masks"):
        segmenter.predict(next((tree / "JPEGImages").iterdir()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either a run or an encoder, got neither"),
        (("--run", "x", "--encoder", "resnet18"), "got both (x and resnet18)"),
        (("--encoder", "test_resnet"), "foreground head needs a saliency head, which encoder test_resnet, random"),
        (("--encoder", "test_resnet", "--foreground", "labels"), "--foreground labels needs labels, but"),
        (("--encoder", "resnet19"), "encoder 'resnet19' is not a timm model name"),
        (("--run", "x", "--pretrained", "true"), "pretrained belongs to timm names, but encoder x is none"),
    ],
)
def test_bad_choices_are_refused_before_the_work(
    words: tuple[str, ...], message: str, drawn: DrawnFolder, tmp_path: Path
) -> None:
    outcome = cluster(tmp_path / "out", "--images", drawn.images, *words)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_the_output_folder_is_needed(drawn: DrawnFolder) -> None:
    outcome = command("cluster", "--encoder", "test_resnet", "--images", drawn.images)
    assert (outcome.status, "arguments are required: out" in outcome.err) == (2, True)
