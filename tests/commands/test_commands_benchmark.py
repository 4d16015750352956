"""`benchmark` on a miniature of VOC 2012: the whole table, its cards, what comes back after a stop, bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Outcome, command, truncate
from voc_trees import SBD_ONLY, VAL, write_voc_tree

from densessl.commands import protocol_runs
from densessl.commands.benchmark import benchmark as benchmark_function
from densessl.commands.benchmark import parse_protocols
from densessl.commands.evaluate import evaluate
from densessl.commands.protocol_runs import PROTOCOLS
from densessl.data.label_maps import read_label_map, write_label_map
from densessl.errors import InputError
from densessl.evaluation.confusion import confusion_matrix
from densessl.evaluation.scores import scores_from_confusion

SMALL = (
    *("--classes", "0,8,15", "--image_size", "64", "--seeds", "2", "--bootstrap", "100", "--num_workers", "0"),
    *("--linear.epochs", "2", "--linear.batch_size", "4", "--exact.max_passes", "20"),
    *("--finetune.epochs", "1", "--finetune.batch_size", "3", "--finetune.num_workers", "0"),
)


def benchmark(root: Path, out: Path, *more: object, encoder: str = "resnet18") -> Outcome:
    return command("benchmark", "--encoder", encoder, "--data", root, "--out", out, *SMALL, *more)


def by_masks(root: Path) -> tuple[object, ...]:
    return "--masks", root / "masks", "--train_masks", root / "masks"


def card(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / "cards" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree as published; read only."""
    return write_voc_tree(tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="module")
