"""The command `filter_masks`: lists that other commands take, resumable, thresholds changed without judging anew."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import DrawnFolder, Outcome, command, draw_folder, truncate, write_mask

from densessl.commands import filter_masks as module
from densessl.data.layouts import open_images
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import save_promptable_model
from densessl.saliency.mask_provenance import masks_provenance


@pytest.fixture
def folder(tmp_path: Path) -> DrawnFolder:
    """Four drawn images with a mask each, and model.safetensors of random weights."""
    drawn = draw_folder(tmp_path / "drawn", 4)
    torch.manual_seed(0)
    model = build_promptable_model(PromptableSettings("test_resnet", 64, dim=16, decoder_heads=2, decoder_mlp_dim=32))
    save_promptable_model(tmp_path / "model.safetensors", model, "masks: drawn by hand; first weights: none")
    return drawn


def filter_(folder: DrawnFolder, out: Path, *more: object) -> Outcome:
    weights = folder.root.parent / "model.safetensors"
    return command("filter_masks", *folder.flags(), "--weights", weights, "--out", out, *more)


def listed(out: Path) -> list[float]:
    return [entry["score"] for entry in json.loads((out / "proposals.json").read_text())["annotations"]]


def fail_at_2(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Let the judging of image 2 fail."""
    judged = module._judged

    def judge(ref: module.ImageRef, *rest: object) -> module.ImageRecord:
        if ref.stem == "2":
            raise error
        return judged(ref, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_judged", judge)


def test_masks_are_kept_by_their_agreement(folder: DrawnFolder, tmp_path: Path) -> None:
    outcome = filter_(folder, tmp_path / "out", "--min_agreement", "0")
    assert outcome.status == 0, outcome.err
    assert "4 of 4 masks are kept, in 4 of 4 images" in outcome.out
    scores = sorted(listed(tmp_path / "out"))
    assert all(0 <= score < 1 for score in scores)
    journal = (tmp_path / "out/records.jsonl").read_bytes()
    between = (scores[1] + scores[2]) / 2
    outcome = filter_(folder, tmp_path / "out", "--min_agreement", between)
    assert "2 of 4 masks are kept, in 2 of 4 images" in outcome.out
    assert sorted(listed(tmp_path / "out")) == scores[2:]
    assert (tmp_path / "out/records.jsonl").read_bytes() == journal  # nothing is judged again
    rejected = json.loads((tmp_path / "out/rejected.json").read_text())
    assert ["no mask agrees enough" in entry["reason"] for entry in rejected] == [True, True]
    record = json.loads((tmp_path / "out/filtered.json").read_text())
    assert record["counts"] == {"images": 4, "images_kept": 2, "masks": 4, "kept": 2}


def test_what_is_kept_is_a_source_of_objects_and_says_which_labels_are_behind_it(
    folder: DrawnFolder, tmp_path: Path
) -> None:
    assert filter_(folder, tmp_path / "out", "--min_agreement", "0").status == 0
    images = open_images(folder.images, None, "", tmp_path / "none").images
    before = open_objects(folder.masks, images, ObjectSettings())
    after = open_objects(tmp_path / "out", images, ObjectSettings())
    for ref in images:
        size = (48, 64) if int(ref.stem) % 2 == 0 else (64, 48)
        (one,), (other,) = before.read(ref, size), after.read(ref, size)
        assert (one == other).all()
    for masks in (tmp_path / "out", tmp_path / "out/proposals.json"):
        assert masks_provenance(masks) == (
            "made elsewhere (masks); whatever labels made them are theirs; chosen by a promptable model (masks: drawn "
            "by hand; first weights: none)"
        )
    assert "made elsewhere" in json.loads((tmp_path / "out/proposals.json").read_text())["info"]["supervision"]


def test_a_stopped_call_goes_on_and_a_broken_image_costs_a_line(
    folder: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filter_(folder, tmp_path / "whole", "--min_agreement", "0").status == 0
    fail_at_2(monkeypatch, KeyboardInterrupt)
    assert filter_(folder, tmp_path / "out").status == 130
    with pytest.raises(module.InputError, match="was stopped, or still runs"):
        open_objects(tmp_path / "out", (), ObjectSettings())
    monkeypatch.undo()
    assert filter_(folder, tmp_path / "out", "--min_agreement", "0").status == 0
    for name in ("proposals.json", "rejected.json", "records.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    truncate(folder.images / "1.jpg")
    outcome = filter_(folder, tmp_path / "out", "--min_agreement", "0")
    assert outcome.status == 0
    assert outcome.err.count("left out 1: ") == 1
    assert "3 of 3 masks are kept, in 3 of 4 images" in outcome.out


def test_a_repeated_call_writes_no_list_anew(folder: DrawnFolder, tmp_path: Path) -> None:
    assert filter_(folder, tmp_path / "out", "--min_agreement", "0").status == 0
    lists = [tmp_path / "out" / name for name in ("proposals.json", "rejected.json", "filtered.json")]
    before = [path.stat().st_mtime_ns for path in lists]  # by which `paste` knows its masks
    outcome = filter_(folder, tmp_path / "out", "--min_agreement", "0")
    assert "4 of 4 masks are kept" in outcome.out
    assert [path.stat().st_mtime_ns for path in lists] == before


def test_images_that_changed_are_judged_again(folder: DrawnFolder, tmp_path: Path) -> None:
    assert filter_(folder, tmp_path / "out", "--min_agreement", "0").status == 0
    before = listed(tmp_path / "out")
    (folder.images / "0.jpg").write_bytes((folder.images / "2.jpg").read_bytes())
    assert filter_(folder, tmp_path / "out", "--min_agreement", "0").status == 0
    after = listed(tmp_path / "out")
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_want_of_memory_costs_an_image(folder: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at_2(monkeypatch, MemoryError)
    outcome = filter_(folder, tmp_path / "out", "--min_agreement", "0")
    assert "left out 2: memory did not suffice for this image" in outcome.err
    assert "3 of 3 masks are kept, in 3 of 4 images" in outcome.out
    monkeypatch.undo()
    assert "4 of 4 masks are kept" in filter_(folder, tmp_path / "out", "--min_agreement", "0").out


def test_objects_of_a_coco_file_are_judged_alike(folder: DrawnFolder, tmp_path: Path) -> None:
    assert filter_(folder, tmp_path / "out", "--min_agreement", "0").status == 0
    words = ("--images", folder.images, "--weights", tmp_path / "model.safetensors", "--min_agreement", "0")
    outcome = command("filter_masks", *words, "--masks", tmp_path / "out/proposals.json", "--out", tmp_path / "again")
    assert outcome.status == 0, outcome.err
    assert listed(tmp_path / "again") == listed(tmp_path / "out")
    (folder.images / "3.jpg").unlink()
    outcome = command("filter_masks", *words, "--masks", tmp_path / "out/proposals.json", "--out", tmp_path / "again")
    assert outcome.status == 1
    assert "the images are others, or were changed since" in outcome.err


def test_what_does_not_belong_together_is_refused(folder: DrawnFolder, tmp_path: Path) -> None:
    assert filter_(folder, tmp_path / "out", "--min_agreement", "0").status == 0
    outcome = filter_(folder, tmp_path / "out", "--num_clicks", "3")
    assert outcome.status == 1
    assert "was begun with something else (num_clicks 8 there, 3 now)" in outcome.err
    write_mask(folder, "1", 255)
    assert "the masks are others, or were changed since" in filter_(folder, tmp_path / "out").err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    assert "is not empty and has no filtered.json" in filter_(folder, tmp_path / "mine").err


def test_bad_numbers_and_no_mask_that_agrees_are_told(folder: DrawnFolder, tmp_path: Path) -> None:
    assert "min_agreement is 1.5; it is a mean IoU" in filter_(folder, tmp_path / "new", "--min_agreement", "1.5").err
    assert "num_clicks is 0 and seed 0" in filter_(folder, tmp_path / "new", "--num_clicks", "0").err
    assert not (tmp_path / "new").exists()
    outcome = filter_(folder, tmp_path / "new", "--min_agreement", "1")
    assert outcome.status == 1
    assert "none of 4 masks agrees by 1 with what the model makes of clicks inside" in outcome.err
    assert len(json.loads((tmp_path / "new/rejected.json").read_text())) == 4
    assert "4 of 4 masks are kept" in filter_(folder, tmp_path / "new", "--min_agreement", "0").out
