"""The command `cluster`: label maps, clusters, prototypes and scores of a tiny run, and its bad inputs."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_runs import TINY, DrawnFolder, Outcome, command, draw_folder, truncate, write_mask

from densessl.commands.evaluate import evaluate
from densessl.data.image_folder import open_image_folder
from densessl.data.images import image_size
from densessl.data.label_maps import read_label_map, write_label_map
from densessl.data.synthetic import SYNTHETIC_CLASS_NAMES
from densessl.evaluation.embedded_parts import PARTS_FOLDER, Embedded
from densessl.evaluation.extraction import embed_images
from densessl.segmenter import Segmenter
from densessl.structures import ImageRef

NUM_CLASSES = len(SYNTHETIC_CLASS_NAMES)


def cluster(run: Path, out: Path, *more: object) -> Outcome:
    return command("cluster", "--run", run, "--out", out, "--seeds", "2", "--num_workers", "0", *more)


def on_tree(tree: Path) -> tuple[object, ...]:
    """Return the flags that cluster the 12 training images of the rendered tree by their true masks."""
    return "--data", tree, "--split", "train", "--foreground", "masks", "--masks", tree / "SegmentationObject"


def on_folder(folder: DrawnFolder, *more: object) -> tuple[object, ...]:
    return "--images", folder.images, "--foreground", "masks", "--masks", folder.masks, "--num_clusters", "3", *more


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def scored(trained: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clusters of the training images of the tree, scored on all classes; read only."""
    out = tmp_path_factory.mktemp("scored") / "clusters"
    outcome = cluster(trained, out, *on_tree(tree))
    if outcome.status != 0:
        pytest.fail(outcome.err)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> DrawnFolder:
    """Six drawn images to spoil."""
    return draw_folder(tmp_path / "drawn", 6)


def test_label_maps_have_native_size_and_one_number_per_cluster(scored: Path, tree: Path) -> None:
    stems = (tree / "ImageSets/Segmentation/train.txt").read_text().split()
    written = sorted(path.stem for path in (scored / "label_maps").iterdir())
    assert written == sorted(stems)
    sizes, values = set(), set()
    for stem in stems:
        label_map = read_label_map(scored / "label_maps" / f"{stem}.png")
        assert label_map.shape == image_size(tree / "JPEGImages" / f"{stem}.jpg")
        objects = read_label_map(tree / "SegmentationObject" / f"{stem}.png")
        assert ((label_map > 0) == ((objects > 0) & (objects != 255))).all()
        sizes.add(label_map.shape)
        values |= set(np.unique(label_map).tolist())
    assert len(sizes) > 1  # the tree has images of several shapes
    assert values == set(range(NUM_CLASSES))  # background and 8 clusters


def test_clusters_json(scored: Path, trained: Path, tree: Path) -> None:
    content = read(scored / "clusters.json")
    assert content["num_clusters"] == NUM_CLASSES  # the background counts
    assert [item["id"] for item in content["clusters"]] == list(range(NUM_CLASSES - 1))
    assert (content["foreground"], content["features"], content["weights"]) == ("masks", "embedding", "final")
    assert content["run"] == str(trained)
    assert content["images"] == {"data": str(tree), "images": None, "split": "train"}
    assert content["seeds"] == [0, 1]
    assert content["protocol"]["name"] == "native"
    assert content["rejected"] == []
    assert set(content["label_free"]) == {"stability", "silhouette"}
    assert set(content["environment"]) == {"command", "started", "commit", "versions", "hardware"}
    vectors = np.load(scored / "prototypes.npz")
    assert sum(item["size"] for item in content["clusters"]) == vectors["has_prototype"].sum()
    for item in content["clusters"]:
        distances = [member["distance"] for member in item["members"]]
        assert len(distances) == item["size"]
        assert distances == sorted(distances)


def test_prototypes_npz(scored: Path) -> None:
    arrays = np.load(scored / "prototypes.npz", allow_pickle=False)
    assert set(arrays) == {"vectors", "has_prototype", "stems"}
    assert arrays["vectors"].shape == (len(arrays["stems"]), 32)
    assert arrays["has_prototype"].shape == arrays["stems"].shape
    assert np.isfinite(arrays["vectors"]).all()
    assert len(set(arrays["stems"].tolist())) == 12


