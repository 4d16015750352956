"""`saliency --method learned_border`: one command trains and makes masks, goes on, serves other folders, teaches."""

import json
from pathlib import Path

import pytest
from tiny_runs import DrawnFolder, command

FLAGS = (
    *("--method", "learned_border", "--num_workers", "0", "--gallery", "false", "--refine", "none"),
    *("--border_training.epochs", "2", "--border_training.batch_size", "4", "--border_training.num_workers", "0"),
)
NETWORK = "border_training/network.safetensors"
SUPERVISION = "fitted to none (estimator learned_border; docs/saliency.md says which labels its design saw)"


@pytest.fixture(scope="module")
def trained(drawn: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of masks with its network; read only."""
    out = tmp_path_factory.mktemp("learned_border") / "out"
    outcome = command("saliency", "--images", drawn.images, "--out", out, *FLAGS)
    assert outcome.status == 0, outcome.err
    assert "no labels" in outcome.err
    return out


def test_one_command_trains_and_makes_masks(trained: Path) -> None:
    assert {path.name for path in (trained / "border_training").iterdir()} == {
        "border_training.json",
        "network.safetensors",
    }
    record = json.loads((trained / "saliency.json").read_text())
    assert record["supervision"] == SUPERVISION
    assert record["counts"]["images"] == record["counts"]["masks"] + record["counts"]["rejected"] > 0


def test_it_trains_once_and_refuses_other_settings(trained: Path, drawn: DrawnFolder) -> None:
    before = (trained / NETWORK).read_bytes()
    outcome = command("saliency", "--images", drawn.images, "--out", trained, *FLAGS)
    assert outcome.status == 0, outcome.err
    assert "epoch" not in outcome.err
    outcome = command("saliency", "--images", drawn.images, "--out", trained, *FLAGS, "--border_training.epochs", "3")
    assert outcome.status == 1
    assert "was begun with other settings or images (border_training.epochs 2 there, 3 now)" in outcome.err
    assert (trained / NETWORK).read_bytes() == before


def test_its_network_serves_another_folder(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    words = ("--method", "learned_border", "--network", trained / NETWORK, "--refine", "none", "--num_workers", "0")
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 0, outcome.err
    for mask in (trained / "masks").iterdir():
        assert (tmp_path / "out" / "masks" / mask.name).read_bytes() == mask.read_bytes()


def test_it_teaches_a_self_trained_network(drawn: DrawnFolder, tmp_path: Path) -> None:
    words = (
        *("--method", "self_trained", "--num_workers", "0", "--gallery", "false", "--refine", "none"),
        *("--self_training.teachers", "[learned_border]", "--self_training.rounds", "1", "--self_training.epochs", "1"),
        *("--self_training.size_px", "32", "--self_training.batch_size", "4", "--self_training.num_workers", "0"),
        *FLAGS[8:],
    )
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 0, outcome.err
    folder = tmp_path / "out" / "self_training"
    assert (folder / NETWORK).is_file()
    assert SUPERVISION in json.loads((tmp_path / "out" / "saliency.json").read_text())["supervision"]
    record = json.loads((folder / "self_training.json").read_text())
    assert record["border_training"]["epochs"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "learned_border", "--shard", "1/2"), "--network OUT/border_training/network.safetensors"),
        (("--method", "learned_border", "--network", "none.safetensors"), "no border network none.safetensors"),
        (("--border_training.epochs", "3"), "method fused trains no such network, but settings of its training"),
        (
            ("--method", "learned_border", "--network", "n", "--border_training.epochs", "3"),
            "network n is trained already, but settings of its training are given (border_training)",
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