def finished(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of all protocols; read only."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    outcome = benchmark(voc, out, *by_masks(voc))
    assert outcome.status == 0, outcome.err
    assert outcome.out.strip() == (out / "benchmark.md").read_text().strip()
    return out


def test_every_protocol_has_a_row_and_a_card(finished: Path) -> None:
    record = json.loads((finished / "benchmark.json").read_text())
    assert [row["name"] for row in record["protocols"]] == list(PROTOCOLS)
    assert record["is_complete"] is True
    table = (finished / "benchmark.md").read_text()
    for row in record["protocols"]:
        content = card(finished, row["name"])
        assert content["miou"] == row["miou"]
        assert 0 <= row["miou_interval"][0] <= row["miou_interval"][1] <= 1
        assert (finished / "cards" / f"{row['name']}.npz").is_file()
        assert content["class_names"][-2:] == ["cat", "person"]
        assert set(content["labels"]) >= {"backbone", "masks", "fit", "selection", "matching"}
        assert content["labels"]["backbone"] == "none (random weights)"
        assert f"| {row['name']} | {100 * row['miou']:.1f}" in table
        assert row["mean_boundary_iou"] == content["scores"]["mean_boundary_iou"]
        assert f" | {100 * row['mean_boundary_iou']:.1f} | {row['labels']['fit']} |" in table
    assert "Foreground: given masks" in table


def test_features_are_computed_once_for_each_frame(finished: Path) -> None:
    assert {folder.name for folder in (finished / "features").iterdir()} == {
        *("val_64x64_stretch", "val_64x64_crop", "train_aug_64x64_stretch", "train_aug_64x64_crop"),
        "train_64x64_stretch",
    }
    stems = json.loads((finished / "features/train_aug_64x64_stretch/stems.json").read_text())
    assert set(SBD_ONLY) < set(stems)
    assert not set(VAL) & set(stems)


def test_cards_say_which_labels_touched_what(finished: Path) -> None:
    native, linear, retrieval = (card(finished, name) for name in ("native", "linear", "retrieval"))
    assert native["labels"]["fit"] == "none"
    assert "matching used the labels (hungarian)" in native["labels"]["matching"]
    assert len(native["scores"]["miou_per_seed"]) == len(native["seeds"]) == 2
    assert linear["labels"]["fit"] == "pixel labels of split train_aug"
    assert linear["labels"]["masks"] == "none (the protocol uses no masks)"
    assert linear["seeds"] == [0]
    assert linear["identity"]["protocol"]["settings"]["epochs"] == 2
    assert linear["identity"]["protocol"]["settings"]["augmentation"] is True
    assert linear["description"].endswith("SGD 2 epochs on augmented images, last epoch")
    assert not any("augmentation" in note for note in linear["notes"])
    assert retrieval["labels"]["fit"] == "pixel labels of split train"
    assert card(finished, "stego320")["fitted"].startswith("3 clusters of all pixels of split train_aug")
    assert card(finished, "leopart")["fitted"].startswith("500 clusters of all pixels of split val")
    assert "(majority)" in card(finished, "leopart")["matching"]


def test_retrieval_7_leaves_the_background_out_of_mean_and_interval(finished: Path) -> None:
    content = card(finished, "retrieval_7")
    assert content["scores"]["mean_boundary_iou"] == pytest.approx(np.mean(content["scores"]["boundary_iou"][1:]))
    assert content["class_names"] == ["background", "cat", "person"]
    assert content["miou"] == pytest.approx(np.mean(content["scores"]["iou"][1:]))
    assert content["scores"]["miou"] == content["miou"]
    assert content["scores"]["averaged_classes"] == [8, 15]
    accuracy, confusion = content["scores"]["accuracy"], np.array(content["scores"]["confusion"])
    assert content["scores"]["mean_accuracy"] == pytest.approx(np.mean(accuracy[1:]))
    assert content["scores"]["pixel_accuracy"] == pytest.approx(np.diagonal(confusion)[1:].sum() / confusion[1:].sum())
    with np.load(finished / "cards/retrieval_7.npz") as arrays:
        assert arrays["is_averaged"].tolist() == [False, True, True]
        right, union = arrays["right"].sum(0), (arrays["labelled"] + arrays["predicted"] - arrays["right"]).sum(0)
        counted = (arrays["labelled"].sum(1) > 0).sum()
    assert content["miou"] == pytest.approx(np.mean((right / union)[1:]))
    assert content["scores"]["bootstrap"]["num_images"] == counted == len(VAL)  # the sheep's background counts


def test_a_second_call_takes_the_cards(finished: Path, voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "features")
    (out / "cards" / "retrieval.json").unlink()
    names = "native,retrieval,linear"
    outcome = benchmark(voc, out, *by_masks(voc), "--protocols", names, "--keep_features", "false")
    assert outcome.status == 0, outcome.err
    assert outcome.err.count("finished before") == 2
    assert not (out / "features").exists()
    assert card(out, "retrieval")["miou"] == card(finished, "retrieval")["miou"]
    more = ("--seed", "3", "--leopart.num_clusters", "7", "--exact.max_passes", "3")
    outcome = benchmark(voc, out, *by_masks(voc), "--protocols", "native", *more)
    assert "finished before" not in outcome.err
    assert "exact.max_passes 3: not used, since protocol linear_exact is not among those of this call" in outcome.err
    assert "leopart.num_clusters 7: not used" in outcome.err
    assert card(out, "native")["seeds"] == [3, 4]


def test_a_probe_on_cached_features_has_another_card(voc: Path, tmp_path: Path) -> None:
    flags = ("--protocols", "linear", "--linear.augmentation")
    name = f"{pooled.__module__}:pooled"
    contents = []
    for value in ("true", "false"):
        outcome = benchmark(voc, tmp_path, *flags, value, encoder=name)
        assert outcome.status == 0, outcome.err
        assert "finished before" not in outcome.err
        contents.append(card(tmp_path, "linear"))
        trained_on = (tmp_path / "features/train_aug_64x64_stretch").is_dir()
        assert trained_on is (value == "false")  # augmented images are encoded, and not kept
    assert contents[0]["identity"] != contents[1]["identity"]
    assert contents[1]["description"].endswith("on cached features without augmentation, last epoch")
    assert any("without the published augmentation" in note for note in contents[1]["notes"])
    assert "finished before" in benchmark(voc, tmp_path, *flags, "false", encoder=name).err


def pooled(images: torch.Tensor) -> torch.Tensor:
    """A Python encoder."""
    return torch.nn.functional.avg_pool2d(images, 8)


def test_leopart_takes_any_number_of_clusters(voc: Path, tmp_path: Path) -> None:
    name = f"{pooled.__module__}:pooled"
    for number, match in ((3, "hungarian"), (7, "majority")):
        flags = ("--protocols", "leopart", "--leopart.num_clusters", number)
        outcome = benchmark(voc, tmp_path, *flags, encoder=name)
        assert outcome.status == 0, outcome.err
        assert "finished before" not in outcome.err
        content = card(tmp_path, "leopart")
        assert f", {number} clusters, many-to-one by precision (one-to-one" in content["description"]
        assert content["fitted"].startswith(f"{number} clusters of all pixels of split val")
        assert content["identity"]["protocol"]["num_clusters"] == number
        assert f"({match})" in content["matching"]


def test_two_encoders_are_compared_on_the_same_resamples(finished: Path, voc: Path, tmp_path: Path) -> None:
    name = f"{pooled.__module__}:pooled"
    flags = ("--protocols", "native,linear_exact", "--compare", finished)
    outcome = benchmark(voc, tmp_path, *by_masks(voc), *flags, encoder=name)
    assert outcome.status == 0, outcome.err
    rows = json.loads((tmp_path / "benchmark.json").read_text())["protocols"]
    for row in rows:
        found = row["comparison"]
        assert found["miou"] == pytest.approx(
            card(finished, row["name"])["scores"].get("miou_per_seed", [None])[0]
            or (card(finished, row["name"])["miou"])
        )
        assert 0 <= found["share_of_resamples_better"] + found["share_of_resamples_equal"] <= 1
    for row in rows:
        found, scores = row["comparison"], card(tmp_path, row["name"])["scores"]
        own = scores.get("miou_per_seed", [scores["miou"]])[0]
        assert found["difference"] == pytest.approx(own - found["miou"])
        seeds = ", both of their first seed" if row["name"] == "native" else ""
        line = f"- {row['name']}: better than {finished} (mIoU {100 * found['miou']:.1f}, here {100 * own:.1f}{seeds})"
        assert line in outcome.out
    outcome = benchmark(
        voc,
        tmp_path / "other",
        "--protocols",
        "linear_exact",
        "--exact.max_passes",
        "7",
        "--compare",
        finished,
        encoder=name,
    )
    assert "not compared: " in outcome.out
    assert "is of another protocol, or of other settings of it (max_passes: 20 there, 7 here)" in outcome.out


def test_only_numbers_of_one_setting_are_compared(voc: Path, tmp_path: Path) -> None:
    name = f"{pooled.__module__}:pooled"
    flags = ("--protocols", "native,linear_exact", "--exact.max_passes", "3")
    assert benchmark(voc, tmp_path / "a", *by_masks(voc), *flags, encoder=name).status == 0
    flags = (*flags, "--compare", tmp_path / "a", "--foreground", "labels", "--bootstrap", "150", "--seeds", "3")
    outcome = benchmark(voc, tmp_path / "b", *flags, encoder=name)
    assert "native: not compared: " in outcome.out
    assert "is of another foreground (foreground: masks there, labels here)" in outcome.out
    assert f"- linear_exact: better than {tmp_path / 'a'}" in outcome.out  # it uses no foreground and no seed
    outcome = benchmark(voc, tmp_path / "c", "--train_split", "train", *flags, encoder=name)
    assert "linear_exact: not compared: " in outcome.out
    assert "is of another list of images (train_aug: only there; train: only here)" in outcome.out


def test_resamples_and_what_a_protocol_does_not_use_cost_no_second_run(voc: Path, tmp_path: Path) -> None:
    name = f"{pooled.__module__}:pooled"
    flags = ("--protocols", "linear_exact", "--exact.max_passes", "3")
    assert benchmark(voc, tmp_path, *flags, encoder=name).status == 0
    first = card(tmp_path, "linear_exact")["scores"]
    outcome = benchmark(voc, tmp_path, *flags, *by_masks(voc), "--seeds", "4", "--bootstrap", "150", encoder=name)
    assert "linear_exact: mIoU" in outcome.err
    assert "finished before" in outcome.err
    second = card(tmp_path, "linear_exact")["scores"]
    assert second["bootstrap"]["num_resamples"] == 150
    assert {**second, "bootstrap": None} == {**first, "bootstrap": None}
    assert benchmark(voc, tmp_path, *flags, encoder=name).status == 0
    assert card(tmp_path, "linear_exact")["scores"] == first
    assert benchmark(voc, tmp_path, *flags, "--bootstrap", "0", encoder=name).status == 0
    assert "bootstrap" not in card(tmp_path, "linear_exact")["scores"]


def test_a_changed_image_costs_its_cards(voc: Path, tmp_path: Path) -> None:
    root = tmp_path / "voc"
    shutil.copytree(voc, root)
    flags = ("--protocols", "native", "--foreground", "all")
    name = f"{pooled.__module__}:pooled"
    assert benchmark(root, tmp_path / "out", *flags, encoder=name).status == 0
    assert "finished before" in benchmark(root, tmp_path / "out", *flags, encoder=name).err
    path = root / f"VOCdevkit/VOC2012/JPEGImages/{VAL[0]}.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    assert "finished before" not in benchmark(root, tmp_path / "out", *flags, encoder=name).err


def test_a_table_entry_is_what_its_label_maps_score(voc: Path, tmp_path: Path) -> None:
    maps: dict[str, np.ndarray] = {}
    settings = protocol_runs.ProtocolSettings(64, range(1), 0, instances=True, keep=maps.__setitem__)
    data = open_data(voc, tmp_path)
    for name in ("native", "hummingbird"):
        maps.clear()
        result = protocol_runs.run_protocol(protocol_runs.named_protocol(name, settings), data, settings)
        labels = voc / "VOCdevkit/VOC2012/SegmentationClass"
        total = sum(confusion_matrix(read_label_map(labels / f"{stem}.png"), maps[stem], 21, 21) for stem in VAL)
        found = scores_from_confusion(total, len(VAL), "hungarian" if name == "native" else "none", (0, 8, 15))
        assert result.miou == pytest.approx(found.miou, abs=1e-12)
        for stem, label_map in maps.items():
            write_label_map(tmp_path / name / f"{stem}.png", label_map)
        match = found.match
        more = {"classes": [0, 8, 15], "boundary": True, "instances": True}
        alone = evaluate(tmp_path / name, labels, 21, match=match, **more)
        assert result.scores.scores.boundary == alone.boundary
        assert result.scores.scores.instances == alone.instances


def open_data(voc: Path, tmp_path: Path) -> Any:
    from densessl.commands.cluster_encoder import open_clustered_encoder
    from densessl.commands.encoder import EncoderSettings
    from densessl.commands.protocol_data import DataSettings, ProtocolData

    device = torch.device("cpu")
    encoder = open_clustered_encoder(None, EncoderSettings(pooled), device)
    masks = voc / "masks"
    settings = DataSettings(voc, "val", None, "masks", masks, masks, (0, 8, 15), tmp_path / "features", 4, 0)
    return ProtocolData(encoder, settings, device)


def test_instances_against_object_maps_in_every_frame(voc: Path, tmp_path: Path) -> None:
    root = tmp_path / "voc"
    shutil.copytree(voc, root)
    tree = root / "VOCdevkit/VOC2012"
    for stem in VAL:  # one object each
        labels = read_label_map(tree / "SegmentationClass" / f"{stem}.png")
        write_label_map(tree / "SegmentationObject" / f"{stem}.png", np.where((labels > 0) & (labels < 255), 1, labels))
    names = "native,stego320,leopart,linear_exact,retrieval_7"
    flags = (*by_masks(root), "--protocols", names, "--instances", "true")
    outcome = benchmark(root, tmp_path / "a", *flags, encoder=f"{pooled.__module__}:pooled")
    assert outcome.status == 0, outcome.err
    rows = json.loads((tmp_path / "a/benchmark.json").read_text())["protocols"]
    assert len(rows) == 5
    for row in rows:
        found = card(tmp_path / "a", row["name"])["scores"]["instances"]
        assert found["objects_from"] == "VOC object maps (SegmentationObject)"
        assert (found["classes"], found["num_objects"]) == ([8, 15], len(VAL) - 1)  # sheep do not count
        assert row["instances"]["ap"] == found["ap"]
        assert 0 < found["ar_100"] <= 1
        assert f" | {100 * found['ap']:.1f} / {100 * found['ar_100']:.1f} | " in outcome.out
    flags = (*by_masks(root), "--protocols", "native")
    again = benchmark(root, tmp_path / "a", *flags, encoder=f"{pooled.__module__}:pooled")
    assert "finished before" not in again.err
    assert "instances" not in card(tmp_path / "a", "native")["scores"]
    assert "| 100.0 | - | none |" in again.out  # beside the cards that have them


def test_classes_without_the_background(voc: Path, tmp_path: Path) -> None:
    flags = ("--protocols", "native,retrieval", "--classes", "8,15")
    outcome = benchmark(voc, tmp_path, *by_masks(voc), *flags, encoder=f"{pooled.__module__}:pooled")
    assert outcome.status == 0, outcome.err
    native, retrieval = card(tmp_path, "native"), card(tmp_path, "retrieval")
    assert native["class_names"] == retrieval["class_names"] == ["cat", "person"]
    assert native["scores"]["match"] == "hungarian"
    assert native["scores"]["assignment"][0] is None  # the background of the masks
    assert sorted(native["scores"]["assignment"][1:]) == [8, 15]
    assert native["miou"] > 0.9
    outcome = benchmark(
        voc, tmp_path / "b", *by_masks(voc), *flags[:2], "--classes", "0", encoder=f"{pooled.__module__}:pooled"
    )
    assert "native: the background is the only class" in outcome.err


def test_faults_of_one_protocol_cost_one_line(voc: Path, tmp_path: Path) -> None:
    name = f"{pooled.__module__}:pooled"
    names = "native,maskcontrast,leopart,linear_exact"
    flags = ("--masks", voc / "masks", "--protocols", names, "--image_size", "32")
    outcome = benchmark(voc, tmp_path, *flags, "--classes", "0,8,15,17,1,2,3,4,5,6,7,9", encoder=name)
    assert outcome.status == 1
    assert "3 of 4 protocols failed" in outcome.err
    record = json.loads((tmp_path / "benchmark.json").read_text())["protocols"]
    assert ["failed" in row for row in record] == [True, True, True, False]
    assert "10 prototypes cannot form 11 clusters" in record[0]["failed"]
    assert "cannot form 500 clusters" in record[2]["failed"]


def test_bad_images_masks_and_labels(voc: Path, tmp_path: Path) -> None:
    root = tmp_path / "voc"
    shutil.copytree(voc, root)
    tree = root / "VOCdevkit/VOC2012"
    (root / "masks" / f"{VAL[1]}.png").unlink()
    (tree / "JPEGImages" / f"{VAL[2]}.jpg").write_bytes(b"broken")
    name = f"{pooled.__module__}:pooled"
    outcome = benchmark(root, tmp_path / "a", *by_masks(root), "--protocols", "native", encoder=name)
    assert outcome.status == 0, outcome.err
    assert {item["stem"] for item in card(tmp_path / "a", "native")["left_out"]} == {VAL[1], VAL[2]}
    assert "2 of 10 images left out" in outcome.out
    write_label_map(tree / "SegmentationClass" / f"{VAL[3]}.png", np.full((48, 64), 40, np.uint8))
    outcome = benchmark(root, tmp_path / "b", *by_masks(root), "--protocols", "native,hummingbird", encoder=name)
    assert outcome.status == 1
    assert f"{VAL[3]}.png holds the value 40" in outcome.err
    write_label_map(tree / "SegmentationClass" / f"{VAL[3]}.png", np.zeros((20, 20), np.uint8))
    outcome = benchmark(root, tmp_path / "c", *by_masks(root), "--protocols", "hummingbird", encoder=name)
    assert f"image '{VAL[3]}'" in outcome.err
    for path in (root / "masks").iterdir():
        write_label_map(path, np.zeros_like(read_label_map(path), dtype=np.uint8))
    outcome = benchmark(root, tmp_path / "d", *by_masks(root), "--protocols", "native", encoder=name)
    assert "no foreground was found in any of" in outcome.err


def broken(images: torch.Tensor) -> torch.Tensor:
    """A Python encoder that gives NaN."""
    return pooled(images) / 0 * 0


def test_features_that_are_not_finite_name_the_image(voc: Path, tmp_path: Path) -> None:
    name = f"{broken.__module__}:broken"
    outcome = benchmark(voc, tmp_path, *by_masks(voc), "--protocols", "native", encoder=name)
    assert outcome.status == 1
    assert f"features of image '{VAL[0]}' hold NaN" in outcome.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--protocols", "nativ"), "protocol 'nativ' is unknown; give all, or names among native"),
        (("--protocols", ","), "no protocol is named"),
        (("--protocols", "leopart,maskcontrast"), "protocol maskcontrast needs a foreground, and encoder resnet18"),
        (("--foreground", "masks"), "needs --masks DIR"),
        (("--foreground", "head"), "foreground head needs a saliency head"),
        (("--foreground", "all", "--masks", "m"), "masks m are only used with --foreground masks"),
        (("--bootstrap", "10"), "bootstrap is 10; it must be 0"),
        (("--seeds", "0"), "seeds is 0"),
        (("--bootstrap", "0", "--compare", "x"), "--compare needs the number of resamples"),
        (("--compare", "nowhere"), "no benchmark in nowhere"),
        (("--split", "test", "--foreground", "all"), "no split test in"),
        (("--classes", "0,77", "--foreground", "all"), "class 77 is not one of the 21 classes"),
        (("--image_size", "8", "--foreground", "all"), "image_size is 8"),
        (("--train_split", "val", "--protocols", "hummingbird"), "scores on what was learned say nothing"),
        (("--finetune.size_px", "96", "--protocols", "finetune"), "image_size is 64 and finetune.size_px 96"),
        (("--train_split", "none", "--protocols", "linear"), "learned from: --train_split names another"),
        (("--split", "train", "--protocols", "leopart,linear"), "holds 6 of the 6 images of split train, "),
        (("--split", "trainval", "--protocols", "finetune"), "holds 6 of the 16 images of split trainval"),
        (("--train_split", "trainval", "--protocols", "stego320"), f"is scored (the first: {VAL[0]})"),
    ],
)
def test_bad_settings_are_refused(more: tuple[object, ...], message: str, voc: Path, tmp_path: Path) -> None:
    outcome = benchmark(voc, tmp_path / "out", *more)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_all_leaves_out_what_says_nothing(voc: Path, tmp_path: Path) -> None:
    name = f"{pooled.__module__}:pooled"
    (tmp_path / "out/cards").mkdir(parents=True)
    data = open_data(voc, tmp_path)
    finetune, retrieval = (
        protocol_runs.named_protocol(name, protocol_runs.ProtocolSettings(64, range(1), 0))
        for name in ("finetune", "retrieval_7")
    )
    reason = protocol_runs.reason_to_leave_out(finetune, data)
    assert reason == f"encoder {pooled} is a callable; only networks of timm names and runs can be trained"
    assert protocol_runs.reason_to_leave_out(retrieval, data) is None
    outcome = benchmark(voc, tmp_path / "named", "--protocols", "finetune", encoder=name)
    assert outcome.status == 1
    assert "only networks of timm names and runs can be trained" in outcome.err