def test_scores_json(scored: Path) -> None:
    content = read(scored / "scores.json")
    assert set(content) == {
        *("miou", "miou_std", "miou_per_seed", "iou", "classes", "class_names", "pixel_accuracy", "confusion"),
        *("assignment", "match", "absent_class_rule", "labels_used", "num_images", "num_clusters", "foreground"),
        *("masks", "features", "weights", "seeds", "protocol", "provenance"),
        *("mean_accuracy", "frequency_weighted_iou", "adjusted_rand_index", "normalised_mutual_information"),
    }
    assert content["classes"] == list(range(NUM_CLASSES))
    assert content["class_names"] == list(SYNTHETIC_CLASS_NAMES)
    assert len(content["iou"]) == NUM_CLASSES
    assert len(content["miou_per_seed"]) == 2
    assert content["miou"] == pytest.approx(np.mean(content["miou_per_seed"]))
    assert content["miou_std"] == pytest.approx(np.std(content["miou_per_seed"], ddof=1))
    assert (content["match"], content["num_images"], content["num_clusters"]) == ("hungarian", 12, NUM_CLASSES)
    assert content["protocol"] == "native"
    assert content["iou"][0] > 0.95  # the background of true masks
    assert set(content["provenance"]) == {"backbone", "masks", "selection", "matching", "notes"}
    assert content["provenance"]["backbone"] == "none (random weights)"
    assert content["provenance"]["masks"].startswith("made elsewhere (SegmentationObject)")
    assert "hungarian" in content["provenance"]["matching"]


def test_label_maps_score_the_same_under_evaluate(scored: Path, tree: Path, tmp_path: Path) -> None:
    outcome = command(
        *("evaluate", "--predictions", scored / "label_maps", "--labels", tree / "SegmentationClass"),
        *("--num_classes", NUM_CLASSES, "--match", "hungarian", "--json", tmp_path / "scores.json"),
        *("--split_file", tree / "ImageSets/Segmentation/train.txt"),
    )
    assert outcome.status == 0, outcome.err
    again, first = read(tmp_path / "scores.json"), read(scored / "scores.json")
    assert again["miou"] == pytest.approx(first["miou_per_seed"][0], abs=1e-12)
    assert again["confusion"] == first["confusion"]
    assert again["assignment"] == first["assignment"]


def test_without_the_background_among_the_classes(trained: Path, tree: Path, tmp_path: Path) -> None:
    outcome = cluster(trained, tmp_path, *on_tree(tree), "--classes", "3,5,6")
    assert outcome.status == 0, outcome.err
    content = read(tmp_path / "scores.json")
    assert content["num_clusters"] == 4  # the background is set apart all the same, and stands for no class
    assert content["match"] == "hungarian"
    assert content["assignment"][0] is None


def test_chosen_classes(trained: Path, tree: Path, tmp_path: Path) -> None:
    outcome = cluster(trained, tmp_path / "out", *on_tree(tree), "--classes", "0,3,5,6")
    assert outcome.status == 0, outcome.err
    content = read(tmp_path / "out" / "scores.json")
    assert content["classes"] == [0, 3, 5, 6]
    assert content["class_names"] == [SYNTHETIC_CLASS_NAMES[c] for c in (0, 3, 5, 6)]
    assert content["num_clusters"] == 4  # by default as many as classes, background included
    again = evaluate(
        tmp_path / "out" / "label_maps",
        tree / "SegmentationClass",
        NUM_CLASSES,
        match="hungarian",
        classes=[0, 3, 5, 6],
    )
    assert again.miou == pytest.approx(content["miou_per_seed"][0], abs=1e-12)


@pytest.mark.parametrize(("asked", "match"), [(4, "highest_iou"), (7, "hungarian"), (11, "highest_iou")])
def test_number_of_clusters_counts_the_background(
    asked: int, match: str, trained: Path, tree: Path, tmp_path: Path
) -> None:
    outcome = cluster(trained, tmp_path / "out", *on_tree(tree), "--num_clusters", asked)
    assert outcome.status == 0, outcome.err
    assert f"{asked} clusters (background included) of 12 images" in outcome.err
    content = read(tmp_path / "out" / "clusters.json")
    assert content["num_clusters"] == asked
    assert len(content["clusters"]) == asked - 1
    assert read(tmp_path / "out" / "scores.json")["match"] == match


