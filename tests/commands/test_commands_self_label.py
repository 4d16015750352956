"""`self_label`: rounds from clusters to a network, resumed after a stop, its label maps and scores, and bad input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import DrawnFolder, Outcome, command, draw_folder, truncate

from densessl.commands import self_label_pseudo_labels as stage
from densessl.commands.evaluate import evaluate
from densessl.data.images import image_size
from densessl.data.label_maps import read_label_map
from densessl.data.synthetic import SYNTHETIC_CLASS_NAMES
from densessl.models.segmentation_network import load_segmentation_network
from densessl.structures import IGNORE

NUM_CLASSES = len(SYNTHETIC_CLASS_NAMES)
FLAGS = (
    *("--num_workers", "0", "--self_labelling.num_workers", "0", "--self_labelling.precision", "fp32"),
    *("--self_labelling.epochs", "12", "--self_labelling.size_px", "32", "--self_labelling.batch_size", "4"),
    *("--self_labelling.learning_rate", "0.003", "--self_labelling.unsure", "0.0"),
)


def learn(run: Path, drawn: DrawnFolder, out: Path, *more: object) -> Outcome:
    return command("self_label", *drawn.flags(), "--run", run, "--num_clusters", "3", "--out", out, *FLAGS, *more)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def learned(trained: Path, drawn: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds on the drawn images; read only."""
    out = tmp_path_factory.mktemp("learned") / "out"
    outcome = learn(trained, drawn, out)
    if outcome.status != 0:
        pytest.fail(outcome.err)
    return out


def on_tree(run: Path, tree: Path, out: Path, *more: object) -> Outcome:
    masks = tree / "SegmentationObject"
    words = ("--data", tree, "--split", "train", "--masks", masks, "--run", run, "--eval_split", "val", "--out", out)
    return command("self_label", *words, *FLAGS, "--self_labelling.later_labels", "masks", *more)


