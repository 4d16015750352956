"""The command `run` from end to end: on a labelled tree, on a plain folder, resumed, and refused early."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_runs import TINY, DrawnFolder, command, truncate

from densessl.commands.run import check_labels
from densessl.data.label_maps import read_label_map
from densessl.data.synthetic import SYNTHETIC_CLASS_NAMES
from densessl.errors import InputError
from densessl.structures import ImageRef, ImageSet, LabelMap

NO_LABELS = "No labels were found for these images, so metrics that need labels were skipped."


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def labelled(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run over the rendered tree, and what it printed; read only."""
    out = tmp_path_factory.mktemp("labelled") / "run"
    outcome = command("run", "--out", out, "--data", tree, "--split", "train", "--seeds", "2", *TINY)
    if outcome.status != 0:
        pytest.fail(outcome.err)
    return out, outcome.out


def test_labelled_tree(labelled: tuple[Path, str], tree: Path) -> None:
    out, printed = labelled
    assert len(list((out / "proposals" / "masks").iterdir())) >= 10  # trained on the train split
    val = (tree / "ImageSets/Segmentation/val.txt").read_text().split()
    assert {path.stem for path in (out / "proposals_val" / "masks").iterdir()} <= set(val)
    scores = {}
    for folder, weights in (("clusters_initial", "initial"), ("clusters", "final")):
        scores[weights] = read(out / folder / "scores.json")
        assert scores[weights]["weights"] == weights
        assert scores[weights]["foreground"] == "masks"
        assert scores[weights]["classes"] == list(range(len(SYNTHETIC_CLASS_NAMES)))
        assert scores[weights]["seeds"] == [0, 1]
        provenance = scores[weights]["provenance"]
        assert (
            provenance["masks"] == "fitted to none (estimator fused; docs/saliency.md says which labels its design saw)"
        )
        assert provenance["notes"] == [
            "masks in training: fitted to none (estimator fused; docs/saliency.md says which labels its design saw)"
        ]
        assert {path.stem for path in (out / folder / "label_maps").iterdir()} <= set(val)
        assert read(out / folder / "clusters.json")["images"]["split"] == "val"
    before, after = (f"{scores[name]['miou']:.3f} ± {scores[name]['miou_std']:.3f}" for name in ("initial", "final"))
    assert f"mIoU before pretraining {before}, after {after} (same clustering, 2 seeds)" in printed
    assert f"report: {out / 'report' / 'index.html'}" in printed
    page = (out / "report" / "index.html").read_text()
    assert NO_LABELS not in page
    assert "mIoU" in page


def test_an_encoder_that_came_with_weights_is_judged_by_its_own_features_before(
    labelled: tuple[Path, str], tree: Path, tmp_path: Path
) -> None:
    weights, run = labelled[0] / "final.safetensors", tmp_path / "run"
    flags = ("--split", "train", "--seeds", "1", "--model.weights", weights)
    outcome = command("run", "--out", run, "--data", tree, *flags, *TINY)
    assert outcome.status == 0, outcome.err
    assert read(run / "clusters_initial" / "clusters.json")["features"] == "encoder"
    assert read(run / "clusters" / "clusters.json")["features"] == "embedding"
    assert read(labelled[0] / "clusters_initial" / "clusters.json")["features"] == "embedding"


def test_resumed_run_repeats_nothing_and_changes_nothing(labelled: tuple[Path, str], tree: Path) -> None:
    out, printed = labelled
    kept = {path: path.read_bytes() for path in out.glob("*.safetensors")}
    scores = read(out / "clusters" / "scores.json")
    words = ("run", "--out", out, "--data", tree, "--split", "train", "--seeds", "2", *TINY)
    outcome = command(*words)
    assert outcome.status == 1
    assert f"{out} already holds a run; add --resume true" in outcome.err
    outcome = command(*words, "--resume", "true")
    assert outcome.status == 0, outcome.err
    assert outcome.out == printed
    assert {path: path.read_bytes() for path in kept} == kept
    assert read(out / "clusters" / "scores.json") == scores


def test_unlabelled_folder(drawn: DrawnFolder, tmp_path: Path) -> None:
    images, out = tmp_path / "my photos", tmp_path / "run"
    (images / "nested").mkdir(parents=True)
    for index, path in enumerate(sorted(drawn.images.iterdir())):
        (images / ("nested" if index % 2 else "") / path.name).write_bytes(path.read_bytes())
    truncate(images / "0.jpg")
    outcome = command("run", "--out", out, "--images", images, "--num_clusters", "3", "--seeds", "2", *TINY)
    assert outcome.status == 0, outcome.err
    assert "no labels: metrics that need them are skipped" in outcome.err
    assert outcome.out == f"report: {out / 'report' / 'index.html'}\n"
    assert not list(out.rglob("scores.json"))
    assert not (out / "clusters_initial").exists()
    assert (out / "clusters" / "label_maps" / "nested" / "1.png").is_file()
    page = (out / "report" / "index.html").read_text()
    assert NO_LABELS in page


