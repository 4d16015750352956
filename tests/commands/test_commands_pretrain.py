"""The command `pretrain`: what a run folder holds, resuming, and every bad input with its message."""

import json
import platform
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from tiny_runs import TINY, DrawnFolder, Outcome, command, draw_folder, truncate, write_mask

from densessl.commands import neighbours
from densessl.commands import pretrain as pretrain_command
from densessl.training.run_folder import load_run_model

SETTINGS = ("images", "data", "split", "masks", "seed", "saliency", "model", "views", "objective", "training")


def pretrain(folder: DrawnFolder, *more: object, out: Path | None = None) -> Outcome:
    """Pretrain on a drawn folder, into `run` beside it unless `out` says otherwise."""
    return command("pretrain", "--out", out or folder.root / "run", *folder.flags(), *TINY, *more)


@pytest.fixture
def folder(tmp_path: Path) -> DrawnFolder:
    """Six drawn images to spoil."""
    return draw_folder(tmp_path / "drawn", 6)


def left_out(run: Path) -> dict[str, str]:
    return {item["stem"]: item["reason"] for item in json.loads((run / "left_out.json").read_text())}


def record(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_run_folder(drawn: DrawnFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = command("pretrain", "--out", run, *drawn.flags(), *TINY, "--training.epochs", "2", "--seed", "7")
    assert (outcome.status, outcome.out) == (0, "")
    assert "8 of 8 images have a usable mask" in outcome.err
    assert "4 steps in" in outcome.err
    assert "0 images left out" in outcome.err
    assert f"weights in {run / 'final.safetensors'}" in outcome.err  # on one line, whatever the width

    config = yaml.safe_load((run / "config.yaml").read_text())
    assert tuple(config) == SETTINGS
    assert (config["images"], config["masks"], config["seed"]) == (str(drawn.images), str(drawn.masks), 7)
    assert (config["model"]["encoder"], config["views"]["size_px"], config["training"]["epochs"]) == (
        "resnet10t",
        32,
        2,
    )

    found = record(run)
    assert set(found["versions"]) >= {"python", "densessl", "torch", "timm", "albumentations"}
    assert set(found["hardware"]) == {"device", "cores", "system"}
    assert "commit" in found
    assert found["command"].startswith("python -m densessl")
    assert found["provenance"]["backbone"] == "none (random weights)"
    assert found["provenance"]["masks"] == "made elsewhere (masks); whatever labels made them are theirs"
    assert (
        found["provenance"]["selection"]
        == "none in this run (last epoch); docs/decisions.md says which labels the shipped recipes saw"
    )
    assert (found["seed"], found["num_images"], found["num_left_out"]) == (7, 8, 0)
    assert (found["num_steps"], found["finished"]) == (4, True)
    assert found["seconds"] > 0
    assert found["cpu_minutes"] >= 0

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in lines] == [(1, 0), (2, 0), (3, 1), (4, 1)]
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert left_out(run) == {}
    initial, settings = load_run_model(run, "initial")
    final, _ = load_run_model(run, "final")
    assert settings.encoder == "resnet10t"
    assert not (initial.embedding_head.weight == final.embedding_head.weight).all()


def test_config_of_a_run_is_accepted_unchanged(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    again = tmp_path / "again"
    outcome = command("pretrain", "--config", trained / "config.yaml", "--out", again)
    assert outcome.status == 0, outcome.err
    assert (again / "config.yaml").read_bytes() == (trained / "config.yaml").read_bytes()
    first, second = ((run / "metrics.jsonl").read_text().splitlines() for run in (trained, again))
    assert [json.loads(line)["loss"] for line in first] == [json.loads(line)["loss"] for line in second]
    without_out = command("pretrain", "--config", trained / "config.yaml")
    assert without_out.status == 2  # the run folder is not part of a configuration
    assert "required: out" in without_out.err


def test_masks_are_proposed_where_none_are_given(drawn: DrawnFolder, tmp_path: Path) -> None:
    images, run = tmp_path / "images", tmp_path / "run"
    (images / "nested").mkdir(parents=True)
    for path in drawn.images.iterdir():
        (images / "nested" / path.name).write_bytes(path.read_bytes())
    cv2.imwrite(str(images / "black.png"), np.zeros((48, 48, 3), np.uint8))
    truncate(images / "nested" / "3.jpg")
    outcome = command("pretrain", "--out", run, "--images", images, *TINY)
    assert outcome.status == 0, outcome.err
    assert (run / "proposals" / "masks" / "nested" / "0.png").is_file()
    reasons = left_out(run)
    assert "cannot be read" in reasons["nested/3"]  # the reason of saliency, not only "no mask"
    assert reasons["black"] != "no mask"
    assert "left out nested/3: image" in outcome.err
    assert record(run)["num_left_out"] == len(reasons)
    assert (
        record(run)["provenance"]["masks"]
        == "fitted to none (estimator fused; docs/saliency.md says which labels its design saw)"
    )


def test_the_script_records_the_command_that_repeats_it(
    drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--out", str(tmp_path / "run"), *drawn.flags(), *TINY]
    monkeypatch.setattr(sys, "argv", ["tools/pretrain.py", *words])
    with pytest.raises(SystemExit) as exit_status:
        runpy.run_path(str(Path(__file__).parents[2] / "tools" / "pretrain.py"), run_name="__main__")
    assert exit_status.value.code == 0
    assert record(tmp_path / "run")["command"] == " ".join(["python -m densessl pretrain", *words])


def test_initial_weights_from_another_run(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    weights = trained / "final.safetensors"
    outcome = command("pretrain", "--out", run, *drawn.flags(), *TINY, "--model.weights", weights)
    assert outcome.status == 0, outcome.err
    assert str(weights) in outcome.err
    initial, _ = load_run_model(run, "initial")
    donor, _ = load_run_model(trained, "final")
    assert (initial.encoder.backbone.conv1[0].weight == donor.encoder.backbone.conv1[0].weight).all()
    assert record(run)["provenance"]["backbone"] != "none (random weights)"


# Bad input


def test_masks_and_settings_of_masks_that_would_be_proposed(folder: DrawnFolder) -> None:
    outcome = pretrain(folder, "--saliency.threshold", "0.3")
    assert outcome.status == 1
    assert f"masks {folder.masks} are given, and settings of saliency too" in outcome.err


def test_no_such_folder(tmp_path: Path) -> None:
    outcome = command("pretrain", "--out", tmp_path / "run", "--images", tmp_path / "none")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == f"densessl pretrain: no image folder {tmp_path / 'none'}; give a folder that holds images\n"
    outcome = command("pretrain", "--out", tmp_path / "run", "--data", tmp_path / "none")
    assert outcome.status == 1
    assert f"no data folder {tmp_path / 'none'}; expected" in outcome.err
    assert not (tmp_path / "run").exists()


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = command("pretrain", "--out", tmp_path / "run", "--images", tmp_path / "empty")
    assert outcome.status == 1
    assert f"no images below {tmp_path / 'empty'}; files ending in .jpg" in outcome.err
    assert not (tmp_path / "run").exists()


def test_images_and_data_both_or_neither(drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = command("pretrain", "--out", tmp_path / "run", "--images", drawn.images, "--data", drawn.root)
    assert outcome.status == 1
    assert f"got both ({drawn.images} and {drawn.root})" in outcome.err
    outcome = command("pretrain", "--out", tmp_path / "run")
    assert outcome.status == 1
    assert "got neither" in outcome.err


def test_images_without_masks(folder: DrawnFolder, tmp_path: Path) -> None:
    for path in folder.masks.iterdir():
        path.unlink()
    outcome = pretrain(folder)
    assert outcome.status == 1
    assert "images without masks: none of the 6 images (0, 1, 2, ...)" in outcome.err
    assert "name each mask like its image" in outcome.err
    folder.masks.rmdir()
    assert f"no mask folder {folder.masks}; expected one mask per image" in pretrain(folder).err


def test_masks_mended_after_a_failed_start(folder: DrawnFolder, tmp_path: Path) -> None:
    elsewhere = folder.masks.rename(tmp_path / "elsewhere")
    assert pretrain(folder).status == 1
    mended = DrawnFolder(folder.root, folder.images, elsewhere)
    outcome = pretrain(mended, "--resume", "true")  # nothing was trained with the first configuration
    assert outcome.status == 0, outcome.err
    assert yaml.safe_load((folder.root / "run" / "config.yaml").read_text())["masks"] == str(elsewhere)


def test_mask_of_another_size(folder: DrawnFolder) -> None:
    write_mask(folder, "2", 255, (10, 12))
    outcome = pretrain(folder)
    assert outcome.status == 1
    assert f"mask of another size: {folder.masks / '2.png'} is 10 x 12, its image 48 x 64" in outcome.err
    assert "make the mask at the image's size" in outcome.err


def test_missing_and_all_background_masks_are_left_out_and_recorded(folder: DrawnFolder) -> None:
    write_mask(folder, "2", 0)
    write_mask(folder, "3", 255)
    (folder.masks / "4.png").unlink()
    outcome = pretrain(folder)
    assert outcome.status == 0
    assert "3 of 6 images have a usable mask" in outcome.err
    assert left_out(folder.root / "run") == {
        "2": "foreground 0.0% is under 1% of the image",
        "3": "foreground 100.0% is over 99% of the image",
        "4": "no mask",
    }
    found = record(folder.root / "run")
    assert (found["num_images"], found["num_left_out"]) == (3, 3)


def test_only_all_background_masks(folder: DrawnFolder) -> None:
    for index in range(6):
        write_mask(folder, str(index), 0)
    outcome = pretrain(folder)
    assert outcome.status == 1
    assert "none of 6 images has a usable mask (0: foreground 0.0% is under 1% of the image" in outcome.err
    assert "check the masks" in outcome.err


def test_truncated_image_is_left_out_and_recorded(folder: DrawnFolder) -> None:
    truncate(folder.images / "3.jpg")
    outcome = pretrain(folder)
    assert outcome.status == 0, outcome.err
    assert "5 of 6 images have a usable mask" in outcome.err
    assert f"left out 3: image {folder.images / '3.jpg'} cannot be read" in outcome.err
    assert list(left_out(folder.root / "run")) == ["3"]
    assert "cannot be read" in left_out(folder.root / "run")["3"]
    assert record(folder.root / "run")["num_left_out"] == 1


def test_only_truncated_images(folder: DrawnFolder) -> None:
    for path in folder.images.iterdir():
        truncate(path)
    outcome = pretrain(folder)
    assert outcome.status == 1
    assert f"image {folder.images / '0.jpg'} cannot be read" in outcome.err
    assert "copy it again, convert it or remove it" in outcome.err


def test_many_left_out_images_are_listed_in_the_file(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "drawn", 10)
    for index in range(8):
        write_mask(folder, str(index), 0)
    outcome = pretrain(folder)
    assert outcome.status == 0
    assert f"and 3 more, listed in {folder.root / 'run' / 'left_out.json'}" in outcome.err
    assert "left out 5" not in outcome.err
    assert len(left_out(folder.root / "run")) == 8


def test_output_below_a_file(folder: DrawnFolder) -> None:
    (folder.root / "file").write_text("not a folder")
    outcome = pretrain(folder, out=folder.root / "file" / "run")
    assert outcome.status == 1
    assert f"cannot write to {folder.root / 'file' / 'run'}" in outcome.err
    assert "choose an output folder you may write" in outcome.err


def test_weights_of_another_architecture(folder: DrawnFolder, tmp_path: Path) -> None:
    import timm
    import torch

    weights = tmp_path / "resnet18.pth"
    torch.save(timm.create_model("resnet18", pretrained=False).state_dict(), weights)
    outcome = pretrain(folder, "--model.encoder", "mobilenetv2_100", "--model.weights", weights)
    assert outcome.status == 1
    assert f"{weights}" in outcome.err
    assert "is a checkpoint of another architecture than encoder mobilenetv2_100" in outcome.err
    assert "choose encoder resnet18" in outcome.err


def test_missing_weights(folder: DrawnFolder, tmp_path: Path) -> None:
    outcome = pretrain(folder, "--model.weights", tmp_path / "none.pth")
    assert outcome.status == 1
    assert f"no checkpoint file {tmp_path / 'none.pth'}" in outcome.err


def test_unknown_encoder(folder: DrawnFolder) -> None:
    outcome = pretrain(folder, "--model.encoder", "resnet9999")
    assert outcome.status == 1
    assert "encoder 'resnet9999' is not a timm model name" in outcome.err


def test_negative_seed(folder: DrawnFolder) -> None:
    outcome = pretrain(folder, "--seed", "-1")
    assert outcome.status == 1
    assert "seed is -1; it must be 0 or more" in outcome.err


def test_diverging_training_stops_with_a_remedy(folder: DrawnFolder) -> None:
    outcome = pretrain(folder, "--training.learning_rate", "1e30", "--training.epochs", "4")
    assert outcome.status == 1
    assert "step" in outcome.err
    assert "Lower training.learning_rate (now 1e+30)" in outcome.err
    assert "Traceback" not in outcome.err
    run = folder.root / "run"
    assert (run / "initial.safetensors").is_file()
    assert not (run / "final.safetensors").exists()
    assert "finished" not in record(run)
    outcome = command("cluster", "--run", run, "--out", run / "clusters", "--images", folder.images)
    assert outcome.status == 1
    assert f"has no final.safetensors; its training did not finish, go on with `pretrain --out {run}" in outcome.err


# Resuming


def test_large_images_bring_a_hint_and_can_be_reduced_and_kept(folder: DrawnFolder) -> None:
    for path in (*folder.images.iterdir(), *folder.masks.iterdir()):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), cv2.resize(picture, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST))
    hint = "images hold 28 times the pixels that views need: --views.reduce_images true reads them faster"
    assert hint in pretrain(folder, out=folder.root / "plain").err
    kept = ("--views.reduce_images", "true", "--training.cache_gb", "0.1")
    outcome = pretrain(folder, *kept)
    assert outcome.status == 0, outcome.err
    assert "pixels that views need" not in outcome.err
    assert "6 of 6 decoded images are kept (0.00 GB) in" in outcome.err
    assert not (folder.root / "run" / "cache").exists()


def test_a_folder_that_holds_a_run_is_refused_without_resume(folder: DrawnFolder) -> None:
    assert pretrain(folder).status == 0
    run = folder.root / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = pretrain(folder)
    assert outcome.status == 1
    assert f"{run} already holds a run; add --resume true to go on with it, or choose another --out" in outcome.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    outcome = pretrain(folder, "--resume", "true", "--training.learning_rate", "0.1", "--seed", "3")
    assert outcome.status == 1
    assert f"cannot resume {run} with another configuration" in outcome.err
    assert "seed: 0 in the run, 3 now" in outcome.err
    assert "training.learning_rate: 0.004 in the run, 0.1 now" in outcome.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    finished = record(run)
    free = ("--training.log_every", "5", "--training.cache_gb", "0.1", "--training.cache", folder.root / "kept")
    outcome = pretrain(folder, "--resume", "true", *free)  # free to change
    assert outcome.status == 0, outcome.err
    assert record(run)["seconds"] == finished["seconds"]
    assert record(run)["cpu_minutes"] == finished["cpu_minutes"]


def test_what_a_killed_write_left_is_removed_once_the_folder_is_this_runs_own(
    folder: DrawnFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "host")
    run = folder.root / "run"
    assert pretrain(folder).status == 0
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    name = f".partial-host-{ended.pid}-abcdefgh.pt"
    partial_files = [run / name, run / "checkpoints" / name, run / "proposals" / "masks" / name]
    for path in partial_files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert pretrain(folder).status == 1  # refused, so nothing is touched
    assert all(path.exists() for path in partial_files)
    assert pretrain(folder, "--resume", "true").status == 0
    assert not any(path.exists() for path in partial_files)


@pytest.mark.parametrize("neighbours", [0, 3])
def test_an_interrupted_run_goes_on(folder: DrawnFolder, monkeypatch: pytest.MonkeyPatch, neighbours: int) -> None:
    import densessl.training.gradients as gradients

    flags = ("--training.epochs", "3", "--views.neighbours", neighbours, "--objective.exclude_similar", "0.2")
    assert pretrain(folder, *flags, out=folder.root / "whole").status == 0
    step, num_steps = gradients.training_step, 0

    def stop_in_step_3(*arguments: object) -> object:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 3:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(gradients, "training_step", stop_in_step_3)
    outcome = pretrain(folder, *flags)
    assert outcome.status == 130
    assert "interrupted" in outcome.err
    monkeypatch.undo()
    outcome = pretrain(folder, *flags, "--resume", "true")
    assert outcome.status == 0, outcome.err
    whole, resumed = folder.root / "whole", folder.root / "run"
    weights = [load_run_model(run)[0].state_dict() for run in (whole, resumed)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, resumed)
    ]
    assert losses[0] == losses[1]
    assert "cpu_minutes" not in record(resumed)  # the first part's is not known


def test_a_run_does_not_go_on_with_other_images(folder: DrawnFolder) -> None:
    assert pretrain(folder).status == 0
    removed = sorted(folder.images.iterdir())[2]
    content = removed.read_bytes()
    removed.unlink()
    outcome = pretrain(folder, "--resume", "true")
    assert outcome.status == 1
    assert "it began with 6 images that have a usable mask, and there are 5 now, or others; bring back" in outcome.err
    assert record(folder.root / "run")["num_images"] == 6
    removed.write_bytes(content)
    assert pretrain(folder, "--resume", "true").status == 0


# Neighbours


def test_neighbours_of_the_initial_features_are_kept_in_the_run_folder(folder: DrawnFolder) -> None:
    outcome = pretrain(folder, "--views.neighbours", "2")
    assert outcome.status == 0, outcome.err
    path = folder.root / "run" / "neighbours.npz"
    with np.load(path, allow_pickle=False) as found:
        assert found["stems"].tolist() == sorted(file.stem for file in folder.images.iterdir())
        assert found["neighbours"].shape == (6, 2)
        assert all(row not in neighbours for row, neighbours in enumerate(found["neighbours"]))
    with np.load(path, allow_pickle=False) as found:
        np.savez(path, stems=found["stems"][::-1], neighbours=found["neighbours"])
    outcome = pretrain(folder, "--views.neighbours", "2", "--resume", "true")
    assert outcome.status == 1
    assert f"{path} holds the neighbours of other images or another number of them" in outcome.err
    path.unlink()
    outcome = pretrain(folder, "--views.neighbours", "2", "--resume", "true")
    assert outcome.status == 1
    assert f"{path} is missing, so the run cannot go on exactly; start a new run in another folder" in outcome.err


def test_neighbours_of_a_run_that_was_cut_off_are_taken_where_they_are_its_own(
    folder: DrawnFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    search, searched = neighbours.nearest_neighbours, []
    monkeypatch.setattr(neighbours, "nearest_neighbours", lambda *given: searched.append(1) or search(*given))
    with monkeypatch.context() as patch:
        patch.setattr(pretrain_command, "pretrain_model", cut_off)
        assert pretrain(folder, "--views.neighbours", "2").status == 130
        assert pretrain(folder, "--views.neighbours", "2").status == 130
        assert len(searched) == 1
    assert pretrain(folder, "--views.neighbours", "2", "--seed", "5").status == 0  # other weights, other neighbours
    assert len(searched) == 2


def test_more_neighbours_than_images(folder: DrawnFolder) -> None:
    outcome = pretrain(folder, "--views.neighbours", "8")
    assert outcome.status == 1
    assert "8 neighbours were asked for among 6 images; ask for 1 to 5, or add images" in outcome.err


def test_confidence_wants_soft_maps(folder: DrawnFolder) -> None:
    """Hard masks are refused, proposals without their soft maps before they are made; soft maps beside masks do."""
    weighted = ("--objective.confidence_weighted", "true")
    outcome = pretrain(folder, *weighted)
    assert outcome.status == 1
    assert "soft lacks the soft maps of 6 of 6 images (the first: 0); make the masks with" in outcome.err
    proposing = command("pretrain", "--out", folder.root / "other", "--images", folder.images, *TINY, *weighted)
    assert proposing.status == 1
    assert "add --saliency.keep_soft true" in proposing.err
    assert not (folder.root / "other").exists()
    (folder.root / "soft").mkdir()
    for path in folder.masks.iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(folder.root / "soft" / path.name), np.where(mask > 0, 200, 30).astype(np.uint8))
    assert pretrain(folder, *weighted).status == 0


def test_everything_switched_on_at_once(folder: DrawnFolder) -> None:
    switches = (
        *("--views.num_local", "2", "--views.local_size_px", "16", "--objective.background", "negatives"),
        *("--objective.swav_weight", "0.5", "--model.num_prototypes", "4", "--objective.swav_use_bank", "true"),
    )
    outcome = pretrain(folder, *switches)
    assert outcome.status == 0
    lines = [json.loads(line) for line in (folder.root / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["swav_loss"]) for line in lines)
    model, settings = load_run_model(folder.root / "run")
    assert (settings.num_prototypes, model.prototypes.weight.shape) == (4, (4, 32))
