"""The command `embedding_space`: what it writes, drawing anew, other clusters, bad images, and what it refuses."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_runs import DrawnFolder, Outcome, command, truncate, write_mask

from densessl.commands.embedding_space import embedding_space as embedding_space_function
from densessl.data.label_maps import read_label_map
from densessl.errors import InputError
from densessl.evaluation.segmenter_file import SEGMENTER_FILE, load_segmenter

TIMM = ("--encoder", "test_resnet")


@pytest.fixture
def folder(drawn: DrawnFolder, tmp_path: Path) -> DrawnFolder:
    """The drawn images, to be changed."""
    root = tmp_path / "data"
    shutil.copytree(drawn.root, root)
    return DrawnFolder(root, root / "images", root / "masks")


def space(out: Path, *words: object) -> Outcome:
    return command("embedding_space", "--out", out, "--num_workers", "0", *words)


def read(out: Path) -> dict:
    return json.loads((out / "embedding_space.json").read_text())


def arrays(out: Path) -> dict[str, np.ndarray]:
    with np.load(out / "embeddings.npz") as stored:
        return {name: stored[name] for name in stored.files}


def test_a_folder_of_images(drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = space(out, *TIMM, *drawn.flags(), "--num_clusters", "4", "--num_neighbours", "3")
    assert outcome.status == 0, outcome.err
    assert "8 masks of 8 images" in outcome.err
    stored = arrays(out)
    np.testing.assert_allclose(np.linalg.norm(stored["vectors"], axis=1), 1, atol=1e-5)
    assert stored["places"].shape == (8, 2)
    assert stored["boxes"].tolist() == 8 * [[8, 12, 40, 36]]
    assert stored["areas_px"].tolist() == 8 * [24 * 32]
    assert stored["sizes"].tolist() == 4 * [[48, 64], [64, 48]]
    assert set(stored["clusters"].tolist()) == {0, 1, 2}
    written = read(out)
    assert sum(cluster["size"] for cluster in written["clusters"]) == 8
    assert written["supervision"]["backbone"] == "none (random weights)"
    assert "made elsewhere" in written["supervision"]["masks"]
    assert [strip["chosen_as"] for strip in written["strips"]][:3] == 3 * ["medoid"]
    strip = written["strips"][0]
    query = stored["stems"].tolist().index(strip["query"])
    cosines = {
        s: float(stored["vectors"][i] @ stored["vectors"][query]) for i, s in enumerate(stored["stems"].tolist())
    }
    del cosines[strip["query"]]
    best = sorted(cosines, key=lambda stem: -cosines[stem])[:3]
    assert [item["mask"] for item in strip["neighbours"]] == best
    assert [item["cosine"] for item in strip["neighbours"]] == pytest.approx([cosines[stem] for stem in best], abs=1e-5)
    assert (out / "neighbours" / f"{strip['query']}.png").is_file()
    page = (out / "index.html").read_text()
    assert page.count("<img") == 2 + len(written["strips"])
    for name in ("map.png", "marks.png"):
        assert cv2.imread(str(out / name)).shape[1] >= 900


def test_prototypes_and_clusters_are_those_of_cluster(drawn: DrawnFolder, tmp_path: Path) -> None:
    clusters, out = tmp_path / "clusters", tmp_path / "out"
    outcome = command(
        *("cluster", "--out", clusters, *TIMM, *drawn.flags(), "--foreground", "masks", "--num_clusters", "4"),
        *("--seeds", "1", "--num_workers", "0"),
    )
    assert outcome.status == 0, outcome.err
    (clusters / "names.yaml").write_text("1: cats\n")
    assert space(out, *TIMM, *drawn.flags(), "--num_clusters", "4").status == 0
    found = arrays(out)
    with np.load(clusters / "prototypes.npz") as stored:
        np.testing.assert_array_equal(found["vectors"], stored["vectors"])
    painted = [int(read_label_map(clusters / "label_maps" / f"{stem}.png").max()) - 1 for stem in found["stems"]]
    assert found["clusters"].tolist() == painted
    outcome = space(out, *TIMM, *drawn.flags(), "--clusters", clusters)
    assert outcome.status == 0, outcome.err
    assert "embedded before" in outcome.err
    assert arrays(out)["clusters"].tolist() == painted
    assert {item["name"] for item in read(out)["clusters"]} == {None, "cats"}
    outcome = space(tmp_path / "other", *TIMM, "--output_stride", "16", *drawn.flags(), "--clusters", clusters)
    assert outcome.status == 1
    assert "clusters of another encoder's features (output_stride '8' there, '16' here)" in outcome.err
    there = load_segmenter(clusters / SEGMENTER_FILE)[0].precision
    here = "bf16" if there == "fp32" else "fp32"
    outcome = space(tmp_path / "third", *TIMM, "--precision", here, *drawn.flags(), "--clusters", clusters)
    assert outcome.status == 1
    assert f"(precision {there!r} there, {here!r} here)" in outcome.err


def test_everything_is_drawn_anew_without_the_encoder(drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert space(out, *TIMM, *drawn.flags()).status == 0
    before, masks = arrays(out), {path: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
    outcome = space(out, *TIMM, *drawn.flags(), "--projection", "tsne", "--query", "3,5:1", "--num_clusters", "3")
    assert outcome.status == 0, outcome.err
    assert "embedded before" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in (out / "masks").iterdir()} == masks
    assert [strip["query"] for strip in read(out)["strips"]] == ["3", "5"]
    assert sorted(path.name for path in (out / "neighbours").iterdir()) == ["3.png", "5.png"]
    after = arrays(out)
    np.testing.assert_array_equal(before["vectors"], after["vectors"])
    assert not np.array_equal(before["places"], after["places"])
    outcome = space(out, *TIMM, *drawn.flags(), "--image_size", "64")
    assert "embedded before" not in outcome.err
    assert not np.array_equal(before["vectors"], arrays(out)["vectors"])


def test_a_query_that_fails_costs_no_embedding(drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = space(out, *TIMM, *drawn.flags(), "--query", "3:9")
    assert outcome.status == 1
    assert "3" in outcome.err
    outcome = space(out, *TIMM, *drawn.flags(), "--query", "3")
    assert outcome.status == 0, outcome.err
    assert "embedded before" in outcome.err
    outcome = space(out, *TIMM, *drawn.flags(), "--query", "3:9")
    assert outcome.status == 1
    assert (out / "neighbours" / "3.png").is_file()
    assert space(out, *TIMM, *drawn.flags(), "--query", "3").status == 0


def test_numbered_masks_are_embedded_each(folder: DrawnFolder, tmp_path: Path) -> None:
    for path in folder.masks.iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        numbers = np.where(mask > 0, np.where(np.arange(mask.shape[1]) < 20, 1, 3), 0)  # no mask has number 2
        cv2.imwrite(str(path), numbers.astype(np.uint8))
    out = tmp_path / "out"
    outcome = space(out, *TIMM, *folder.flags(), "--query", "0,1:1,2:3")
    assert outcome.status == 0, outcome.err
    assert "16 masks of 8 images" in outcome.err
    stored, written = arrays(out), read(out)
    assert stored["numbers"].tolist() == 8 * [1, 3]
    assert stored["boxes"].tolist() == 8 * [[8, 12, 20, 36], [20, 12, 40, 36]]
    assert [strip["query"] for strip in written["strips"]] == ["0:3", "1:1", "2:3"]  # the largest of 0
    for strip in written["strips"]:
        stem = strip["query"].split(":")[0]
        assert all(not item["mask"].startswith(f"{stem}:") for item in strip["neighbours"])
    assert (out / "neighbours" / "0_mask_3.png").is_file()
    outcome = space(out, *TIMM, *folder.flags(), "--query", "0:2")
    assert outcome.status == 1
    assert "image 0 has no mask 2; it has 1, 3" in outcome.err


def test_connected_regions_are_masks_where_that_is_asked_for(folder: DrawnFolder, tmp_path: Path) -> None:
    path = folder.masks / "0.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    mask[:, 20:24] = 0
    cv2.imwrite(str(path), mask)
    outcome = space(tmp_path / "out", *TIMM, *folder.flags(), "--split_masks", "true")
    assert "9 masks of 8 images" in outcome.err


def test_what_cannot_be_used_is_listed_and_the_job_goes_on(folder: DrawnFolder, tmp_path: Path) -> None:
    truncate(folder.images / "0.jpg")
    (folder.masks / "1.png").unlink()
    write_mask(folder, "2", 0)
    write_mask(folder, "3", 255, (10, 10))
    out = tmp_path / "out"
    outcome = space(out, *TIMM, *folder.flags())
    assert outcome.status == 0, outcome.err
    assert "4 masks of 4 images" in outcome.err
    reasons = {item["stem"]: item["reason"] for item in read(out)["rejected"]}
    assert list(reasons) == ["0", "1", "2", "3"]
    assert reasons["1"] == "no mask"
    assert reasons["2"] == "its mask is empty"
    assert "mask of another size" in reasons["3"]
    assert all(f"left out {stem}: {reason}" in outcome.err for stem, reason in reasons.items())
    assert "its mask is empty" in (out / "index.html").read_text()
    assert "too few for 7 clusters" in outcome.err
    outcome = space(out, *TIMM, *folder.flags(), "--query", "2")
    assert outcome.status == 1
    assert "query 2 has no prototype: its mask is empty" in outcome.err


def test_fewer_masks_than_neighbours_and_one_image(folder: DrawnFolder, tmp_path: Path) -> None:
    for number in range(1, 8):
        (folder.images / f"{number}.jpg").unlink()
    out = tmp_path / "out"
    outcome = space(out, *TIMM, *folder.flags())
    assert outcome.status == 0, outcome.err
    assert read(out)["strips"][0]["neighbours"] == []
    assert "no mask of another image" in (out / "index.html").read_text()


def test_a_run_finds_the_foreground_by_its_head(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = space(out, "--run", trained, "--images", drawn.images, "--num_clusters", "3")
    assert outcome.status == 0, outcome.err
    written = read(out)
    assert written["made_from"]["foreground"] == "head"
    assert "saliency head" in written["supervision"]["masks"]
    assert not (out / "proposals").exists()


def test_masks_are_proposed_where_none_are_given(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = space(out, *TIMM, "--data", tree, "--num_clusters", "2")
    assert outcome.status == 0, outcome.err
    assert "no masks are given; proposing them" in outcome.err
    written = read(out)
    assert "estimator fused" in written["supervision"]["masks"]
    assert written["num_images"] + len(written["rejected"]) == 4


def test_features_that_are_not_finite_are_an_error(drawn: DrawnFolder, tmp_path: Path) -> None:
    def broken(images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 4, 6, 6), float("nan"))

    with pytest.raises(InputError, match="a prototype of image '0' holds NaN or infinity"):
        embedding_space_function(
            tmp_path / "out", encoder=broken, images=drawn.images, masks=drawn.masks, num_workers=0
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (TIMM, "give either a folder of images or a data set"),
        (("--images", "IMAGES"), "give either a run or an encoder, got neither"),
        ((*TIMM, "--images", "IMAGES", "--query", "absent"), "query 'absent' is no image of the data set"),
        ((*TIMM, "--images", "IMAGES", "--num_neighbours", "0"), "num_neighbours is 0; it must be at least 1"),
        ((*TIMM, "--images", "IMAGES", "--num_clusters", "1"), "num_clusters is 1; it counts the background"),
        (
            (*TIMM, "--images", "IMAGES", "--num_clusters", "3", "--clusters", "c"),
            "num_clusters 3 and clusters c are given, but those clusters settle it",
        ),
        ((*TIMM, "--images", "IMAGES", "--clusters", "absent"), "no segmenter.safetensors in absent"),
        ((*TIMM, "--images", "IMAGES", "--masks", "absent"), "no mask folder absent"),
        ((*TIMM, "--images", "IMAGES", "--masks", "MASKS", "--num_clusters", "99"), "cannot form 98 clusters"),
    ],
)
def test_refusals(words: tuple[str, ...], message: str, drawn: DrawnFolder, tmp_path: Path) -> None:
    places = {"IMAGES": drawn.images, "MASKS": drawn.masks}
    outcome = space(tmp_path / "out", *(places.get(word, word) for word in words))
    assert outcome.status == 1
    assert message in outcome.err


def test_a_head_has_no_masks_to_split(trained: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = space(tmp_path / "out", "--run", trained, "--images", drawn.images, "--split_masks", "true")
    assert outcome.status == 1
    assert "split_masks is true, but the foreground is what the run's saliency head finds" in outcome.err
    assert not (tmp_path / "out").exists()


def test_masks_of_another_stage_are_not_written_over(drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "masks_of_saliency"
    shutil.copytree(drawn.masks, out / "masks")
    outcome = space(out, *TIMM, *drawn.flags())
    assert outcome.status == 1
    assert "holds masks, but no embedding_space.json, so `embedding_space` did not begin it" in outcome.err
    assert not (out / "embedding_space.json").exists()


def test_damaged_embeddings_are_named(drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert space(out, *TIMM, *drawn.flags()).status == 0
    truncate(out / "embeddings.npz")
    outcome = space(out, *TIMM, *drawn.flags())
    assert outcome.status == 1
    assert "embeddings.npz is damaged" in outcome.err
