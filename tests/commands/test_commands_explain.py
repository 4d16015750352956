"""The command `explain`: what it writes, which mask it takes, that it repeats itself, and every refusal."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_runs import TINY, DrawnFolder, Outcome, command

FILES = {"index.html", "views.png", "similarity.png", "loss.png", "negatives.png", "explanation.json"}


def explain(run: Path, image: Path, out: Path, *more: object) -> Outcome:
    return command("explain", "--run", run, "--image", image, "--out", out, *more)


def numbers(out: Path) -> dict:
    return json.loads((out / "explanation.json").read_text())


def test_an_image_of_the_run(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = explain(trained, drawn.images / "2.jpg", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert outcome.out == f"explanation: {tmp_path / 'out' / 'index.html'}\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    for name in FILES:
        if name.endswith(".png"):
            assert np.asarray(Image.open(tmp_path / "out" / name)).std() > 5
    found = numbers(tmp_path / "out")
    assert found["mask"] == f"The mask is the one that the run was trained on, from {drawn.masks}."
    assert (found["num_steps"], found["queue_length"], found["seed"]) == (2, 8, 0)
    (mask,) = found["masks"]
    assert mask["loss"] > 0
    assert mask["num_cells"] > 0
    assert -1 <= mask["queue_similarity_mean"] <= mask["queue_similarity_highest"] <= 1
    assert len(found["similar"]) == 7
    assert "2" not in {item["stem"] for item in found["similar"]}
    similarities = [item["similarity"] for item in found["similar"]]
    assert similarities == sorted(similarities, reverse=True)
    assert found["mask"] in (tmp_path / "out" / "index.html").read_text()


def test_the_seed_decides(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ("--seed", seed, "--num_images", 3, "--num_similar", 2)
        assert explain(trained, drawn.images / "0.jpg", tmp_path / name, *words).status == 0
    first, again, other = (numbers(tmp_path / name) for name in "abc")
    assert first == again
    assert (tmp_path / "a" / "loss.png").read_bytes() == (tmp_path / "b" / "loss.png").read_bytes()
    assert other["masks"] != first["masks"]
    assert len(first["similar"]) == 2


def test_a_mask_that_was_given(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 32:] = 255
    cv2.imwrite(str(tmp_path / "any name.png"), mask)
    outcome = explain(trained, drawn.images / "2.jpg", tmp_path / "out", "--mask", tmp_path / "any name.png")
    assert outcome.status == 0, outcome.err
    assert numbers(tmp_path / "out")["mask"] == f"The mask was given: {tmp_path / 'any name.png'}."


def test_another_image_gets_a_mask_proposed(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    shutil.copy(drawn.images / "4.jpg", tmp_path / "elsewhere.jpg")
    outcome = explain(trained, tmp_path / "elsewhere.jpg", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert "the run has no mask of" in outcome.err
    assert "proposed with the run's saliency settings (fused)" in numbers(tmp_path / "out")["mask"]
    assert (tmp_path / "out" / "proposals" / "masks" / "elsewhere.png").is_file()


def test_a_network_that_embeds_masks_and_a_run_on_neighbours(drawn: DrawnFolder, tmp_path: Path) -> None:
    flags = ("--model.embedding_of", "masks", "--model.embedding_hidden", "6", "--views.neighbours", "2")
    outcome = command("pretrain", "--out", tmp_path / "run", *drawn.flags(), *TINY, *flags)
    assert outcome.status == 0, outcome.err
    outcome = explain(tmp_path / "run", drawn.images / "1.jpg", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    notes = " ".join(numbers(tmp_path / "out")["notes"])
    assert "embeds whole masks" in notes
    assert "draws the key view from neighbours" in notes


def test_a_run_on_connected_regions_is_compared_with_regions(drawn: DrawnFolder, tmp_path: Path) -> None:
    masks = Path(shutil.copytree(drawn.masks, tmp_path / "masks"))
    for path in masks.glob("*.png"):
        mask = np.zeros_like(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
        mask[4:-4, 4:20] = mask[4:-4, 28:44] = 255
        cv2.imwrite(str(path), mask)
    flags = ("--images", drawn.images, "--masks", masks, *TINY, "--views.split_instances", "true")
    outcome = command("pretrain", "--out", tmp_path / "run", *flags)
    assert outcome.status == 0, outcome.err
    outcome = explain(tmp_path / "run", drawn.images / "1.jpg", tmp_path / "out", "--num_similar", "99")
    assert outcome.status == 0, outcome.err
    found = [(item["stem"], item["mask"]) for item in numbers(tmp_path / "out")["similar"]]
    assert sorted(found) == [(str(number), region) for number in (0, *range(2, 8)) for region in (1, 2)]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("run", "is not a run folder: no config.yaml in it"),
        ("image", "nowhere.jpg"),
        ("checkpoint", "holds no checkpoint, and momentum twin and memory bank are stored nowhere else"),
        ("size", "of another size|is 8x8|8x8"),
        ("empty", "no pair of views with 1%-99% foreground"),
        ("seed", "seed is -1, num_images 256 and num_similar 8; the first must be 0 or more"),
    ],
)
def test_refusals(trained: Path, drawn: DrawnFolder, tmp_path: Path, fault: str, message: str) -> None:
    run, image, more = trained, drawn.images / "0.jpg", []
    match fault:
        case "run":
            run = tmp_path
        case "image":
            image = tmp_path / "nowhere.jpg"
        case "checkpoint":
            run = Path(shutil.copytree(trained, tmp_path / "copy"))
            shutil.rmtree(run / "checkpoints")
        case "size" | "empty":
            size = (8, 8) if fault == "size" else (48, 64)
            cv2.imwrite(str(tmp_path / "mask.png"), np.zeros(size, np.uint8))
            more = ["--mask", tmp_path / "mask.png"]
        case "seed":
            more = ["--seed", -1]
    outcome = explain(run, image, tmp_path / "out", *more)
    assert outcome.status == 1
    assert re.search(message, outcome.err), outcome.err
    assert not (tmp_path / "out" / "index.html").exists()