def test_prototypes_depend_on_nothing_but_images_and_weights(
    scored: Path, trained: Path, tree: Path, tmp_path: Path
) -> None:
    expected = np.load(scored / "prototypes.npz")
    for name, words in {
        "seed": ("--seed", "11"),
        "batch": ("--batch_size", "5"),
        "workers": ("--num_workers", "2", "--batch_size", "3"),
    }.items():
        outcome = cluster(trained, tmp_path / name, *on_tree(tree), *words)
        assert outcome.status == 0, outcome.err
        found = np.load(tmp_path / name / "prototypes.npz")
        assert (found["stems"] == expected["stems"]).all()
        np.testing.assert_allclose(found["vectors"], expected["vectors"], atol=1e-4)
    for path in (scored / "label_maps").iterdir():  # the same seed, so the same clusters
        assert (read_label_map(path) == read_label_map(tmp_path / "workers" / "label_maps" / path.name)).all()


def test_another_algorithm_is_named_beside_the_protocol(trained: Path, tree: Path, tmp_path: Path) -> None:
    outcome = cluster(trained, tmp_path / "clusters", *on_tree(tree), "--algorithm", "spectral")
    assert outcome.status == 0, outcome.err
    content = read(tmp_path / "clusters/clusters.json")
    assert content["protocol"]["algorithm"] == "spectral"
    assert any("spectral" in note for note in content["notes"])
    assert read(tmp_path / "clusters/scores.json")["protocol"] == "native with spectral"
    assert sum(item["size"] for item in content["clusters"]) == len(
        np.load(tmp_path / "clusters/prototypes.npz")["stems"]
    )


def test_the_number_of_clusters_is_chosen_without_labels(trained: Path, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "clusters"
    outcome = cluster(trained, out, *on_tree(tree), "--choose_clusters", "3,5", "--algorithm", "fast")
    assert outcome.status == 0, outcome.err
    choice = read(out / "num_clusters.json")
    assert [score["num_clusters"] for score in choice["scores"]] == [3, 4, 5]  # background included
    assert choice["counts_background"]
    assert choice["labels_used"] == "none"
    assert read(out / "clusters.json")["num_clusters"] == choice["chosen"]
    assert (out / "num_clusters.png").read_bytes().startswith(b"\x89PNG")
    assert cluster(trained, out, *on_tree(tree)).status == 0
    assert not (out / "num_clusters.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--choose_clusters", "5"), "'5' is not a range"),
        (("--choose_clusters", "5,3"), "5,3 must go from at least 2 to a larger number"),
        (("--choose_clusters", "2,5", "--num_clusters", "4"), "exclude each other"),
        (("--choose_clusters", "2,400"), "too few for 399 clusters"),
    ],
)
def test_ranges_that_cannot_be_tried(
    flags: tuple[str, ...], message: str, trained: Path, tree: Path, tmp_path: Path
) -> None:
    outcome = cluster(trained, tmp_path / "clusters", *on_tree(tree), *flags)
    assert outcome.status == 1
    assert message in outcome.err


def test_foreground_of_the_head(trained: Path, tree: Path, tmp_path: Path) -> None:
    flags = ("--data", tree, "--split", "train", "--num_clusters", "4", "--protocol", "maskcontrast")
    outcome = cluster(trained, tmp_path / "out", *flags)
    assert outcome.status == 0, outcome.err
    content = read(tmp_path / "out" / "scores.json")
    assert (content["foreground"], content["protocol"], content["masks"]) == ("head", "maskcontrast", None)
    assert content["provenance"]["masks"].startswith("the network's saliency head, trained on masks: made elsewhere")
    values = {
        value for path in (tmp_path / "out" / "label_maps").iterdir() for value in np.unique(read_label_map(path))
    }
    assert values == {0, 1, 2, 3}


def test_all_pixels(trained: Path, tree: Path, tmp_path: Path) -> None:
    flags = ("--data", tree, "--split", "val", "--foreground", "all", "--features", "encoder")
    outcome = cluster(trained, tmp_path / "out", *flags)
    assert outcome.status == 0, outcome.err
    content = read(tmp_path / "out" / "clusters.json")
    assert content["num_clusters"] == len(content["clusters"]) == NUM_CLASSES  # no background is set apart
    assert not (tmp_path / "out" / "prototypes.npz").exists()
    assert len(list((tmp_path / "out" / "label_maps").iterdir())) == 4
    scores = read(tmp_path / "out" / "scores.json")
    assert scores["provenance"]["masks"] == "none (every pixel is clustered)"
    again = evaluate(tmp_path / "out" / "label_maps", tree / "SegmentationClass", NUM_CLASSES, match="hungarian")
    assert again.miou == pytest.approx(scores["miou_per_seed"][0], abs=1e-12)


