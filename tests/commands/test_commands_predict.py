"""The command `predict`, and `Segmenter`: new images get what `cluster` gave the clustered ones, and bad inputs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import DrawnFolder, Outcome, command, draw_folder, truncate, write_mask

import densessl
from densessl.commands.predict_output import claim_predict_folder, predict_record
from densessl.data.images import read_image
from densessl.data.label_maps import read_label_map
from densessl.data.masks import read_mask
from densessl.errors import InputError, MissingInputError
from densessl.files import file_sha256
from densessl.models.network_file import load_network, save_network
from densessl.models.patch_network import PatchNetwork, PatchNetworkHeader, save_patch_network
from densessl.models.saliency_network import SaliencyNetwork, SaliencyNetworkHeader, save_saliency_network
from densessl.report.page import write_report
from densessl.report.run_folder import read_run
from densessl.segmenter import Segmenter

NUM_IMAGES = 8


@dataclass(frozen=True)
class Clustered:
    """A clusters folder beside the copy of the run that it was made from."""

    run: Path
    clusters: Path
    drawn: DrawnFolder


def cluster(run: Path, out: Path, *more: object) -> Path:
    outcome = command("cluster", "--run", run, "--out", out, "--seeds", "1", "--num_workers", "0", *more)
    if outcome.status != 0:
        pytest.fail(outcome.err)
    return out


def predict(clusters: Path, images: Path, out: Path, *more: object) -> Outcome:
    return command(*("predict", "--clusters", clusters, "--images", images, "--out", out, "--num_workers", "0"), *more)


def by_masks(folder: DrawnFolder) -> tuple[object, ...]:
    return "--images", folder.images, "--foreground", "masks", "--masks", folder.masks, "--num_clusters", "3"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def maps_of(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_label_map(path) for path in sorted((folder / "label_maps").iterdir())}


def assert_same_maps(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """They are the same; on a GPU, where a batch of another size is summed in another order, one pixel may differ."""
    assert found.keys() == expected.keys()
    for stem, label_map in expected.items():
        assert found[stem].shape == label_map.shape
        assert (found[stem] != label_map).sum() <= int(torch.cuda.is_available())


@pytest.fixture(scope="module")
def fitted(trained: Path, drawn: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Clustered:
    """Clusters of the drawn images by their masks; read only."""
    root = tmp_path_factory.mktemp("fitted")
    shutil.copytree(trained, root / "run")
    return Clustered(root / "run", cluster(root / "run", root / "run" / "clusters", *by_masks(drawn)), drawn)


@pytest.fixture
def copied(fitted: Clustered, tmp_path: Path) -> Clustered:
    """The same to spoil, at another place, with images of its own."""
    shutil.copytree(fitted.run, tmp_path / "moved")
    return Clustered(tmp_path / "moved", tmp_path / "moved" / "clusters", draw_folder(tmp_path / "drawn", NUM_IMAGES))


def test_given_masks(fitted: Clustered, drawn: DrawnFolder) -> None:
    segmenter = Segmenter.from_run(fitted.clusters)
    expected = maps_of(fitted.clusters)
    assert {value for label_map in expected.values() for value in np.unique(label_map)} == {0, 1, 2}
    for stem, label_map in expected.items():
        mask = read_mask(drawn.masks / f"{stem}.png").foreground
        path = drawn.images / f"{stem}.jpg"
        for image in (path, str(path), read_image(path)):
            found = segmenter.predict(image, mask)
            np.testing.assert_array_equal(found, label_map)
            assert found.dtype == np.int64
        np.testing.assert_array_equal(segmenter.predict(path, np.where(mask, 7, 0)), label_map)  # any id


@pytest.mark.parametrize(
    "flags",
    [
        ("--num_clusters", "3", "--protocol", "maskcontrast"),
        ("--num_clusters", "3", "--features", "encoder", "--weights", "initial", "--image_size", "64"),
        ("--num_clusters", "4", "--foreground", "all", "--features", "decoder"),
    ],
    ids=["head", "initial", "all"],
)
def test_found_foreground(flags: tuple[str, ...], trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.copy(run / "final.safetensors", run / "initial.safetensors")  # its head finds foreground
    clusters = cluster(run, tmp_path / "clusters", "--images", drawn.images, *flags)
    expected = maps_of(clusters)
    segmenter = densessl.Segmenter.from_run(clusters)
    assert_same_maps({stem: segmenter.predict(drawn.images / f"{stem}.jpg") for stem in expected}, expected)
    outcome = predict(clusters, drawn.images, tmp_path / "out", "--batch_size", "3")
    assert outcome.status == 0, outcome.err
    assert_same_maps(maps_of(tmp_path / "out"), expected)
    names = segmenter.value_names
    assert names.get(0) == ("cluster 0" if "all" in flags else "background")
    assert len(names) == int(flags[1])


def test_proposed_masks(trained: Path, tree: Path, tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "proposals"
    shutil.copytree(tree / "JPEGImages", images)
    Image.new("RGB", (50, 40)).save(images / "plain.png")
    outcome = command("saliency", "--images", images, "--out", masks, "--num_workers", "0", "--min_area", "0.05")
    assert outcome.status == 0, outcome.err
    flags = ("--images", images, "--foreground", "masks", "--masks", masks, "--num_clusters", "4")
    clusters = cluster(trained, tmp_path / "clusters", *flags)
    shutil.rmtree(masks)  # new images come without
    expected = maps_of(clusters)
    segmenter = Segmenter.from_run(clusters)
    assert segmenter.proposal_settings.min_area == 0.05
    stem = next(iter(expected))
    np.testing.assert_array_equal(segmenter.predict(images / f"{stem}.jpg"), expected[stem])
    with pytest.raises(InputError, match=r"image 'image' has no mask: .*give its mask"):
        segmenter.predict(np.zeros((40, 50, 3), np.uint8))
    outcome = predict(clusters, images, tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert_same_maps(maps_of(tmp_path / "out"), expected)
    (rejected,) = read(tmp_path / "out" / "predict.json")["rejected"]
    assert [rejected["stem"]] == [item["stem"] for item in read(clusters / "clusters.json")["rejected"]] == ["plain"]
    assert "no connected foreground of at least 5.00% of the image" in rejected["reason"]
    Image.fromarray(np.rot90(read_image(images / f"{stem}.jpg"))).save(images / f"{stem}.jpg", quality=95)
    outcome = predict(clusters, images, tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert f"{len(expected) - 1} finished before" in outcome.err
    assert maps_of(tmp_path / "out")[stem].shape == expected[stem].shape[::-1]


def test_masks_take_the_place_of_the_head(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    clusters = cluster(trained, tmp_path / "clusters", "--images", drawn.images, "--num_clusters", "3")
    outcome = predict(clusters, drawn.images, tmp_path / "out", "--masks", drawn.masks)
    assert outcome.status == 0, outcome.err
    assert read(tmp_path / "out" / "predict.json")["foreground"] == "masks"
    for stem, label_map in maps_of(tmp_path / "out").items():
        assert ((label_map > 0) == read_mask(drawn.masks / f"{stem}.png").foreground).all()


def test_a_run_folder_moved_whole_and_one_that_moved_alone(copied: Clustered, fitted: Clustered) -> None:
    segmenter = Segmenter.from_run(copied.run)  # the run folder that holds clusters/
    assert segmenter.folder == copied.clusters
    elsewhere = copied.run.parent / "elsewhere"
    shutil.move(copied.clusters, elsewhere)
    with pytest.raises(MissingInputError, match=r"no weights .*put its run folder back, or say where it is"):
        Segmenter.from_run(elsewhere)
    assert Segmenter.from_run(elsewhere, run=copied.run).header == segmenter.header
    with pytest.raises(MissingInputError, match=r"no segmenter\.safetensors in .*cluster again"):
        Segmenter.from_run(copied.run)


def test_command(copied: Clustered, tmp_path: Path) -> None:
    (copied.clusters / "names.yaml").write_text("1: striped cat\n")
    out = tmp_path / "out"
    outcome = predict(copied.run, copied.drawn.images, out, "--masks", copied.drawn.masks)
    assert outcome.status == 0, outcome.err
    assert f"{NUM_IMAGES} label maps of {NUM_IMAGES} images: {out}" in outcome.err
    assert_same_maps(maps_of(out), maps_of(copied.clusters))
    for stem, label_map in maps_of(out).items():
        overlay = read_image(out / "overlays" / f"{stem}.png")
        assert overlay.shape[0] > label_map.shape[0]  # names stand below
        assert overlay.shape[1] >= label_map.shape[1]
    content = read(out / "predict.json")
    assert content["values"] == {"0": "background", "1": "cluster 0", "2": "striped cat"}
    assert content["names"] == {"1": "striped cat"}
    assert content["segmenter_sha256"] == file_sha256(copied.clusters / "segmenter.safetensors")
    assert content["weights_sha256"] == file_sha256(copied.run / "final.safetensors")
    assert content["provenance"]["matching"] == "none"
    assert (content["num_images"], content["num_labelled"], content["rejected"]) == (NUM_IMAGES, NUM_IMAGES, [])


def test_going_on_after_broken_files(copied: Clustered, tmp_path: Path) -> None:
    out, images, masks = tmp_path / "out", copied.drawn.images, copied.drawn.masks
    whole = (images / "3.jpg").read_bytes()
    truncate(images / "3.jpg")
    write_mask(copied.drawn, "4", 255, (10, 12))
    (masks / "5.png").unlink()
    outcome = predict(copied.run, images, out, "--masks", masks, "--batch_size", "3")
    assert outcome.status == 0, outcome.err
    rejected = {item["stem"]: item["reason"] for item in read(out / "predict.json")["rejected"]}
    assert rejected.keys() == {"3", "4", "5"}
    assert "cannot be read" in rejected["3"]
    assert "4.png is 10 x 12, its image 48 x 64" in rejected["4"]
    assert rejected["5"] == "no mask"
    assert f"left out 5: {rejected['5']}" in outcome.err
    (images / "3.jpg").write_bytes(whole)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.png")}
    assert len(before) == 2 * (NUM_IMAGES - 3)
    outcome = predict(copied.run, images, out, "--masks", masks)
    assert outcome.status == 0, outcome.err
    assert f"6 label maps of {NUM_IMAGES} images, 5 finished before, 2 left out" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_same_maps({"3": maps_of(out)["3"]}, {"3": maps_of(copied.clusters)["3"]})


@pytest.mark.parametrize("with_masks", [True, False], ids=["given masks", "foreground of the network"])
def test_changed_files_are_done_again(with_masks: bool, copied: Clustered, trained: Path, tmp_path: Path) -> None:
    images, masks, out = copied.drawn.images, copied.drawn.masks, tmp_path / "out"
    flags = ("--num_clusters", "3", "--protocol", "maskcontrast")
    clusters = copied.run if with_masks else cluster(trained, tmp_path / "clusters", "--images", images, *flags)
    words = ("--masks", masks) if with_masks else ()
    assert predict(clusters, images, out, *words).status == 0
    before = maps_of(out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/*.png")}
    Image.fromarray(np.rot90(read_image(images / "2.jpg"))).save(images / "2.jpg", quality=95)
    if with_masks:
        Image.fromarray(np.rot90(np.asarray(Image.open(masks / "2.png")))).save(masks / "2.png")
        Image.fromarray(np.asarray(Image.open(masks / "6.png"))[::-1]).save(masks / "6.png")
    changed = {"2", "6"} if with_masks else {"2"}
    outcome = predict(clusters, images, out, *words)
    assert outcome.status == 0, outcome.err
    assert f"{len(changed)} images hold something else than when they were labelled, or their masks do" in outcome.err
    assert f"{NUM_IMAGES} label maps of {NUM_IMAGES} images, {NUM_IMAGES - len(changed)} finished before" in outcome.err
    again = {path.stem for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert again == changed
    assert maps_of(out)["2"].shape == before["2"].shape[::-1]
    outcome = predict(clusters, images, out, *words)
    assert f"{NUM_IMAGES} label maps of {NUM_IMAGES} images, {NUM_IMAGES} finished before" in outcome.err


def test_a_folder_of_another_stage_is_refused(copied: Clustered) -> None:
    outcome = predict(copied.run, copied.drawn.images, copied.drawn.masks, "--masks", copied.drawn.masks)
    assert outcome.status == 1
    assert "so `predict` did not begin it; choose a new or an empty folder (--out)" in outcome.err
    assert not (copied.drawn.masks / "records.jsonl").exists()


def test_new_names_draw_overlays_anew_and_no_label_map(copied: Clustered, tmp_path: Path) -> None:
    out, words = tmp_path / "out", ("--masks", copied.drawn.masks)
    assert predict(copied.run, copied.drawn.images, out, *words).status == 0
    maps = {path: path.stat().st_mtime_ns for path in (out / "label_maps").iterdir()}
    overlays = {path: path.read_bytes() for path in (out / "overlays").iterdir()}
    (copied.clusters / "names.yaml").write_text("0: cat\n1: dog\n")
    assert predict(copied.run, copied.drawn.images, out, *words).status == 0
    assert {path: path.stat().st_mtime_ns for path in maps} == maps
    assert all(path.read_bytes() != content for path, content in overlays.items())
    assert read(out / "predict.json")["names"] == {"0": "cat", "1": "dog"}


def test_another_folder_of_images_is_refused(copied: Clustered, drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(copied.run, copied.drawn.images, out, "--masks", copied.drawn.masks).status == 0
    outcome = predict(copied.run, drawn.images, out, "--masks", copied.drawn.masks)
    assert outcome.status == 1
    assert f"images '{copied.drawn.images}' there, '{drawn.images}' now" in outcome.err


def test_changed_weights_are_refused_with_both_hashes(copied: Clustered) -> None:
    weights = copied.run / "final.safetensors"
    old = file_sha256(weights)
    shutil.copy(copied.run / "initial.safetensors", weights)
    with pytest.raises(InputError, match=f"SHA-256 {file_sha256(weights)}, but .* was clustered with {old}"):
        Segmenter.from_run(copied.run)


def test_masks_made_elsewhere_are_asked_for(fitted: Clustered, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = predict(fitted.clusters, drawn.images, tmp_path / "out")
    assert outcome.status == 1
    assert "are those of masks that were made elsewhere" in outcome.err
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="give its mask"):
        Segmenter.from_run(fitted.clusters).predict(drawn.images / "0.jpg")


def test_masks_where_all_pixels_were_clustered(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    flags = ("--images", drawn.images, "--foreground", "all", "--num_clusters", "3")
    segmenter = Segmenter.from_run(cluster(trained, tmp_path / "clusters", *flags))
    with pytest.raises(InputError, match="all pixels were clustered, background included; leave it out"):
        segmenter.predict(drawn.images / "0.jpg", np.ones((48, 64), bool))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((10, 12), bool), r"has shape \(10, 12\) and type bool; .* size \(48, 64\)"),
        (np.ones((48, 64), np.float32), "type float32; give bool or whole numbers"),
        (np.full((48, 64), 256), "holds 256-256; 0 is background, and masks are numbered 1-255"),
        (np.full((48, 64), -1), "holds -1--1"),
    ],
)
def test_unusable_mask(mask: np.ndarray, message: str, fitted: Clustered, drawn: DrawnFolder) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter.from_run(fitted.clusters).predict(drawn.images / "0.jpg", mask)


def test_unusable_image_and_empty_mask(fitted: Clustered) -> None:
    segmenter = Segmenter.from_run(fitted.clusters)
    with pytest.raises(InputError, match=r"image has shape \(4, 5\) and type uint8"):
        segmenter.predict(np.zeros((4, 5), np.uint8), np.ones((4, 5), bool))
    assert not segmenter.predict(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), bool)).any()


def test_a_broken_segmenter_file(copied: Clustered) -> None:
    path = copied.clusters / "segmenter.safetensors"
    tensors, header = load_network(path, "segmenter", kind="segmenter", origin="")
    for change in ({"features": "smell"}, {"proposals": {"colour": 1}}, {"clustering": {}}):
        save_network(path, tensors, "segmenter", {**header, **change})
        with pytest.raises(InputError, match="lacks a part or holds a wrong one"):
            Segmenter.from_run(copied.run)
    save_network(path, {**tensors, "centroids": tensors["centroids"][:, :1]}, "segmenter", header)
    with pytest.raises(InputError, match="fit neither mean"):
        Segmenter.from_run(copied.run)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        Segmenter.from_run(copied.run)


def test_names_of_earlier_clusters_are_set_aside(copied: Clustered) -> None:
    (copied.clusters / "names.yaml").write_text("0: cat\n")
    cluster(copied.run, copied.clusters, *by_masks(copied.drawn))
    assert Segmenter.from_run(copied.run).names == {}
    assert (copied.clusters / "names_of_earlier_clusters.yaml").read_text() == "0: cat\n"


def test_no_image_could_be_labelled(copied: Clustered, tmp_path: Path) -> None:
    for path in copied.drawn.images.iterdir():
        truncate(path)
    outcome = predict(copied.run, copied.drawn.images, tmp_path / "out", "--masks", copied.drawn.masks)
    assert outcome.status == 1
    assert f"none of {NUM_IMAGES} images could be labelled; the first: image" in outcome.err


def save_self_trained(path: Path, text: str) -> None:
    torch.manual_seed(0)
    header = SaliencyNetworkHeader("resnet10t", size_px=48, view_share=0.75, supervision=text)
    save_saliency_network(path, SaliencyNetwork("resnet10t").eval(), header)


def save_patches(path: Path, text: str) -> None:
    torch.manual_seed(0)
    save_patch_network(path, PatchNetwork().eval(), PatchNetworkHeader(num_images=len(text), rounds=2))


@pytest.mark.parametrize(
    ("method", "folder", "save"),
    [("self_trained", "self_training", save_self_trained), ("learned_patches", "patch_training", save_patches)],
)
def test_masks_of_a_network_that_moves_with_them_and_then_changes(
    method: str, folder: str, save: Callable[[Path, str], None], trained: Path, drawn: DrawnFolder, tmp_path: Path
) -> None:
    masks, away = tmp_path / "all" / "masks", tmp_path / "away"
    path = masks / folder / "network.safetensors"
    save(path, "none")
    flags = ("--method", method, "--network", path, "--threshold", "0.3", "--max_area", "1", "--refine", "none")
    outcome = command("saliency", "--images", drawn.images, "--out", masks, *flags, "--num_workers", "0")
    assert outcome.status == 0, outcome.err
    flags = ("--images", drawn.images, "--foreground", "masks", "--masks", masks, "--num_clusters", "3")
    expected = maps_of(cluster(trained, tmp_path / "all" / "clusters", *flags))
    (tmp_path / "all").rename(away)
    segmenter = Segmenter.from_run(away / "clusters", run=trained)
    path = away / "masks" / folder / "network.safetensors"
    assert segmenter.proposal_settings.network == path
    assert_same_maps({stem: segmenter.predict(drawn.images / f"{stem}.jpg") for stem in expected}, expected)
    old = file_sha256(path)
    save(path, "another")
    segmenter = Segmenter.from_run(away / "clusters", run=trained)
    with pytest.raises(InputError, match=f"has SHA-256 {file_sha256(path)}, but .* were proposed with {old}"):
        segmenter.predict(drawn.images / "0.jpg")
    path.unlink()
    with pytest.raises(MissingInputError, match="with which the clustered masks were proposed; put it back"):
        segmenter.predict(drawn.images / "0.jpg")


def test_redrawing_that_was_stopped_begins_again(copied: Clustered, tmp_path: Path) -> None:
    out, words = tmp_path / "out", ("--masks", copied.drawn.masks)
    assert predict(copied.run, copied.drawn.images, out, *words).status == 0
    (copied.clusters / "names.yaml").write_text("0: cat\n1: dog\n")
    new = predict_record(Segmenter.from_run(copied.run), copied.drawn.images, copied.drawn.masks, {})
    assert claim_predict_folder(out, new)  # and then the process was killed
    before = {path: path.read_bytes() for path in (out / "overlays").iterdir()}
    assert predict(copied.run, copied.drawn.images, out, *words).status == 0
    assert all(path.read_bytes() != content for path, content in before.items())
    assert not claim_predict_folder(out, new)


def test_names_in_the_report(copied: Clustered) -> None:
    (copied.clusters / "names.yaml").write_text("1: striped cat\n")
    contents = read_run(copied.run)
    assert contents.value_names == {0: "background", 1: "cluster 0", 2: "striped cat"}
    assert contents.clustering is not None
    assert {strip.cluster: strip.name for strip in contents.clustering.strips} == {0: None, 1: "striped cat"}
    assert "Cluster 1: striped cat" in write_report(contents, copied.run / "report.html").read_text()
