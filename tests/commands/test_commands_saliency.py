"""The command `saliency`: a folder in, masks and a summary out; unusable input is refused."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
from tiny_runs import command, draw_folder

from densessl.commands import saliency as stage
from densessl.commands.saliency import saliency
from densessl.errors import InputError
from densessl.models.encoders import build_encoder
from densessl.training.self_training import SelfTrainingSettings


def test_folder_in_masks_out(tmp_path, capsys):
    image = np.full((60, 80, 3), 80, np.uint8)
    image[20:45, 25:60] = (30, 160, 220)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), image)
    summary = saliency(tmp_path / "out", images=tmp_path / "in", keep_soft=True, num_workers=0)
    assert (summary.num_images, summary.num_masks) == (1, 1)
    assert (tmp_path / "out/masks/a.png").is_file()
    assert (tmp_path / "out/soft/a.png").is_file()
    printed = capsys.readouterr().out
    assert "1 masks from 1 images, 0 rejected" in printed
    supervision = json.loads((tmp_path / "out/saliency.json").read_text())["supervision"]
    assert supervision == "fitted to none (estimator fused; docs/saliency.md says which labels its design saw)"
    assert json.loads((tmp_path / "out/proposals.json").read_text())["info"]["supervision"] == supervision
    assert printed.splitlines()[-1] == f"supervision: {supervision}"
    assert printed.count("supervision: ") == 1


def test_an_encoder_is_chosen_by_flags(tmp_path):
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "in/a.png"), image)
    save_file(build_encoder("test_resnet").backbone.state_dict(), tmp_path / "w.safetensors")
    features = {"encoder": "test_resnet", "weights": tmp_path / "w.safetensors", "output_stride": 8}
    flags = {"method": "deep_spectral", "feature_size_px": 128, "num_workers": 0, **features}
    summary = saliency(tmp_path / "out", images=tmp_path / "in", **flags)
    assert summary.num_images == 1
    recorded = json.loads((tmp_path / "out/saliency.json").read_text())["settings"]
    assert {name: recorded[name] for name in features} == {**features, "weights": str(features["weights"])}
    with pytest.raises(InputError, match="give a file with its weights"):
        saliency(tmp_path / "other", images=tmp_path / "in", method="deep_spectral")


@pytest.mark.parametrize("method", ["centre", "self_trained"])
def test_a_folder_of_somebody_elses_stays_as_it_is(method, tmp_path):
    drawn = tmp_path / "data/masks/a.png"
    drawn.parent.mkdir(parents=True)
    draw(tmp_path / "data/images", "ab")
    drawn.write_bytes(b"drawn by hand")
    with pytest.raises(InputError, match=r"data holds images, but no saliency\.json, so `saliency` did not begin it"):
        saliency(tmp_path / "data", images=tmp_path / "data/images", method=method)
    assert drawn.read_bytes() == b"drawn by hand"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["images", "masks"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"encoder": "resnet18"}, "encoder resnet18 is given, but fused does not use it; leave it out, or choose"),
        ({"output_stride": 8, "method": "centre"}, "output_stride 8 is given, but centre does not use it"),
        ({"attention_head": 2, "method": "mb_plus"}, "attention_head 2 is given.*choose attention"),
        ({"encoder": "resnet18", "method": "self_trained"}, "encoder resnet18 is given, but fused does not use it"),
        ({"num_segments": 101, "method": "deep_spectral", "pretrained": True}, "num_segments 101 is above 100"),
    ],
)
def test_flags_that_nothing_uses_are_refused(flags, message, tmp_path):
    draw(tmp_path / "in", "a")
    with pytest.raises(InputError, match=message):
        saliency(tmp_path / "out", images=tmp_path / "in", **flags)
    assert not (tmp_path / "out").exists()


def test_neither_images_nor_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither"):
        saliency(tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no images below"):
        saliency(tmp_path / "out", images=tmp_path / "in")
    with pytest.raises(InputError, match="no image folder"):
        saliency(tmp_path / "out", images=tmp_path / "none")
    assert not (tmp_path / "out").exists()


def draw(folder, names):
    folder.mkdir()
    for name in names:
        image = np.full((60, 80, 3), 80, np.uint8)
        image[20:45, 25:60] = (30, 160, 220)
        cv2.imwrite(str(folder / f"{name}.png"), image)


def test_parts_share_a_folder_and_the_last_writes_lists_and_gallery(tmp_path, monkeypatch, capsys):
    draw(tmp_path / "in", "abc")
    first = saliency(tmp_path / "out", images=tmp_path / "in", shard="2/2")
    assert (first.num_images, first.is_whole) == (1, False)
    assert not (tmp_path / "out/gallery").exists()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    last = saliency(tmp_path / "out", images=tmp_path / "in")
    assert (last.num_images, last.is_whole) == (2, True)
    assert (tmp_path / "out/gallery/index.html").is_file()
    assert len(json.loads((tmp_path / "out/proposals.json").read_text())["images"]) == 3
    assert "the lists are written when the other shards are finished" in capsys.readouterr().out


def test_a_killed_call_leaves_no_process_behind_and_goes_on(tmp_path):
    drawn, out, whole = draw_folder(tmp_path, num_images=45), tmp_path / "out", tmp_path / "whole"
    words = ("saliency", "--images", drawn.images, "--gallery", "false", "--num_workers")
    killed = subprocess.Popen(
        (sys.executable, "-m", "densessl", *words, "2", "--out", out),
        stdout=subprocess.PIPE,  # which its workers inherit: it ends when the last of them has ended
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        while size_of(out / "records.jsonl") == 0 and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
        printed, _ = killed.communicate(timeout=60)
    finally:
        if killed.returncode is None:
            os.killpg(killed.pid, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL, printed.decode()
    assert command(*words, "0", "--out", whole).status == 0
    assert 0 < len(list_masks(out)) < len(list_masks(whole))
    for path in list_masks(out):
        assert path.read_bytes() == (whole / "masks" / path.name).read_bytes()
    finished = {json.loads(line)["stem"] for line in (out / "records.jsonl").read_text().splitlines()}
    before = {path: path.stat().st_mtime_ns for path in list_masks(out) if path.stem in finished}
    outcome = command(*words, "0", "--out", out)  # the number of workers changes no result
    assert outcome.status == 0
    assert f", {len(finished)} finished before;" in outcome.out
    assert before
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert without_journals(out) == without_journals(whole)
    journals = [sorted((folder / "records.jsonl").read_text().splitlines()) for folder in (out, whole)]
    assert journals[0] == journals[1]  # its lines stand in the order in which two workers finished


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def list_masks(out):
    return [path for path in (out / "masks").glob("*.png") if not path.name.startswith(".")]


def contents(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.slow  # starts three interpreters
def test_processes_of_torchrun_give_what_one_process_gives(tmp_path):
    drawn, shared, alone = draw_folder(tmp_path, num_images=20), tmp_path / "shared", tmp_path / "alone"
    words = ("saliency", "--images", drawn.images, "--num_workers", "0", "--gallery", "false", "--out")
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    launched = (sys.executable, "-m", *launcher, "-m", "densessl", *words, shared)
    subprocess.run(launched, check=True, timeout=250, capture_output=True)
    assert command(*words, alone).status == 0
    journals = {path.name: len(path.read_text().splitlines()) for path in shared.glob("*.jsonl")}
    assert journals == {"records-1-of-2.jsonl": 10, "records-2-of-2.jsonl": 10}
    assert without_journals(shared) == without_journals(alone)


def without_journals(out):
    return {path: content for path, content in contents(out).items() if path.suffix != ".jsonl"}


@pytest.mark.slow  # starts two interpreters
def test_parts_at_the_same_time_give_what_one_process_gives(tmp_path):
    draw(tmp_path / "in", "abcdefgh")
    (tmp_path / "in/broken.jpg").write_bytes(b"no image")
    words = (sys.executable, "-m", "densessl", "saliency", "--images", tmp_path / "in", "--num_workers", "0")
    parts = [
        subprocess.Popen((*words, "--out", tmp_path / "shared", "--shard", f"{part}/2"), stdout=subprocess.DEVNULL)
        for part in (1, 2)
    ]
    assert [part.wait(timeout=300) for part in parts] == [0, 0]
    assert saliency(tmp_path / "whole", images=tmp_path / "in", num_workers=0).num_masks == 8
    alone, shared = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.suffix in {".png", ".json"}}
        for folder in (tmp_path / "whole", tmp_path / "shared")
    )
    assert len(alone) == 8 + 4  # proposals and their results, rejected images, the record
    assert shared == alone
    assert (tmp_path / "shared/gallery/index.html").is_file()


def test_parts_leave_the_files_of_other_writers_alone(tmp_path):
    draw(tmp_path / "in", "ab")
    host = re.sub("[^A-Za-z0-9]", "_", platform.node())[:64]
    abandoned = tmp_path / f"out/.partial-{host}-{os.getpid()}-x.png"  # this process writes nothing yet
    abandoned.parent.mkdir(parents=True)
    abandoned.touch()
    for shard in ("1/2", "2/2"):
        saliency(tmp_path / "out", images=tmp_path / "in", shard=shard)
    assert abandoned.exists()
    saliency(tmp_path / "out", images=tmp_path / "in")
    assert not abandoned.exists()


def test_a_launchers_processes_share_the_cores(tmp_path, monkeypatch):
    draw(tmp_path / "in", "ab")
    given = []
    monkeypatch.setattr(stage, "generate_proposals", lambda *arguments: given.append(arguments[-1]) or 1 / 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ZeroDivisionError):
        saliency(tmp_path / "out", images=tmp_path / "in")
    assert given == [4]


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ({"weights": "w.pth"}, r"weights w\.pth"),
        ({"pretrained": True}, "pretrained true"),
        ({"pretrained": True, "self_training": SelfTrainingSettings(rounds=1)}, "pretrained true, self_training"),
    ],
)
def test_a_trained_network_takes_no_settings_of_training(training, named, tmp_path):
    with pytest.raises(InputError, match=rf"network n is trained already.*\({named}\); leave them out"):
        saliency(tmp_path / "out", images=tmp_path, method="self_trained", network="n", **training)
    assert not (tmp_path / "out").exists()


def test_a_method_that_trains_nothing_takes_no_settings_of_training(tmp_path):
    with pytest.raises(InputError, match=r"method fused trains no such network, .*\(self_training\); leave them out"):
        saliency(tmp_path / "out", images=tmp_path, self_training=SelfTrainingSettings(rounds=1))
    assert not (tmp_path / "out").exists()
