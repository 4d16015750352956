"""`saliency --method learned_patches`: one command trains and makes masks, goes on, serves other folders, teaches."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import DrawnFolder, command

from densessl.commands import patch_training as stage

QUIET = ("--num_workers", "0", "--gallery", "false", "--refine", "none")
TRAINING = ("--patch_training.epochs", "2", "--patch_training.batch_size", "4", "--patch_training.num_workers", "0")
FLAGS = ("--method", "learned_patches", *QUIET, *TRAINING)
NETWORK = "patch_training/network.safetensors"
SUPERVISION = "fitted to none (estimator learned_patches; docs/saliency.md says which labels its design saw)"


@pytest.fixture(scope="module")
def trained(drawn: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of masks with its network; read only."""
    out = tmp_path_factory.mktemp("learned_patches") / "out"
    outcome = command("saliency", "--images", drawn.images, "--out", out, *FLAGS)
    assert outcome.status == 0, outcome.err
    assert "no labels" in outcome.err
    return out


def test_one_command_trains_and_makes_masks(trained: Path) -> None:
    parts = {path.name for path in (trained / "patch_training").iterdir()}
    assert parts == {"patch_training.json", "network.safetensors", "round-1", "round-2"}
    assert list((trained / "patch_training" / "round-1" / "soft").iterdir())
    assert {path.name for path in (trained / "patch_training" / "round-2").iterdir()} == {"network.safetensors"}
    record = json.loads((trained / "saliency.json").read_text())
    assert record["supervision"] == SUPERVISION
    assert record["features"]["rounds"] == 2
    assert record["counts"]["masks"] > 0


def test_the_gallery_names_the_network(trained: Path, drawn: DrawnFolder) -> None:
    assert command("saliency_gallery", "--masks", trained, "--images", drawn.images).status == 0
    page = (trained / "gallery" / "index.html").read_text()
    assert "network.safetensors" in page
    assert "learned_patches" in page


def test_it_trains_once_and_refuses_other_settings(trained: Path, drawn: DrawnFolder) -> None:
    before = (trained / NETWORK).read_bytes()
    outcome = command("saliency", "--images", drawn.images, "--out", trained, *FLAGS)
    assert outcome.status == 0, outcome.err
    assert "epoch" not in outcome.err
    outcome = command("saliency", "--images", drawn.images, "--out", trained, *FLAGS, "--patch_training.epochs", "3")
    assert outcome.status == 1
    assert "was begun with other settings or images (patch_training.epochs 2 there, 3 now)" in outcome.err
    assert (trained / NETWORK).read_bytes() == before


def test_a_stopped_run_goes_on_and_ends_the_same(
    trained: Path, drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = stage.train_patch_network, []

    def dies_in_the_second_round(*given: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "train_patch_network", dies_in_the_second_round)
    words = ("saliency", "--images", drawn.images, "--out", tmp_path / "out", *FLAGS)
    assert command(*words).status == 130
    assert command(*words).status == 0
    assert len(calls) == 3  # the first round was not trained again
    assert (tmp_path / "out" / NETWORK).read_bytes() == (trained / NETWORK).read_bytes()


def test_other_images_are_refused(drawn: DrawnFolder, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(drawn.images, images)
    assert command("saliency", "--images", images, "--out", out, *FLAGS).status == 0
    first, second = sorted(path for path in images.iterdir() if path.is_file())[:2]
    shutil.copy(second, first)
    outcome = command("saliency", "--images", images, "--out", out, *FLAGS)
    assert outcome.status == 1
    assert "images or given maps hold something else now than they did then" in outcome.err


def test_images_that_teach_nothing_leave_no_network(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (400, 50), (10, 200, 30)).save(tmp_path / "images" / "a.png")
    outcome = command("saliency", "--images", tmp_path / "images", "--out", tmp_path / "out", *FLAGS)
    assert outcome.status == 1
    assert "1 images show learned_patches no patch" in outcome.err
    assert not (tmp_path / "out" / NETWORK).exists()


def test_a_folder_of_other_settings_is_refused_before_the_training(drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("saliency", "--images", drawn.images, "--out", out, "--method", "centre", *QUIET).status == 0
    outcome = command("saliency", "--images", drawn.images, "--out", out, *FLAGS)
    assert outcome.status == 1
    assert "was begun with other settings (method 'centre' there, 'learned_patches' now)" in outcome.err
    assert not (out / "patch_training").exists()


def test_a_round_whose_masks_are_all_rejected_says_where_to_look(drawn: DrawnFolder, tmp_path: Path) -> None:
    words = (*FLAGS, "--min_area", "0.98", "--max_area", "0.99")
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 1
    rejected = tmp_path / "out" / "patch_training" / "round-1" / "rejected.json"
    assert f"no image has a soft map to learn from: {rejected} says why" in outcome.err
    assert rejected.is_file()


def test_its_network_serves_another_folder(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    words = ("--method", "learned_patches", "--network", trained / NETWORK, "--refine", "none", "--num_workers", "0")
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 0, outcome.err
    masks = list((trained / "masks").iterdir())
    assert masks
    assert len(masks) == len(list((tmp_path / "out" / "masks").iterdir()))
    for mask in masks:
        assert (tmp_path / "out" / "masks" / mask.name).read_bytes() == mask.read_bytes()


def test_it_teaches_a_self_trained_network(drawn: DrawnFolder, tmp_path: Path) -> None:
    words = (
        *("--method", "self_trained", *QUIET, *TRAINING, "--self_training.teachers", "[fused,learned_patches]"),
        *("--self_training.rounds", "1", "--self_training.epochs", "1", "--self_training.size_px", "32"),
        *("--self_training.batch_size", "4", "--self_training.num_workers", "0"),
    )
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 0, outcome.err
    folder = tmp_path / "out" / "self_training"
    assert (folder / NETWORK).is_file()
    assert SUPERVISION in json.loads((tmp_path / "out" / "saliency.json").read_text())["supervision"]
    record = json.loads((folder / "self_training.json").read_text())
    assert record["patch_training"]["epochs"] == 2
    assert command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words).status == 0
    (folder / "self_training.json").write_text(json.dumps(record | {"patch_training": []}))
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 1
    assert "self_training.json holds no settings of a training" in outcome.err
    del record["patch_training"]  # as of a folder that was begun without this teacher
    (folder / "self_training.json").write_text(json.dumps(record))
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 1
    assert "patch_training.rounds None there, 2 now" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "learned_patches", "--shard", "1/2"), "--network OUT/patch_training/network.safetensors"),
        (("--method", "learned_patches", "--network", "none.safetensors"), "no patch network none.safetensors"),
        (("--patch_training.epochs", "3"), "method fused trains no such network, but settings of its training"),
        (
            ("--method", "learned_patches", "--network", "n", "--patch_training.epochs", "3"),
            "network n is trained already, but settings of its training are given (patch_training)",
        ),
        (("--network", "n"), "method fused uses no network, but network n is given; leave it out, or choose "),
    ],
)
def test_words_that_do_not_go_together(
    words: tuple[str, ...], message: str, drawn: DrawnFolder, tmp_path: Path
) -> None:
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 1
    assert message in outcome.err
