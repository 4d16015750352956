"""The command `paste`: a COCO data set for promptable training, resumable, the same for any number of workers."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from tiny_runs import DrawnFolder, Outcome, command, draw_folder, truncate, write_mask

from densessl.data import worker_pool
from densessl.data.layouts import open_data_set
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.saliency.mask_provenance import masks_provenance


@pytest.fixture
def folder(tmp_path: Path) -> DrawnFolder:
    """Eight drawn images with a mask each, to spoil."""
    return draw_folder(tmp_path / "drawn", 8)


def paste(folder: DrawnFolder, out: Path, *more: object) -> Outcome:
    words = ("--images", folder.images, "--masks", folder.masks, "--pasting.max_scale", "9", "--pasting.share", "1")
    return command("paste", "--out", out, *words, *more)


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_objects_of_other_images_come_into_every_image(folder: DrawnFolder, tmp_path: Path) -> None:
    outcome = paste(folder, tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert "8 images with " in outcome.out
    assert "train on them: train_promptable --data" in outcome.out
    coco = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    assert len(coco.getImgIds()) == 8
    assert len(coco.getAnnIds()) > 12
    images = open_data_set(tmp_path / "out", "train")
    objects = open_objects(tmp_path / "out/annotations/instances_train.json", images.images, ObjectSettings())
    assert len(images) == 8
    changed = 0
    for ref in images.images:
        before = cv2.imread(str(folder.images / f"{ref.stem}.jpg"))
        after = cv2.imread(str(ref.path))
        masks = objects.read(ref, before.shape[:2])
        assert np.sum(masks, axis=0).max() <= 1  # none hides another
        changed += bool(np.abs(after.astype(int) - before).max() > 60)
    assert changed > 5


def test_the_same_for_any_number_of_workers_and_after_a_stop(
    folder: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "_CHUNK", 1)  # so that each gets some
    assert paste(folder, tmp_path / "one", "--num_workers", "0").status == 0
    assert paste(folder, tmp_path / "two", "--num_workers", "2").status == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    for name in ("train/3.jpg", "train/5.jpg", "annotations/instances_train.json"):
        (tmp_path / "two" / name).unlink()
    assert paste(folder, tmp_path / "two", "--num_workers", "0").status == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert paste(folder, tmp_path / "three", "--seed", "1").status == 0
    assert contents(tmp_path / "one") != contents(tmp_path / "three")


def test_an_image_becomes_several_scenes(folder: DrawnFolder, tmp_path: Path) -> None:
    assert paste(folder, tmp_path / "one").status == 0
    assert paste(folder, tmp_path / "two", "--pasting.scenes_per_image", "2").status == 0
    assert (contents(tmp_path / "one").items() - contents(tmp_path / "two").items()) == {
        (name, contents(tmp_path / "one")[name]) for name in ("annotations/instances_train.json", "pasted.json")
    }
    truncate(folder.images / "3.jpg")
    outcome = paste(folder, tmp_path / "three", "--pasting.scenes_per_image", "3")
    assert outcome.status == 0, outcome.err
    assert "21 scenes of 7 images, 1 left out with " in outcome.out
    assert outcome.err.count("left out 3") == 1
    (folder.images / "2_scene2.jpg").write_bytes((folder.images / "2.jpg").read_bytes())
    scenes = [tmp_path / "three/train" / f"2{name}.jpg" for name in ("", "_scene2", "_scene3")]
    assert len({path.read_bytes() for path in scenes}) == 3
    assert {
        entry["stem"]
        for entry in json.loads((tmp_path / "three/annotations/instances_train.json").read_text())["images"]
    } >= {"2", "2_scene2", "2_scene3"}
    outcome = paste(folder, tmp_path / "alike", "--pasting.scenes_per_image", "2")
    assert outcome.status == 1
    assert "image 2_scene2 has the name of a further scene of another image" in outcome.err
    assert not (tmp_path / "alike").exists()


def test_a_folder_of_an_earlier_version_goes_on(folder: DrawnFolder, tmp_path: Path) -> None:
    assert paste(folder, tmp_path / "out").status == 0
    record = json.loads((tmp_path / "out/pasted.json").read_text())
    del record["paste"]["scenes_per_image"]
    (tmp_path / "out/pasted.json").write_text(json.dumps(record))
    assert paste(folder, tmp_path / "out").status == 0
    outcome = paste(folder, tmp_path / "out", "--pasting.scenes_per_image", "2")
    assert outcome.status == 1
    assert "was begun with other settings" in outcome.err


def test_another_seed_other_images_or_a_foreign_folder_are_refused(folder: DrawnFolder, tmp_path: Path) -> None:
    assert paste(folder, tmp_path / "out").status == 0
    outcome = paste(folder, tmp_path / "out", "--seed", "1")
    assert outcome.status == 1
    assert "was begun with other settings (seed 0 there, 1 now)" in outcome.err
    write_mask(folder, "3", 0)
    outcome = paste(folder, tmp_path / "out")
    assert outcome.status == 1
    assert "the masks are others, or were changed since" in outcome.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    outcome = paste(folder, tmp_path / "mine")
    assert outcome.status == 1
    assert "did not begin it" in outcome.err


def test_a_folder_that_tells_its_labels_in_other_words_goes_on(folder: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert paste(folder, out).status == 0
    record, annotations = out / "pasted.json", out / "annotations/instances_train.json"
    content = json.loads(record.read_text())
    assert content["supervision"] == json.loads(annotations.read_text())["info"]["supervision"]
    record.write_text(json.dumps({**content, "supervision": "as an earlier version said it"}))
    outcome = paste(folder, out)
    assert outcome.status == 0, outcome.err
    assert json.loads(record.read_text())["supervision"] == "as an earlier version said it"
    assert json.loads(annotations.read_text())["info"]["supervision"] == "as an earlier version said it"


def test_broken_images_are_left_out(folder: DrawnFolder, tmp_path: Path) -> None:
    truncate(folder.images / "3.jpg")
    outcome = paste(folder, tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert "7 images, 1 left out with" in outcome.out
    assert "left out 3: image" in outcome.err
    assert not (tmp_path / "out/train/3.jpg").exists()


def test_masks_of_another_size_are_told_where_none_fits(folder: DrawnFolder, tmp_path: Path) -> None:
    for path in sorted(folder.masks.rglob("*.png")):
        cv2.imwrite(str(path), np.full((5, 7), 255, dtype=np.uint8))
    outcome = paste(folder, tmp_path / "out")
    assert outcome.status == 1
    assert "(the first that cannot be read: mask of another size: " in outcome.err


def test_without_single_objects_there_is_nothing_to_paste(folder: DrawnFolder, tmp_path: Path) -> None:
    for number in range(8):
        write_mask(folder, str(number), 0)
    outcome = paste(folder, tmp_path / "out")
    assert outcome.status == 1
    assert "none of 8 images has a single object of 3% to 50% of its area" in outcome.err
    assert not (tmp_path / "out/train").exists()


def test_the_labels_behind_the_masks_are_passed_on(folder: DrawnFolder, tmp_path: Path) -> None:
    assert command("saliency", "--images", folder.images, "--out", tmp_path / "masks", "--num_workers", "0").status == 0
    outcome = command(
        *("paste", "--images", folder.images, "--masks", tmp_path / "masks", "--out", tmp_path / "out"),
        *("--pasting.max_scale", "9"),
    )
    assert outcome.status == 0, outcome.err
    objects = tmp_path / "out/annotations/instances_train.json"
    assert masks_provenance(objects).startswith("fitted to none (estimator fused;")
    assert masks_provenance(objects).endswith("; objects pasted into other images")
    assert json.loads(objects.read_text())["info"]["supervision"].startswith("fitted to none")
    drawn_by_hand = objects.with_name("by_hand.json")
    drawn_by_hand.write_bytes(objects.read_bytes())
    assert masks_provenance(drawn_by_hand).startswith("made elsewhere")