def test_masks_of_training_images_are_asked_for_before_the_work(voc: Path, tmp_path: Path) -> None:
    outcome = benchmark(voc, tmp_path / "out", "--masks", voc / "masks", "--protocols", "native,retrieval")
    assert outcome.status == 1
    assert "--foreground masks needs --train_masks DIR, the folder of the masks of split train" in outcome.err
    assert not (tmp_path / "out").exists()


def test_all_runs_what_needs_no_masks(voc: Path, tmp_path: Path) -> None:
    outcome = benchmark(voc, tmp_path, "--linear.augmentation", "false", encoder=f"{pooled.__module__}:pooled")
    assert outcome.status == 0, outcome.err
    rows = json.loads((tmp_path / "benchmark.json").read_text())["protocols"]
    without = {row["name"] for row in rows if "left_out" in row}
    assert without == {"native", "maskcontrast", "retrieval", "retrieval_7", "finetune"}
    assert {row["name"] for row in rows if "miou" in row} == set(PROTOCOLS) - without
    assert "retrieval: left out: protocol retrieval needs a foreground" in outcome.err
    assert "give --masks DIR" in outcome.out


def test_a_folder_is_that_of_one_encoder_and_keeps_all_its_cards(voc: Path, tmp_path: Path) -> None:
    name = f"{pooled.__module__}:pooled"
    assert benchmark(voc, tmp_path, *by_masks(voc), "--protocols", "native", encoder=name).status == 0
    outcome = benchmark(voc, tmp_path, "--protocols", "hummingbird", "--seeds", "1", encoder=name)
    assert outcome.status == 0, outcome.err
    rows = json.loads((tmp_path / "benchmark.json").read_text())["protocols"]
    assert [(row["name"], row.get("is_earlier", False)) for row in rows] == [("native", True), ("hummingbird", False)]
    assert "- native: of an earlier call: prototypes summed over masks, 64x64" in outcome.out
    assert "foreground: masks" in outcome.out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    outcome = benchmark(voc, tmp_path, "--protocols", "hummingbird", encoder=f"{pooled.__module__}:broken")
    assert outcome.status == 1
    assert "holds the benchmark of another encoder or data set (description: Python callable" in outcome.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    outcome = benchmark(voc, tmp_path, "--protocols", "hummingbird", "--classes", "0,8", encoder=name)
    assert "native" not in outcome.out  # its card is of other classes