@pytest.fixture(scope="module")
def scored(trained: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds on the tree, scored on its val images under their true masks; read only."""
    out = tmp_path_factory.mktemp("scored") / "out"
    outcome = on_tree(trained, tree, out, "--foreground", "masks", "--eval_masks", tree / "SegmentationObject")
    if outcome.status != 0:
        pytest.fail(outcome.err)
    return out


def test_it_leaves_a_network_label_maps_and_a_folder_for_each_round(learned: Path, drawn: DrawnFolder) -> None:
    parts = {path.name for path in learned.iterdir()}
    assert parts == {
        *("network.safetensors", "label_maps", "clusters.json", "rejected.json", "self_label.json"),
        *("round-1", "round-2"),
    }
    for number in (1, 2):
        inside = {path.name for path in (learned / f"round-{number}").iterdir()}
        assert inside == {"pseudo_labels", "selection.json", "training.json", "network.safetensors"}
    for path in drawn.images.iterdir():
        label_map = read_label_map(learned / "label_maps" / f"{path.stem}.png")
        assert label_map.shape == image_size(path)
        assert label_map.max() < 3
    network = (learned / "network.safetensors").read_bytes()
    assert network == (learned / "round-2" / "network.safetensors").read_bytes()


def test_what_is_kept_is_the_most_confident_half_of_each_cluster(learned: Path, drawn: DrawnFolder) -> None:
    selection = read(learned / "round-1" / "selection.json")
    rows = selection["images"]
    assert (selection["labels_from"], selection["num_images"], len(rows)) == ("clusters", 8, 8)
    for cluster in (1, 2):
        own = [row for row in rows if row["classes"] == [cluster]]
        kept = [row["confidences"][0] for row in own if row["kept"] == [True]]
        left = [row["confidences"][0] for row in own if row["kept"] == [False]]
        assert len(kept) == max(1, round(len(own) / 2))
        assert min(kept) >= max(left, default=0)
    written = {path.stem for path in (learned / "round-1" / "pseudo_labels").iterdir()}
    assert written == {row["stem"] for row in rows if any(row["kept"])}
    for row in rows:
        if any(row["kept"]):
            labels = read_label_map(learned / "round-1" / "pseudo_labels" / f"{row['stem']}.png")
            inside = read_label_map(drawn.masks / f"{row['stem']}.png") > 0
            assert set(np.unique(labels[inside]).tolist()) == {row["classes"][0], IGNORE}
            assert set(np.unique(labels[~inside]).tolist()) == {0, IGNORE}
            assert labels[24, 24] == row["classes"][0]  # the middle of the rectangle
            rows_near, columns_near = min(39, labels.shape[0]) - 9, min(43, labels.shape[1]) - 5  # 3 px outwards
            assert (labels == IGNORE).sum() == rows_near * columns_near - 18 * 26  # and 3 px inwards


def test_clusters_json(learned: Path, trained: Path) -> None:
    content = read(learned / "clusters.json")
    assert (content["num_clusters"], content["features"], content["weights"]) == (3, "embedding", "final")
    assert content["run"] == str(trained)
    assert [item["id"] for item in content["clusters"]] == [0, 1]
    assert sum(item["size"] for item in content["clusters"]) == 8
    assert content["protocol"]["name"] == "native"
    assert set(content["environment"]) == {"command", "started", "commit", "versions", "hardware"}


def test_the_network_says_what_touched_it(learned: Path) -> None:
    _, header = load_segmentation_network(learned / "network.safetensors")
    assert (header.encoder, header.decoder, header.num_classes, header.size_px) == ("resnet10t", "unet", 3, 32)
    assert header.backbone.startswith("none (random weights); masks in pretraining: made elsewhere (masks)")
    assert header.masks.startswith("made elsewhere (masks)")


def test_a_stopped_run_goes_on_and_ends_the_same(
    learned: Path, trained: Path, drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = stage.train_segmentation_network, []

    def dies_in_the_second_round(*given: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "train_segmentation_network", dies_in_the_second_round)
    out = tmp_path / "again"
    assert learn(trained, drawn, out).status == 130
    outcome = learn(trained, drawn, out)
    assert outcome.status == 1
    assert f"{out} was already begun; add --resume true" in outcome.err
    first = (out / "round-1" / "network.safetensors").stat().st_mtime_ns
    outcome = learn(trained, drawn, out, "--resume", "true")
    assert outcome.status == 0, outcome.err
    assert len(calls) == 3  # the first round was not trained again
    assert (out / "round-1" / "network.safetensors").stat().st_mtime_ns == first
    for name in ("network.safetensors", "round-2/selection.json", "label_maps/0.png"):
        assert (out / name).read_bytes() == (learned / name).read_bytes()


def test_pseudo_labels_that_were_cut_short_are_made_again(
    learned: Path, trained: Path, drawn: DrawnFolder, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(learned, out)
    shutil.rmtree(out / "round-2")
    (out / "network.safetensors").unlink()
    (out / "round-2" / "pseudo_labels").mkdir(parents=True)
    (out / "round-2" / "pseudo_labels" / "stray.png").write_bytes(b"")
    outcome = learn(trained, drawn, out, "--resume", "true")
    assert outcome.status == 0, outcome.err
    assert not (out / "round-2" / "pseudo_labels" / "stray.png").exists()
    assert (out / "network.safetensors").read_bytes() == (learned / "network.safetensors").read_bytes()


def test_other_settings_or_files_are_refused(learned: Path, trained: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", ("--resume", "true")
    shutil.copytree(learned, out)
    other = draw_folder(tmp_path / "other", 9)
    outcome = learn(trained, other, out, *again, "--self_labelling.kept_share", "0.75")
    assert outcome.status == 1
    assert "self_labelling.kept_share 0.5 there, 0.75 now" in outcome.err
    assert "images.number 8 there, 9 now" in outcome.err
    same = draw_folder(tmp_path / "same", 8)
    assert learn(trained, same, out, *again).status == 0  # the same images and masks elsewhere
    (same.masks / "0.png").write_bytes((same.masks / "1.png").read_bytes())
    outcome = learn(trained, same, out, *again)
    assert outcome.status == 1
    assert "masks.masks_sha256" in outcome.err


def test_scores_of_every_round(scored: Path, tree: Path) -> None:
    content = read(scored / "scores.json")
    assert content == read(scored / "round-2" / "scores.json")
    assert content["num_clusters"] == NUM_CLASSES  # by default, the number of classes
    assert (content["match"], content["foreground"], content["num_images"]) == ("hungarian", "masks", 4)
    assert content["iou"][0] > 0.95  # the background is that of the true masks
    first = read(scored / "round-1" / "scores.json")
    assert content["miou_per_round"] == [first["miou"], content["miou"]]
    clusters = read(scored / "clusters_scores.json")
    assert clusters["made_by"] == "nearest cluster of each mask, no network"
    assert clusters["iou"][0] > 0.95
    provenance = content["provenance"]
    assert provenance["backbone"].startswith("none (random weights)")
    assert "learned from masks: made elsewhere (SegmentationObject)" in provenance["masks"]
    assert "hungarian" in provenance["matching"]
    assert provenance["notes"] == ["no label was read to cluster, to train or to choose pseudo-labels"]


def test_scores_are_those_of_evaluate(scored: Path, tree: Path) -> None:
    split = tree / "ImageSets/Segmentation/val.txt"
    again = evaluate(
        scored / "label_maps", tree / "SegmentationClass", NUM_CLASSES, match="hungarian", split_file=split
    )
    assert read(scored / "scores.json")["miou"] == pytest.approx(again.miou)


def test_no_label_is_read_but_to_score(
    scored: Path, trained: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "tree"
    shutil.copytree(tree, copied)
    for stem in (tree / "ImageSets/Segmentation/train.txt").read_text().split():
        (copied / "SegmentationClass" / f"{stem}.png").write_bytes(b"no label map")
    flags = ("--foreground", "masks", "--eval_masks", copied / "SegmentationObject")
    outcome = on_tree(trained, copied, tmp_path / "out", *flags)
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "out" / "network.safetensors").read_bytes() == (scored / "network.safetensors").read_bytes()


def test_the_network_serves_other_folders(scored: Path, tree: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    network = scored / "network.safetensors"
    outcome = command("self_label", "--network", network, "--images", drawn.images, "--out", tmp_path / "plain")
    assert outcome.status == 0, outcome.err
    assert "8 label maps" in outcome.err
    assert "no labels: nothing is scored" in outcome.err
    assert len(list((tmp_path / "plain" / "label_maps").iterdir())) == 8
    words = ("--data", tree, "--split", "val", "--foreground", "masks", "--eval_masks", tree / "SegmentationObject")
    outcome = command("self_label", "--network", network, *words, "--out", tmp_path / "same")
    assert outcome.status == 0, outcome.err
    for path in (scored / "label_maps").iterdir():
        assert path.read_bytes() == (tmp_path / "same" / "label_maps" / path.name).read_bytes()
    assert read(tmp_path / "same" / "scores.json")["miou"] == read(scored / "scores.json")["miou"]
    whole = ("--one_class_per_mask", "true", "--out", tmp_path / "whole")
    assert command("self_label", "--network", network, *words, *whole).status == 0
    for path in (tmp_path / "whole" / "label_maps").iterdir():
        objects = read_label_map(tree / "SegmentationObject" / path.name)
        label_map = read_label_map(path)
        for mask in set(np.unique(objects).tolist()) - {0, 255}:
            assert len(np.unique(label_map[objects == mask])) == 1
    record = read(tmp_path / "whole" / "labels.json")
    assert (record["one_class_per_mask"], record["network"]["num_classes"]) == (True, NUM_CLASSES)


def test_images_that_cannot_be_used_are_left_out(trained: Path, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "drawn", 8)
    truncate(folder.images / "3.jpg")
    (folder.masks / "4.png").unlink()
    outcome = learn(trained, folder, tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert read(tmp_path / "out" / "round-1" / "selection.json")["num_images"] == 6
    assert read(tmp_path / "out" / "round-2" / "selection.json")["num_images"] == 7  # a network needs no mask
    assert [item["stem"] for item in read(tmp_path / "out" / "rejected.json")] == ["3"]
    assert {item["stem"] for item in read(tmp_path / "out" / "clusters.json")["rejected"]} == {"3", "4"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num_clusters", "12"), "8 prototypes cannot form 11 clusters"),
        (("--num_clusters", "1"), "num_clusters is 1; it counts the background"),
        (("--masks", "nowhere"), "no mask folder nowhere"),
        (("--run", "nowhere"), "nowhere is not a run folder"),
        (("--foreground", "masks", "--eval_split", "val"), "needs --eval_masks DIR"),
        (("--one_class_per_mask", "true"), "--one_class_per_mask true is only used with --foreground masks"),
        (("--eval_data", "somewhere"), "--eval_data somewhere needs --eval_split"),
        (("--network", "n.safetensors"), "n.safetensors is applied as it is, so --run, --num_clusters, --masks, "),
    ],
)
def test_what_cannot_be_used(
    words: tuple[str, ...], message: str, trained: Path, drawn: DrawnFolder, tree: Path, tmp_path: Path
) -> None:
    more = ("--eval_data", tree) if "--eval_split" in words else ()
    outcome = learn(trained, drawn, tmp_path / "out", *words, *more)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "out" / "round-1").exists()


NO_TRAINING = (
    *("--image_size", "64", "--seed", "2", "--features", "decoder", "--weights", "initial"),
    *("--self_labelling.epochs", "3"),
)


def test_what_must_be_given(drawn: DrawnFolder, learned: Path, tmp_path: Path) -> None:
    for words, message in (
        (("--images", drawn.images), "needs --run RUN"),
        ((*drawn.flags(),), "needs --run RUN"),
        (("--images", drawn.images, "--run", "RUN"), "needs --masks DIR"),
        (("--images", drawn.images, "--network", "none.safetensors"), "no segmentation network none.safetensors"),
        (
            (*("--images", drawn.images, "--network", "n"), *NO_TRAINING),
            "so --image_size, --seed, --features, --weights, --self_labelling.epochs would not be used",
        ),
    ):
        outcome = command("self_label", "--out", tmp_path / "out", *words)
        assert outcome.status == 1
        assert message in outcome.err
    network = learned / "network.safetensors"
    outcome = command("self_label", "--out", learned, "--images", drawn.images, "--network", network)
    assert outcome.status == 1
    assert "holds the rounds that trained a network; choose another folder" in outcome.err


def test_a_network_that_is_sure_of_nothing_teaches_nothing(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = learn(trained, drawn, tmp_path / "out", "--self_labelling.epochs", "1", "--self_labelling.unsure", "0.49")
    assert outcome.status == 1
    assert "round 2: " in outcome.err
    assert (tmp_path / "out" / "round-1" / "network.safetensors").is_file()
    assert not (tmp_path / "out" / "round-2" / "selection.json").exists()