def test_initial_and_final_weights_differ(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    for weights in ("initial", "final"):
        outcome = cluster(trained, tmp_path / weights, *on_folder(drawn, "--weights", weights))
        assert outcome.status == 0, outcome.err
        assert read(tmp_path / weights / "clusters.json")["weights"] == weights
    initial, final = (np.load(tmp_path / name / "prototypes.npz")["vectors"] for name in ("initial", "final"))
    assert not np.allclose(initial, final, atol=1e-3)


def test_an_unlabelled_folder_has_clusters_and_no_scores(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = cluster(trained, tmp_path / "out", *on_folder(drawn))
    assert outcome.status == 0, outcome.err
    assert "no labels: metrics that need them are skipped" in outcome.err
    assert not (tmp_path / "out" / "scores.json").exists()
    assert read(tmp_path / "out" / "clusters.json")["images"] == {
        "data": None,
        "images": str(drawn.images),
        "split": "val",
    }
    assert read(tmp_path / "out" / "clusters.json")["label_free"]["stability"] is not None


def test_nested_folders_stay_in_the_stems(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    for index, part in enumerate(("", "a", "a", "b/c", "b/c", "b/c")):
        for name, source in (("images", drawn.images / f"{index}.jpg"), ("masks", drawn.masks / f"{index}.png")):
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / name / part)
    nested = DrawnFolder(tmp_path, tmp_path / "images", tmp_path / "masks")
    outcome = cluster(trained, tmp_path / "out", *on_folder(nested))
    assert outcome.status == 0, outcome.err
    stems = ["0", "a/1", "a/2", "b/c/3", "b/c/4", "b/c/5"]
    assert [image.stem for image in open_image_folder(tmp_path / "out" / "label_maps").images] == stems
    assert np.load(tmp_path / "out" / "prototypes.npz")["stems"].tolist() == stems
    members = [
        member["stem"] for item in read(tmp_path / "out" / "clusters.json")["clusters"] for member in item["members"]
    ]
    assert sorted(members) == stems


def test_nothing_of_an_earlier_result_stays(trained: Path, tree: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cluster(trained, out, *on_tree(tree)).status == 0
    (out / "notes.txt").write_text("mine")
    assert cluster(trained, out, *on_folder(drawn)).status == 0
    names = ["clusters.json", "label_maps", "notes.txt", "prototypes.npz", "segmenter.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(path.stem for path in (out / "label_maps").iterdir()) == [str(index) for index in range(8)]


def test_masks_of_the_saliency_stage_count_as_label_free(
    trained: Path, drawn: DrawnFolder, tree: Path, tmp_path: Path
) -> None:
    outcome = command(
        "saliency", "--data", tree, "--split", "val", "--out", tmp_path / "proposals", "--num_workers", "0"
    )
    assert outcome.status == 0, outcome.err
    flags = ("--data", tree, "--foreground", "masks", "--masks", tmp_path / "proposals", "--num_clusters", "3")
    outcome = cluster(trained, tmp_path / "out", *flags)
    assert outcome.status == 0, outcome.err
    provenance = read(tmp_path / "out" / "scores.json")["provenance"]
    assert provenance["masks"] == "fitted to none (estimator fused; docs/saliency.md says which labels its design saw)"


# Bad input


def test_not_a_run(drawn: DrawnFolder, tmp_path: Path) -> None:
    for run in (drawn.root, tmp_path / "none"):
        outcome = cluster(run, tmp_path / "out", "--images", drawn.images)
        assert outcome.status == 1
        assert f"{run} is not a run folder: no config.yaml in it; expected the --out of `pretrain`" in outcome.err
    assert not (tmp_path / "out").exists()


def test_no_such_images_and_an_empty_folder(trained: Path, tmp_path: Path) -> None:
    outcome = cluster(trained, tmp_path / "out", "--images", tmp_path / "none")
    assert (outcome.status, "no image folder" in outcome.err) == (1, True)
    (tmp_path / "empty").mkdir()
    outcome = cluster(trained, tmp_path / "out", "--images", tmp_path / "empty")
    assert (outcome.status, "no images below" in outcome.err) == (1, True)
    outcome = cluster(trained, tmp_path / "out")
    assert (outcome.status, "got neither" in outcome.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seeds", "0"), "seeds is 0; clustering must run at least once"),
        (("--seed", "-1"), "seed is -1; it must be 0 or more"),
        (("--batch_size", "0"), "batch_size is 0; it must be at least 1"),
        (("--num_clusters", "1"), "num_clusters is 1; it counts the background, so it must be at least 2"),
        (("--classes", "0,x"), "classes '0,x' is not a list of class indices such as 0,8,10"),
        (("--classes", "0,9"), "class 9 is not one of the 7 classes 0-6"),
        (("--classes", "1,1"), "class 1 is listed 2 times"),
        (("--foreground", "head"), "is only used with --foreground masks, not head; add it or drop it"),
    ],
)
def test_settings_are_checked_before_any_image(
    words: tuple[str, ...], message: str, trained: Path, tree: Path, tmp_path: Path
) -> None:
    outcome = cluster(trained, tmp_path / "out", *on_tree(tree), *words)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_masks_are_asked_for(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = cluster(trained, tmp_path / "out", "--images", drawn.images, "--foreground", "masks")
    assert outcome.status == 1
    assert "--foreground masks needs --masks DIR" in outcome.err


def test_more_clusters_than_masks(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = cluster(trained, tmp_path / "out", *on_folder(drawn), "--num_clusters", "30")
    assert outcome.status == 1
    assert "8 prototypes cannot form 29 clusters; ask for at most 8 clusters or add images" in outcome.err


def test_a_head_that_finds_nothing(drawn: DrawnFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert command("pretrain", "--out", run, *drawn.flags(), *TINY, "--training.epochs", "0").status == 0
    outcome = cluster(run, tmp_path / "out", "--images", drawn.images)
    assert outcome.status == 1
    assert "no foreground was found in any of 8 images" in outcome.err
    assert "use --foreground masks with a mask folder, or train the saliency head longer" in outcome.err


def test_label_above_the_number_of_classes(trained: Path, tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "voc"
    shutil.copytree(tree, copy)
    stem = (tree / "ImageSets/Segmentation/train.txt").read_text().split()[3]
    label_map = read_label_map(copy / "SegmentationClass" / f"{stem}.png")
    label_map[0, 0] = 77
    write_label_map(copy / "SegmentationClass" / f"{stem}.png", label_map)
    outcome = cluster(trained, tmp_path / "out", *on_tree(copy))
    assert outcome.status == 1
    assert f"{stem}.png holds the value 77; values must be 0-6 or 255 (void)" in outcome.err
    assert "correct it or list more names in class_names.txt" in outcome.err
    assert not (tmp_path / "out" / "scores.json").exists()


def test_truncated_image_is_left_out(folder: DrawnFolder, trained: Path, tmp_path: Path) -> None:
    truncate(folder.images / "3.jpg")
    outcome = cluster(trained, tmp_path / "out", *on_folder(folder), "--num_workers", "1")
    assert outcome.status == 0, outcome.err
    assert "3 clusters (background included) of 5 images, 1 left out" in outcome.err
    (rejected,) = read(tmp_path / "out" / "clusters.json")["rejected"]
    assert rejected["stem"] == "3"
    assert f"image {folder.images / '3.jpg'} cannot be read" in rejected["reason"]
    assert not (tmp_path / "out" / "label_maps" / "3.png").exists()


def test_goes_on_after_an_interruption(
    folder: DrawnFolder, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def embed_and_count(refs: Sequence[ImageRef], *args: Any, **kwargs: Any) -> Iterator[Embedded]:
        asked.append(len(refs))
        yield from embed_images(refs, *args, **kwargs)

    monkeypatch.setattr("densessl.commands.cluster.embed_images", embed_and_count)
    flags = *on_folder(folder), "--batch_size", "2"
    assert cluster(trained, tmp_path / "whole", *flags).status == 0
    good = (folder.masks / "4.png").read_bytes()
    write_mask(folder, "4", 255, (10, 12))
    assert cluster(trained, tmp_path / "out", *flags).status == 1
    (folder.masks / "4.png").write_bytes(good)
    assert cluster(trained, tmp_path / "out", *flags).status == 0
    assert asked == [6, 6, 2]
    assert not (tmp_path / "out" / PARTS_FOLDER).exists()
    for name in ("label_maps/4.png", "label_maps/0.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with np.load(tmp_path / "out/prototypes.npz") as found, np.load(tmp_path / "whole/prototypes.npz") as wanted:
        np.testing.assert_array_equal(found["vectors"], wanted["vectors"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_is_recorded_and_kept_by_predict(
    folder: DrawnFolder, trained: Path, tmp_path: Path, precision: str
) -> None:
    out = tmp_path / "out"
    assert cluster(trained, out, *on_folder(folder, "--precision", precision)).status == 0
    assert read(out / "clusters.json")["precision"] == precision
    segmenter = Segmenter.from_run(out)
    assert segmenter.header.precision == precision
    mask = (cv2.imread(str(folder.masks / "2.png"), cv2.IMREAD_GRAYSCALE) > 0).astype(np.uint8)
    found = segmenter.predict(folder.images / "2.jpg", mask)
    np.testing.assert_array_equal(found, read_label_map(out / "label_maps" / "2.png"))


def test_only_truncated_images(folder: DrawnFolder, trained: Path, tmp_path: Path) -> None:
    for path in folder.images.iterdir():
        truncate(path)
    outcome = cluster(trained, tmp_path / "out", *on_folder(folder))
    assert outcome.status == 1
    assert "none of 6 images could be embedded; the first: image" in outcome.err


def test_saliency_leaves_a_truncated_image_out(folder: DrawnFolder, tmp_path: Path) -> None:
    truncate(folder.images / "3.jpg")
    outcome = command("saliency", "--images", folder.images, "--out", tmp_path / "out", "--num_workers", "0")
    assert outcome.status == 0
    assert "5 masks from 6 images, 1 rejected" in outcome.out
    assert f"rejected 3: image {folder.images / '3.jpg'} cannot be read" in " ".join(outcome.err.split())
    (rejected,) = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert rejected["stem"] == "3"


def test_missing_and_all_background_masks(folder: DrawnFolder, trained: Path, tmp_path: Path) -> None:
    (folder.masks / "0.png").unlink()
    write_mask(folder, "1", 0)
    outcome = cluster(trained, tmp_path / "out", *on_folder(folder))
    assert outcome.status == 0, outcome.err
    assert read(tmp_path / "out" / "clusters.json")["rejected"] == [{"stem": "0", "reason": "no mask"}]
    assert not read_label_map(tmp_path / "out" / "label_maps" / "1.png").any()  # background throughout
    for index in range(1, 6):
        write_mask(folder, str(index), 0)
    outcome = cluster(trained, tmp_path / "none", *on_folder(folder))
    assert outcome.status == 1
    assert "no foreground was found in any of 5 images" in outcome.err


def test_mask_of_another_size(folder: DrawnFolder, trained: Path, tmp_path: Path) -> None:
    write_mask(folder, "2", 255, (10, 12))
    outcome = cluster(trained, tmp_path / "out", *on_folder(folder), "--num_workers", "1")
    assert outcome.status == 1
    assert "2.png is 10 x 12, its image 48 x 64" in outcome.err
    assert "make the mask at the image's size" in outcome.err
    assert "Traceback" not in outcome.err


def test_output_below_a_file(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    outcome = cluster(trained, tmp_path / "file" / "out", *on_folder(drawn))
    assert outcome.status == 1
    assert f"cannot write to {tmp_path / 'file' / 'out'}" in outcome.err


def test_weights_that_do_not_fit_their_record(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "final.safetensors").write_bytes(b"not weights")
    outcome = cluster(run, tmp_path / "out", *on_folder(drawn))
    assert outcome.status == 1
    assert f"weights {run / 'final.safetensors'} cannot be read" in outcome.err


def test_one_seed_and_a_path_in_brackets(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "[bold]out"
    outcome = cluster(trained, out, *on_folder(drawn), "--seeds", "1")
    assert outcome.status == 0, outcome.err
    # no agreement between seeds, no markup in the path
    assert f"3 clusters (background included) of 8 images: {out}" in outcome.err
    assert read(out / "clusters.json")["label_free"]["stability"] is None
    assert cv2.imread(str(out / "label_maps" / "0.png"), cv2.IMREAD_UNCHANGED).shape[:2] == (48, 64)
