"""Contents gathered from run folders: full, without labels, without masks, without photographs, broken."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_fake_run import CLASS_NAMES, build_run, draw_tree

from densessl.data.label_maps import write_label_map
from densessl.errors import InputError, MissingInputError
from densessl.files import read_json, write_json, write_text
from densessl.report.contents import UNMATCHED
from densessl.report.photographs import stored_map
from densessl.report.run_folder import read_alarms, read_curves, read_run
from densessl.report.run_pictures import MAX_COMPARISONS, MAX_GALLERY, MAX_MEMBERS
from densessl.report.run_scores import plain_settings, read_scores


@pytest.fixture
def run(tmp_path: Path) -> Path:
    stems = draw_tree(tmp_path / "data", 30)
    return build_run(tmp_path / "run", tmp_path / "data", stems)


def edit(path: Path, **entries: object) -> None:
    write_json(path, {**read_json(path, "a record"), **entries})


def test_full_run(run: Path) -> None:
    contents = read_run(run)
    assert contents.title == "run"
    assert contents.record is not None
    assert contents.record.commands == (
        f"densessl run --data {run.parent / 'data'} --out runs/animals --config configs/animals.yaml",
    )
    assert contents.record.provenance is not None
    assert contents.record.provenance.masks == "none (spectral saliency)"
    assert {curve.name for curve in contents.curves} >= {"loss", "embedding_std", "images_per_second"}
    assert contents.scores is not None
    assert contents.scores_before is not None
    assert contents.scores.miou > contents.scores_before.miou
    assert tuple(score.name for score in contents.scores.classes) == CLASS_NAMES
    assert contents.clustering is not None
    assert contents.clustering.num_clusters == 6
    assert contents.notes == ()
    assert len(contents.comparisons) == MAX_COMPARISONS
    assert contents.num_comparable == 30
    assert contents.gallery is not None
    assert len(contents.gallery.pictures) == MAX_GALLERY
    assert len(contents.gallery.rejected) == 6


def test_comparisons_hold_classes_of_one_size(run: Path) -> None:
    for item in read_run(run).comparisons:
        assert item.photo is not None
        for values in (item.mask, item.before, item.after, item.label):
            assert values is not None
            assert values.shape == item.photo.shape[:2]
        assert item.after is not None
        assert set(np.unique(item.after)) <= {0, 8, 10, 12, 13, 15, 17}


def test_choice_of_pictures_is_the_same_every_time(run: Path) -> None:
    first, second = read_run(run), read_run(run)
    assert [item.stem for item in first.comparisons] == [item.stem for item in second.comparisons]


def test_gallery_is_sorted_by_foreground(run: Path) -> None:
    gallery = read_run(run).gallery
    assert gallery is not None
    shares = [float(picture.mask.mean()) for picture in gallery.pictures if picture.mask is not None]
    assert shares == sorted(shares)


def test_strips_hold_the_nearest_members_of_the_largest_clusters(run: Path) -> None:
    path = run / "clusters" / "clusters.json"
    clusters = read_json(path, "clusters")["clusters"]
    strips = read_run(run).clustering.strips  # type: ignore[union-attr]
    assert [strip.size for strip in strips] == sorted((cluster["size"] for cluster in clusters), reverse=True)
    for strip in strips:
        members = clusters[strip.cluster]["members"][:MAX_MEMBERS]
        assert [member.stem for member in strip.members] == [member["stem"] for member in members]
        assert strip.matched_class == CLASS_NAMES[strip.cluster + 1]


def test_unmatched_clusters_are_marked(run: Path) -> None:
    assignment = [0, None, None, None, None, None, None]
    edit(run / "clusters" / "scores.json", assignment=assignment)
    contents = read_run(run)
    assert any((item.after == UNMATCHED).any() for item in contents.comparisons if item.after is not None)
    assert contents.clustering is not None
    assert all(strip.matched_class is None for strip in contents.clustering.strips)


def test_without_labels(run: Path) -> None:
    for name in ("clusters", "clusters_initial"):
        (run / name / "scores.json").unlink()
    contents = read_run(run)
    assert contents.scores is None
    assert all(item.label is None and item.before is None for item in contents.comparisons)
    assert contents.value_names[1] == "cluster 0"


def test_clusters_of_all_pixels_without_labels_are_shifted_off_the_background(run: Path) -> None:
    for name in ("clusters", "clusters_initial"):
        (run / name / "scores.json").unlink()
    edit(run / "clusters" / "clusters.json", foreground="all")
    assert all(item.after.min() >= 1 for item in read_run(run).comparisons if item.after is not None)


def test_without_masks(run: Path) -> None:
    shutil.rmtree(run / "proposals")
    contents = read_run(run)
    assert contents.gallery is None
    assert all(item.mask is None for item in contents.comparisons)


def test_masks_made_elsewhere_are_shown_too(run: Path) -> None:
    (run / "proposals" / "masks").rename(run.parent / "given")
    shutil.rmtree(run / "proposals")
    write_text(run / "config.yaml", f"masks: {run.parent / 'given'}\n")
    contents = read_run(run)
    assert contents.gallery is not None
    assert contents.gallery.num_masks == 30
    assert all(item.mask is not None and item.mask.any() for item in contents.comparisons)
    shutil.rmtree(run.parent / "given")
    assert any("Masks could not be found again: no mask folder" in note for note in read_run(run).notes)


def test_settings_of_the_masks(run: Path) -> None:
    gallery = read_run(run).gallery
    assert gallery is not None
    assert gallery.settings["method"] == "fused"
    assert gallery.settings["images"] == "30"


def test_left_out_images_join_the_rejected(run: Path) -> None:
    write_json(run / "left_out.json", [{"stem": "drawn_029", "reason": "mask is empty"}])
    gallery = read_run(run).gallery
    assert gallery is not None
    assert [item.stem for item in gallery.rejected if item.reason == "mask is empty"] == ["drawn_029"]


def test_with_the_photographs_gone(run: Path) -> None:
    shutil.rmtree(run.parent / "data")
    contents = read_run(run)
    assert any("Photographs could not be found again" in note for note in contents.notes)
    assert all(item.photo is None and item.after is not None for item in contents.comparisons)


def test_with_one_photograph_broken(run: Path) -> None:
    stem = read_run(run).comparisons[0].stem
    (run.parent / "data" / "JPEGImages" / f"{stem}.jpg").write_bytes(b"no image")
    contents = read_run(run)
    assert contents.comparisons[0].photo is None
    assert any("could not be read; grey stands in" in note for note in contents.notes)


def test_training_images_are_found_through_the_configuration(run: Path) -> None:
    for name in ("clusters", "clusters_initial"):
        shutil.rmtree(run / name)
    write_text(run / "config.yaml", f"images: null\ndata: {run.parent / 'data'}\nsplit: val\n")
    gallery = read_run(run).gallery
    assert gallery is not None
    assert all(picture.photo is not None for picture in gallery.pictures)


@pytest.mark.parametrize("only", ["run.json", "config.yaml", "metrics.jsonl", "proposals", "clusters"])
def test_any_single_part_is_enough(run: Path, tmp_path: Path, only: str) -> None:
    (tmp_path / "alone").mkdir()
    (run / only).rename(tmp_path / "alone" / only)
    assert read_run(tmp_path / "alone").title == "alone"


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no run in .*expected a folder with at least one of run\.json"):
        read_run(tmp_path / "nothing")


def test_broken_record(run: Path) -> None:
    write_text(run / "run.json", "[1, 2]")
    with pytest.raises(InputError, match="holds list, expected a JSON object"):
        read_run(run)


def test_member_without_stem(run: Path) -> None:
    edit(run / "clusters" / "clusters.json", clusters=[{"id": 0, "size": 1, "members": [{"distance": 0.1}]}])
    with pytest.raises(InputError, match="without 'stem'; cluster again"):
        read_run(run)


@pytest.mark.parametrize("stem", ["../secret", "/etc/passwd", "a/../../b"])
def test_stems_stay_inside_their_folder(tmp_path: Path, stem: str) -> None:
    with pytest.raises(InputError, match="leaves the folder"):
        stored_map(tmp_path, stem)


def test_nested_stems_are_found(tmp_path: Path) -> None:
    write_label_map(tmp_path / "cats" / "0001.png", np.array([[0, 3]]))
    np.testing.assert_array_equal(stored_map(tmp_path, "cats/0001"), [[0, 3]])
    assert stored_map(tmp_path, "cats/0002") is None


def test_curves_skip_what_is_broken_and_say_so(tmp_path: Path) -> None:
    lines = ['{"step": 0, "loss": 2, "note": "x"}', '{"step": 5, "loss": NaN}', '{"step": 9, "loss": 1}', '{"step": 1']
    write_text(tmp_path / "metrics.jsonl", "\n".join(lines))
    curves, notes = read_curves(tmp_path / "metrics.jsonl")
    assert [(curve.name, curve.steps, curve.values) for curve in curves] == [("loss", (0, 9), (2, 1))]
    assert len(notes) == 2
    assert "1 unreadable" in notes[0]
    assert "1 values" in notes[1]


def test_scores_with_all_class_names_and_absent_class(tmp_path: Path) -> None:
    values = {
        "miou": 0.5,
        "iou": [0.5, None],
        "classes": [0, 2],
        "class_names": ["bg", "cat", "dog"],
        "assignment": {"0": 0, "1": 2},
    }
    write_json(tmp_path / "scores.json", values)
    scores = read_scores(tmp_path)
    assert scores is not None
    assert [(score.name, score.iou) for score in scores.classes] == [("bg", 0.5), ("dog", None)]
    assert scores.assignment == {0: 0, 1: 2}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"confusion": [[1, 2, 3]]}, r"shape \(1, 3\) for 2 classes; expected \(2, 2\)"),
        ({"iou": [0.1]}, "1 values of 'iou' for 2 'classes'"),
        ({"miou": None}, "no number under 'miou'"),
    ],
)
def test_scores_that_contradict_themselves(tmp_path: Path, entries: dict[str, object], message: str) -> None:
    write_json(tmp_path / "scores.json", {"miou": 0.5, "iou": [0.5, 0.5], "classes": [0, 1], **entries})
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path)


def test_plain_settings() -> None:
    nested = {"a": {"b": 1, "c": [1, 2]}, "yes": True, "none": None, "many": list(range(99)), "x": 0.1}
    assert plain_settings(nested) == {"a.b": "1", "a.c": "1, 2", "yes": "yes", "many": "99 values", "x": "0.1"}
    assert json.dumps(plain_settings({})) == "{}"


def test_alarms_stand_among_the_notes(run: Path) -> None:
    assert read_alarms(run / "alarms.jsonl") == ()
    lines = ['{"step": 30, "kind": "collapse", "message": "spread 0.01"}', '{"step": 40, "mess']
    (run / "alarms.jsonl").write_text("\n".join(lines))
    assert read_run(run).notes == ("Alarm after step 30 of pretraining: spread 0.01.",)