def test_masks_made_elsewhere(drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = command("run", "--out", out, *drawn.flags(), "--num_clusters", "3", "--seeds", "1", *TINY)
    assert outcome.status == 0, outcome.err
    assert not (out / "proposals").exists()
    for path in drawn.masks.iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0
        assert ((read_label_map(out / "clusters" / "label_maps" / path.name) > 0) == mask).all()


def test_masks_of_each_split(labelled: tuple[Path, str], tree: Path, tmp_path: Path) -> None:
    """A second run on the weights and the masks of a first one proposes nothing anew."""
    first, _ = labelled
    words = ("--data", tree, "--split", "train", "--seeds", "1", "--model.weights", first / "final.safetensors")
    masks = ("--masks", first / "proposals", "--eval_masks", first / "proposals_val")
    out = tmp_path / "second"
    outcome = command("run", "--out", out, *words, *masks, *TINY)
    assert outcome.status == 0, outcome.err
    assert not list(out.glob("proposals*"))
    provenance = read(out / "clusters" / "scores.json")["provenance"]
    assert provenance["backbone"].startswith(
        "those behind run run (first weights: none (random weights); masks: fitted"
    )
    outcome = command("run", "--out", tmp_path / "third", *words, "--eval_masks", tmp_path / "none", *TINY)
    assert outcome.status == 1
    assert not (tmp_path / "third" / "run.json").exists()


def test_head_without_foreground_before_training_is_said(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import densessl.commands.run as stage
    from densessl.commands.cluster import ClusterResult, cluster
    from densessl.errors import InputError

    def fail_before_training(*arguments: object, **named: object) -> ClusterResult:
        if named["weights"] == "initial":
            raise InputError("no foreground was found")
        return cluster(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "cluster", fail_before_training)
    words = ("--data", tree, "--split", "train", "--masks", tree / "SegmentationObject", "--seeds", "1")
    outcome = command("run", "--out", tmp_path / "run", *words, *TINY)
    assert outcome.status == 0, outcome.err
    assert "no clusters before pretraining: no foreground was found" in outcome.err
    assert "mIoU before" not in outcome.out
    assert np.isfinite(read(tmp_path / "run" / "clusters" / "scores.json")["miou"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--foreground", "head", "--eval_masks", "M"), "eval_masks M is given, but foreground is head"),
        (("--seeds", "0"), "seeds is 0"),
        (("--num_clusters", "1"), "num_clusters is 1"),
        (("--classes", "0,12"), "class 12 is not one of the 7 classes 0-6"),
        (("--classes", "0,x"), "classes '0,x' is not a list of class indices"),
        (("--eval_split", "test"), "test"),
        (("--split", "test"), "test"),
    ],
)
def test_faults_of_the_last_stage_are_found_before_training(
    words: tuple[str, ...], message: str, tree: Path, tmp_path: Path
) -> None:
    outcome = command("run", "--out", tmp_path / "run", "--data", tree, "--split", "train", *TINY, *words)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def write_label(path: Path, value: int, size: tuple[int, int] | None = None) -> None:
    shape = size or cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[:2]
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: write_label(path, 9), r"label file {path} holds the value 9; values must be 0-6 or 255"),
        (
            lambda path: write_label(path, 1, (10, 12)),
            "{stem}.jpg is 10 x 12, the image 64 x 64 (height x width); make",
        ),
        (truncate, "label map {path} cannot be read"),
        (Path.unlink, "no label of image {stem} in {folder}; put {stem}.png there or take the image off the split"),
    ],
)
def test_a_broken_label_of_the_scored_split_is_found_before_training(
    spoil: Callable[[Path], None], message: str, tree: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tree, data)
    stem = (data / "ImageSets/Segmentation/val.txt").read_text().split()[1]
    path = data / "SegmentationClass" / f"{stem}.png"
    spoil(path)
    outcome = command("run", "--out", tmp_path / "run", "--data", data, "--split", "train", *TINY)
    assert outcome.status == 1
    assert "1 of 4 label maps of split val cannot be scored (check_data lists every fault); the first: " in outcome.err
    assert message.format(path=path, stem=stem, folder=path.parent) in outcome.err
    assert not (tmp_path / "run").exists()


def test_labels_are_checked_of_images_that_open_alone(drawn: DrawnFolder, tmp_path: Path) -> None:
    refs = [ImageRef(path.stem, path) for path in sorted(drawn.images.iterdir())[:2]]
    absent = ImageRef("absent", tmp_path / "absent.jpg")
    sizes = {"0": (48, 64), "1": (64, 48)}

    def read(ref: ImageRef) -> LabelMap:
        return np.full(sizes[ref.stem], 2)

    def images(class_names: tuple[str, ...]) -> ImageSet:
        return ImageSet("val", (*refs, absent), class_names, read)

    check_labels(images(("background", "cat", "dog")))
    check_labels(ImageSet("folder", tuple(refs)))  # no labels, nothing to check
    with pytest.raises(InputError, match=r"2 of 3 label maps of split val .*'0' has label 2, .*2 classes.*correct"):
        check_labels(images(("background", "cat")))
    sizes["1"] = (48, 64)
    with pytest.raises(InputError, match=rf"1 of 3.*{refs[1].path} is 48 x 64, the image 64 x 48 .*make the label map"):
        check_labels(images(("background", "cat", "dog")))