def test_fine_tuning_trains_the_encoder_with_labels(finished: Path) -> None:
    content = card(finished, "finetune")
    assert content["labels"]["fit"] == "pixel labels of split train_aug, which train the encoder too"
    assert content["fitted"] == "encoder and linear decoder on 9 images of split train_aug; epochs: 1"
    assert content["identity"]["protocol"]["settings"]["size_px"] == 64
    assert not list(finished.glob("finetune-*"))


def test_descriptions_follow_the_settings(finished: Path) -> None:
    words = {name: card(finished, name)["description"] for name in PROTOCOLS}
    assert all("64x64" in text for text in words.values())
    assert not any(other in text for text in words.values() for other in ("512", "448x448"))
    assert words["maskcontrast"].startswith("prototypes summed over masks, 64x64, PCA 32 whitened, mini-batch k-means")
    assert words["linear"].startswith("1x1 convolution on the encoder's features, 64x64, SGD 2 epochs")
    assert words["finetune"].startswith("1x1 convolution and encoder trained together, rates falling by stage")
    assert words["finetune"].endswith("views of 64x64, epochs: 1, the last one used")


def test_fine_tuning_leaves_truncated_images_out(voc: Path, tmp_path: Path) -> None:
    root = tmp_path / "voc"
    shutil.copytree(voc, root)
    images = root / "VOCdevkit/VOC2012/JPEGImages"
    for stem in (SBD_ONLY[0], VAL[2]):
        truncate(images / f"{stem}.jpg")
    outcome = benchmark(root, tmp_path / "out", "--protocols", "finetune", encoder="resnet10t")
    assert outcome.status == 0, outcome.err
    content = card(tmp_path / "out", "finetune")
    assert [item["stem"] for item in content["left_out"]] == [VAL[2]]
    assert content["fitted"].startswith("encoder and linear decoder on 8 images of split train_aug")
    wanted = f"1 images of train_aug were not learned from; the first: image {images}"
    assert any(wanted in note for note in content["notes"])


def test_names_run_in_one_order() -> None:
    assert parse_protocols("all") == PROTOCOLS
    assert parse_protocols(["linear", "native", "linear"]) == ("native", "linear")


def test_in_python_with_a_function(voc: Path, tmp_path: Path) -> None:
    result = benchmark_function(
        pooled, voc, tmp_path, ["retrieval"], foreground="labels", image_size=32, bootstrap=0, num_workers=0
    )
    assert [row.name for row in result.rows] == ["retrieval"]
    assert card(tmp_path, "retrieval")["labels"]["masks"].startswith("ORACLE")
    assert card(tmp_path, "retrieval")["labels"]["fit"].endswith("and the true foreground (oracle)")
    factor = torch.tensor(2.0)

    def scaled(images: torch.Tensor) -> torch.Tensor:
        return factor * pooled(images)

    options: dict[str, Any] = {"image_size": 32, "bootstrap": 0, "num_workers": 0}
    benchmark_function(scaled, voc, tmp_path / "scaled", ["hummingbird"], **options)
    with pytest.raises(InputError, match="has no fingerprint by which to tell that they are its own"):
        benchmark_function(scaled, voc, tmp_path / "scaled", ["hummingbird"], **options)
