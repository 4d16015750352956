"""The command `segment`: prompts, everything, folders that are taken up again, use as masks, and bad inputs."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from tiny_runs import TINY, DrawnFolder, Outcome, command, draw_folder

from densessl.commands import segment_everything as stage
from densessl.data.images import read_image
from densessl.data.masks import open_mask_folder, read_mask
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import save_promptable_model
from densessl.saliency.mask_provenance import masks_provenance
from densessl.saliency.proposal_store import read_proposals
from densessl.structures import ImageArray, ImageRef
from densessl.training.run_log import read_metrics

EVERYTHING = (
    *("--everything", "true", "--automatic.points_per_side", "3", "--automatic.predicted_iou_threshold", "0"),
    *("--automatic.stability_threshold", "0", "--automatic.box_nms_threshold", "1", "--map.max_area", "1"),
)


@dataclass(frozen=True)
class Weights:
    path: Path

    def __call__(self, *words: object) -> Outcome:
        return command("segment", "--weights", self.path, *words)


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    torch.manual_seed(0)
    settings = PromptableSettings("resnet10t", 64, dim=32, decoder_heads=2, decoder_mlp_dim=32, iou_hidden_dim=16)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_promptable_model(path, build_promptable_model(settings), "none (random weights that were trained)")
    return Weights(path)


@pytest.fixture
def folder(tmp_path: Path) -> DrawnFolder:
    return draw_folder(tmp_path / "drawn", 3)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def error_of(outcome: Outcome) -> str:
    assert outcome.status == 1
    assert "Traceback" not in outcome.err
    return outcome.err


def test_a_prompt_gives_ranked_masks(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    photo, out = folder.images / "1.jpg", tmp_path / "out"  # 64 high, 48 wide
    outcome = segment("--image", photo, "--points", "20,20,1;40,60,0", "--box", "8,12,40,36", "--out", out)
    assert outcome.status == 0, outcome.err
    predictor = Predictor.from_weights(segment.path, precision="fp32").set_image(photo)
    expected = predictor.predict([[20, 20], [40, 60]], [1, 0], [8, 12, 40, 36])
    record = read(out / "segment.json")
    assert [entry["file"] for entry in record["masks"]] == ["masks/1.png", "masks/2.png", "masks/3.png"]
    for rank, entry in enumerate(record["masks"]):
        assert np.array_equal(read_mask(out / entry["file"]).foreground, expected.masks[0, rank])
        assert entry["predicted_iou"] == pytest.approx(expected.predicted_iou[0, rank])
        assert entry["stability"] == pytest.approx(expected.stability[0, rank])
        assert entry["area_px"] == expected.area_px[0, rank]
    assert record["supervision"] == "none (random weights that were trained)"
    assert "mean nothing" not in outcome.err
    assert record["prompt"] == {
        "points": [[20, 20], [40, 60]],
        "labels": [1, 0],
        "box": [8, 12, 40, 36],
        "has_mask": False,
        "mask": None,
        "mask_sha256": None,
    }
    assert (record["multimask"], record["select"]) == (True, None)
    height, width = read_image(out / "overlay.png").shape[:2]
    assert (height, width > 3 * 48) == (64 + 24, True)


def test_a_fitting_mask_of_image_and_mirror_image(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    photo, out = folder.images / "1.jpg", tmp_path / "out"
    prompt = ("--points", "20,20,1", "--select", "fitting", "--mirrored", "true")
    assert segment("--image", photo, *prompt, "--out", out).status == 0
    predictor = Predictor.from_weights(segment.path, precision="fp32", mirrored=True).set_image(photo)
    expected = predictor.predict([[20, 20]], select="fitting")
    assert np.array_equal(read_mask(out / "masks" / "1.png").foreground, expected.masks[0, 0])
    record = read(out / "segment.json")
    assert (record["select"], record["mirrored"]) == ("fitting", True)
    assert record["masks"][0]["output"] == expected.output.item()


def test_masks_feed_further_prompts_and_old_ones_go(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    photo, out = folder.images / "0.jpg", tmp_path / "out"
    assert segment("--image", photo, "--points", "20,20,1", "--out", out).status == 0
    (out / "masks" / "4.png").write_bytes(b"drawn by hand")
    prompt = out / "low_resolution.npy"
    digest = file_sha256(prompt)
    assert segment("--image", photo, "--mask", prompt, "--select", "whole", "--out", out).status == 0
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["1.png", "4.png"]
    record = read(out / "segment.json")
    given = {"has_mask": True, "mask": str(prompt), "mask_sha256": digest}
    assert {name: record["prompt"][name] for name in given} == given
    assert record["select"] == "whole"
    assert segment("--image", photo, "--points", "20,20,1", "--multimask", "false", "--out", out).status == 0
    assert [entry["output"] for entry in read(out / "segment.json")["masks"]] == [0]


@pytest.mark.parametrize("task", [("--points", "5,5,1"), EVERYTHING])
def test_a_folder_that_segment_did_not_begin_stays_as_it_is(
    task: tuple[str, ...], segment: Weights, folder: DrawnFolder, tmp_path: Path
) -> None:
    theirs = [tmp_path / "theirs" / "masks" / f"{number}.png" for number in (0, 1, 4)]
    theirs[0].parent.mkdir(parents=True)
    for path in theirs:
        path.write_bytes(b"drawn by hand")
    message = error_of(segment("--image", folder.images / "0.jpg", *task, "--out", tmp_path / "theirs"))
    assert "is not empty and has no segment.json" in message
    assert [path.read_bytes() for path in theirs] == [b"drawn by hand"] * 3
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["masks"]


def test_everything_in_a_folder(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    (folder.images / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    outcome = segment("--images", folder.images, *EVERYTHING, "--out", out)
    assert outcome.status == 0, outcome.err
    assert "in 3 of 4 images, 1 without" in outcome.out
    assert "broken: image" in outcome.err
    coco, proposals = COCO(out / "proposals.json"), read_proposals(out)
    assert set(proposals) == {"0", "1", "2"}
    assert {image["id"]: image["file_name"] for image in coco.imgs.values()} == {1: "0.jpg", 2: "1.jpg", 3: "2.jpg"}
    trained_by = "labels that trained it: none (random weights that were trained)"
    assert coco.dataset["info"]["supervision"] == f"automatic masks of a promptable model ({trained_by})"
    for path in (out, out / "masks", out / "proposals.json"):
        assert masks_provenance(path) == coco.dataset["info"]["supervision"]
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"]
        y, x = np.nonzero(mask)
        assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert {"score", "stability", "point", "crop_box"} <= annotation.keys()
    (rejected,) = read(out / "rejected.json")
    assert rejected["stem"] == "broken"
    assert "cannot be read" in rejected["reason"]
    record = read(out / "segment.json")
    assert record["counts"] == {"images": 4, "segmented": 3, "rejected": 1, "masks": len(coco.anns)}
    assert record["supervision"] == "none (random weights that were trained)"
    assert "mean nothing" not in outcome.err
    assert read_image(out / "overlays" / "1.png").shape == (64, 48, 3)


def test_a_folder_is_taken_up_again(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    out, flags = tmp_path / "out", ("--images", folder.images, *EVERYTHING)
    assert segment(*flags, "--out", out).status == 0
    before = (out / "proposals.json").read_bytes()
    (out / "masks" / "1.png").unlink()
    lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
    (out / "records.jsonl").write_text("".join(lines[:2]) + lines[2][:40])  # killed while it wrote the third
    outcome = segment(*flags, "--max_memory_gb", "0.5", "--out", out)
    assert "1 finished before" in outcome.out
    assert (out / "proposals.json").read_bytes() == before
    assert "3 finished before" in segment(*flags, "--out", out).out
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    nameless = ({key: value for key, value in line.items() if key != "file_name"} for line in lines)
    (out / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in nameless))  # of an earlier version
    assert "3 finished before" in segment(*flags, "--out", out).out
    assert [image["file_name"] for image in read(out / "proposals.json")["images"]] == ["0.jpg", "1.jpg", "2.jpg"]
    message = error_of(segment(*flags, "--automatic.min_region_px", "9", "--out", out))
    assert "was begun with something else (automatic {" in message
    prompted = segment("--image", folder.images / "0.jpg", "--points", "3,3,1", "--out", out)
    assert "was begun with something else" in error_of(prompted)


def test_a_folder_of_a_version_with_fewer_model_settings_is_taken_up(
    segment: Weights, folder: DrawnFolder, tmp_path: Path
) -> None:
    out, flags = tmp_path / "out", ("--images", folder.images, *EVERYTHING)
    assert segment(*flags, "--out", out).status == 0
    record = read(out / "segment.json")
    del record["compared"]["model"]["neck_blocks"]
    (out / "segment.json").write_text(json.dumps(record))
    assert "3 finished before" in segment(*flags, "--out", out).out


def test_a_folder_that_is_not_finished_is_no_list_of_objects(
    segment: Weights, folder: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, flags = tmp_path / "out", ("--images", folder.images, *EVERYTHING)
    assert segment(*flags, "--out", out).status == 0
    refs = [ImageRef(path.stem, path) for path in sorted(folder.images.iterdir())]
    assert "objects of 3 images" in open_objects(out, refs, ObjectSettings()).source.describe()
    (folder.images / "1.jpg").write_bytes((folder.images / "0.jpg").read_bytes())

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "automatic_masks", killed)
    with contextlib.suppress(KeyboardInterrupt):
        segment(*flags, "--out", out)
    with pytest.raises(InputError, match=r"has segment.json and no proposals.json: .* repeat that command"):
        open_objects(out, refs, ObjectSettings())


def test_an_image_for_which_there_is_no_memory_is_listed(
    segment: Weights, folder: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, flags, make = tmp_path / "out", ("--images", folder.images, *EVERYTHING), stage.automatic_masks

    def limited(predictor: Predictor, image: ImageArray, *rest: Any) -> Any:
        if np.array_equal(image, read_image(folder.images / "1.jpg")):
            raise torch.OutOfMemoryError
        return make(predictor, image, *rest)

    monkeypatch.setattr(stage, "automatic_masks", limited)
    assert "in 2 of 3 images, 1 without" in segment(*flags, "--out", out).out
    assert "memory did not suffice" in read(out / "rejected.json")[0]["reason"]
    monkeypatch.undo()
    assert "in 3 of 3 images, 0 without, 2 finished before" in segment(*flags, "--out", out).out


def test_an_image_that_changed_is_done_again(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    flags = ("--images", folder.images, *EVERYTHING)
    assert segment(*flags, "--out", out).status == 0
    (folder.images / "0.jpg").write_bytes((folder.images / "1.jpg").read_bytes())
    (folder.images / "2.jpg").write_bytes(b"no image")
    outcome = segment(*flags, "--out", out)
    assert "in 2 of 3 images, 1 without, 1 finished before" in outcome.out
    assert segment(*flags, "--out", other).status == 0
    for place in ("proposals.json", "masks/0.png", "rejected.json"):
        assert (out / place).read_bytes() == (other / place).read_bytes()
    assert not (out / "masks" / "2.png").exists()


def test_the_lists_hold_the_images_of_all_calls(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert segment("--images", folder.images, *EVERYTHING, "--out", whole).status == 0
    for number in (2, 0, 1):
        outcome = segment("--image", folder.images / f"{number}.jpg", *EVERYTHING, "--out", parts)
        assert "in 1 of 1 images" in outcome.out
    assert (parts / "proposals.json").read_bytes() == (whole / "proposals.json").read_bytes()
    assert read(parts / "segment.json")["counts"] == read(whole / "segment.json")["counts"]


def test_an_image_that_exceeds_the_bound_on_memory_is_listed(
    segment: Weights, folder: DrawnFolder, tmp_path: Path
) -> None:
    Image.new("RGB", (20, 40000)).save(folder.images / "3.png")
    out, flags = tmp_path / "out", ("--images", folder.images, *EVERYTHING)
    outcome = segment(*flags, "--max_memory_gb", "0.01", "--out", out)
    assert "in 3 of 4 images, 1 without" in outcome.out
    (rejected,) = read(out / "rejected.json")
    assert "max_memory_gb is 0.01, but one point on an image of 40000 x 20 pixels" in rejected["reason"]
    assert set(read_proposals(out)) == {"0", "1", "2"}
    assert "4 of 4 images, 0 without, 3 finished before" in segment(*flags, "--out", out).out


def test_an_image_alone_can_be_segmented_whole(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment("--image", folder.images / "2.jpg", *EVERYTHING, "--out", out).status == 0
    assert [path.name for path in (out / "masks").iterdir()] == ["2.png"]


def test_masks_of_everything_train_and_are_saliency(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    assert segment("--images", folder.images, *EVERYTHING, "--out", masks).status == 0
    refs = [ImageRef(path.stem, path) for path in sorted(folder.images.iterdir())]
    opened = open_mask_folder(masks, refs)
    assert not opened.missing
    numbers = [int(opened.read(ref).instances.max()) for ref in refs]  # type: ignore[union-attr]
    assert opened.encoding == "instances"
    assert max(numbers) > 1
    trained = command("pretrain", "--images", folder.images, "--masks", masks, "--out", tmp_path / "run", *TINY)
    assert trained.status == 0, trained.err
    provenance = read(tmp_path / "run" / "run.json")["provenance"]["masks"]
    trained_on = "none (random weights that were trained)"
    assert provenance == f"automatic masks of a promptable model (labels that trained it: {trained_on})"
    words = (
        "--method",
        "file",
        "--masks",
        masks,
        "--max_area",
        "1",
        "--gallery",
        "false",
        "--out",
        tmp_path / "saliency",
    )
    saliency = command("saliency", "--images", folder.images, *words)
    assert saliency.status == 0, saliency.err
    for ref in refs:
        foreground = read_mask(tmp_path / "saliency" / "masks" / f"{ref.stem}.png").foreground
        assert (foreground & ~opened.read(ref).foreground).sum() == 0


def test_overlapping_masks_of_everything_teach_a_promptable_model(
    segment: Weights, folder: DrawnFolder, tmp_path: Path
) -> None:
    masks, run = tmp_path / "masks", tmp_path / "run"
    assert segment("--images", folder.images, *EVERYTHING, "--out", masks).status == 0
    words = (
        *("--objects.min_area", "0", "--objects.max_area", "1", "--interaction.num_points", "0"),
        *("--interaction.num_refinements", "1", "--training.epochs", "1", "--training.batch_size", "3"),
        *("--training.num_workers", "0", "--training.precision", "fp32", "--training.log_every", "1"),
    )
    begun = ("--weights", segment.path, "--images", folder.images, "--masks", masks)
    outcome = command("train_promptable", *begun, *words, "--out", run)
    assert outcome.status == 0, outcome.err
    (line,) = read_metrics(run)
    assert line["num_prompts"] == sum(len(found) for found in read_proposals(masks).values())
    trained_on = "none (random weights that were trained)"
    provenance = f"automatic masks of a promptable model (labels that trained it: {trained_on})"
    recorded = read(run / "run.json")["provenance"]
    assert (recorded["backbone"], recorded["masks"]) == (trained_on, provenance)


def test_a_backbone_alone_says_that_its_masks_mean_nothing(folder: DrawnFolder, tmp_path: Path) -> None:
    words = ("--image", folder.images / "0.jpg", "--points", "3,3,1", "--encoder", "resnet10t", "--size_px", "64")
    outcome = command("segment", *words, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert "these masks mean nothing yet" in outcome.err
    record = read(tmp_path / "out" / "segment.json")
    assert record["supervision"] == "encoder: none (random weights); decoder: none (random weights)"
    again = command("segment", *words, "--out", tmp_path / "again")
    assert again.err == outcome.err  # the seed is a setting


def test_one_pixel(segment: Weights, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.png")
    image = ("--image", tmp_path / "pixel.png")
    outcome = segment(*image, "--points", "0,0,1", "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert read_mask(tmp_path / "out" / "masks" / "1.png").foreground.shape == (1, 1)
    everything = segment(*image, *EVERYTHING, "--out", tmp_path / "everything")
    assert everything.status == 0 or "no mask passed" in everything.err


@pytest.mark.parametrize("task", ["prompt", "everything"])
def test_a_large_image(task: str, segment: Weights, tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000)).save(tmp_path / "large.png", compress_level=1)
    prompt = ("--points", "7999,5999,1", "--select", "best")
    words = prompt if task == "prompt" else (*EVERYTHING, "--automatic.points_per_side", "1")
    outcome = segment("--image", tmp_path / "large.png", *words, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    name = "1.png" if task == "prompt" else "large.png"
    with Image.open(tmp_path / "out" / "masks" / name) as mask:
        assert mask.size == (8000, 6000)


def bad(words: Sequence[object], message: str) -> object:
    return pytest.param(words, message, id=" ".join(map(str, words)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        bad(("--points", "64,10,1"), "point (64, 10) lies outside the image of width 64 and height 48; x must be in"),
        bad(("--points=-1,10,1",), "point (-1, 10) lies outside the image"),
        bad(("--points", "5,5"), "points holds '5,5'; give each point as x,y,label"),
        bad(("--points", "5,5,1;6,7"), "points holds '6,7'; give each point as x,y,label"),
        bad(("--points", "5,a,1"), "points holds '5,a,1'"),
        bad(("--points", "5,5,2"), "points gives '5,5,2' the label 2; it is 1 (on the object) or 0"),
        bad(("--points", "nan,5,1"), "points hold values that are not finite"),
        bad(("--box", "10,10,10,20"), "box (10, 10, 10, 20) is empty"),
        bad(("--box", "20,10,10,20"), "box (20, 10, 10, 20) is empty"),
        bad(("--box", "1,2,65,20"), "box (1, 2, 65, 20) reaches out of the image of width 64 and height 48"),
        bad(("--box", "1,2,3"), "box is '1,2,3'; give x0,y0,x1,y1"),
        bad((), "no prompt is given; give --points x,y,1, --box x0,y0,x1,y1 or --mask FILE, or --everything true"),
        bad(("--mask", "small.npy"), "mask prompt has shape (5, 6); give logits of (16, 16)"),
        bad(("--mask", "text.npy"), "mask prompt text.npy is no array in NumPy's format"),
        bad(("--mask", "cut.npz"), "mask prompt cut.npz is no array in NumPy's format"),
        bad(("--mask", "none.npy"), "no mask prompt none.npy"),
        bad(
            ("--mask", "mask.png"),
            "mask prompt mask.png is a picture, and a mask prompt is logits; give",
        ),
        bad(("--mask", "hard.npy"), "mask prompt is uint8, a mask itself and no logits"),
        bad(("--mask", "bool.npy"), "mask prompt is bool, a mask itself and no logits"),
        bad(("--points", "5,5,1", "--everything", "true"), "everything is true, which takes no prompts"),
        bad(
            ("--points", "5,5,1", "--automatic.crop_layers", "1"), "settings of automatic and map are for --everything"
        ),
        bad(("--points", "5,5,1", "--max_memory_gb", "2"), "max_memory_gb is 2, but it is for --everything true"),
        bad(("--points", "5,5,1", "--size_px", "64"), "size_px and seed are those of a model that is named"),
        bad(("--points", "5,5,1", "--size_px", "1024"), "size_px and seed are those of a model that is named"),
        bad(("--points", "5,5,1", "--seed", "1"), "size_px and seed are those of a model that is named"),
        bad(("--everything", "true", "--select", "best"), "select, multimask, refine and mirrored are for prompts"),
        bad(("--everything", "true", "--refine", "grabcut"), "select, multimask, refine and mirrored are for prompts"),
        bad(("--everything", "true", "--mirrored", "true"), "select, multimask, refine and mirrored are for prompts"),
        bad(
            ("--everything", "true", "--max_memory_gb", "0.0001"), "max_memory_gb is 0.0001, but one point on an image"
        ),
        bad(("--points", "5,5,1", "--encoder", "resnet18"), "give either --weights FILE"),
        bad(
            ("--points", "5,5,1", "--pretrained", "true"), "encoder_weights and pretrained are those of a timm backbone"
        ),
        bad(("--points", "5,5,1", "--multimask", "false", "--select", "part"), "select 'part' chooses among three"),
    ],
)
def test_bad_input_is_told(
    words: tuple[str, ...],
    message: str,
    segment: Weights,
    folder: DrawnFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("small.npy", np.zeros((5, 6), dtype=np.float32))
    np.save("hard.npy", np.full((16, 16), 255, dtype=np.uint8))
    np.save("bool.npy", np.ones((16, 16), dtype=bool))
    Image.new("L", (16, 16)).save("mask.png")
    Path("text.npy").write_text("hello")
    Path("cut.npz").write_bytes(b"PK\x03\x04 and no more")
    assert message in error_of(segment("--image", folder.images / "0.jpg", *words, "--out", tmp_path / "out"))
    assert not (tmp_path / "out" / "masks").exists()


def test_bad_places_are_told(segment: Weights, folder: DrawnFolder, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    prompt = ("--points", "5,5,1")
    assert "give an image (--image FILE) or a folder" in error_of(segment(*prompt, *out))
    assert "a prompt is for one image" in error_of(segment("--images", folder.images, *prompt, *out))
    assert "no image" in error_of(segment("--image", tmp_path / "none.jpg", *prompt, *out))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    assert "cannot be read" in error_of(segment("--image", tmp_path / "bad.jpg", *prompt, *out))
    assert "none of 1 images got a mask" in error_of(segment("--image", tmp_path / "bad.jpg", *EVERYTHING, *out))
    image = ("--image", folder.images / "0.jpg")
    assert "no checkpoint" in error_of(command("segment", *image, *prompt, "--weights", tmp_path / "none.pth", *out))
    assert "give either --weights FILE" in error_of(command("segment", *image, *prompt, *out))
    among = segment("--images", folder.images, *EVERYTHING, "--out", folder.images / "masks")
    assert "lies in the image folder" in error_of(among)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "saliency.json").write_text("{}")
    assert "was written by `saliency`" in error_of(segment(*image, *prompt, "--out", tmp_path / "theirs"))
    (tmp_path / "theirs" / "saliency.json").unlink()
    (tmp_path / "theirs" / "segment.json").write_text("[]")
    assert "holds no record of `segment`" in error_of(segment(*image, *prompt, "--out", tmp_path / "theirs"))
