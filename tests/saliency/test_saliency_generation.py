"""The stage as a whole: layout, resume after a kill, broken images, number of workers, refusals."""

import json
import multiprocessing
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.sparse.linalg import ArpackNoConvergence

from densessl.data.image_folder import open_image_folder
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.errors import InputError
from densessl.saliency import processing
from densessl.saliency.generation import FolderRecord, Shard, claim_folder, generate_proposals
from densessl.saliency.proposal_store import read_proposals, read_rejected
from densessl.saliency.proposals import SaliencySettings
from densessl.saliency.record_journal import ImageRecord
from densessl.structures import ImageRef


def draw(path, seed, plain=False):
    generator = np.random.default_rng(seed)
    image = np.full((48, 64, 3), 90, np.uint8)
    if not plain:
        top, left = generator.integers(8, 16, 2)
        image[top : top + 22, left : left + 30] = generator.integers(120, 256, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def images(tmp_path):
    for number in range(5):
        draw(tmp_path / f"in/{'deep/' if number % 2 else ''}{number}.png", number)
    draw(tmp_path / "in/plain.png", 0, plain=True)
    (tmp_path / "in/broken.jpg").write_bytes(b"no image")
    return open_image_folder(tmp_path / "in")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_image_ends_in_a_mask_or_among_the_rejected(images, tmp_path, capfd):
    out = tmp_path / "out"
    summary = generate_proposals(images, out, SaliencySettings(keep_soft=True), num_workers=0)
    assert (summary.num_images, summary.num_masks, summary.num_rejected, summary.num_reused) == (7, 5, 2, 0)
    assert summary.images_per_second > 0
    masks = sorted(path.relative_to(out / "masks").as_posix() for path in (out / "masks").rglob("*.png"))
    assert masks == ["0.png", "2.png", "4.png", "deep/1.png", "deep/3.png"]
    assert set(read_proposals(out)) == {"0", "2", "4", "deep/1", "deep/3"}
    reasons = {rejection.stem: rejection.reason for rejection in read_rejected(out)}
    assert set(reasons) == {"broken", "plain"}
    assert "foreground" in reasons["plain"]
    assert "broken.jpg" in reasons["broken"]
    assert capfd.readouterr().err.count("rejected broken") == 1
    mask = cv2.imread(str(out / "masks/0.png"), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) == {0, 255}
    assert mask.shape == (48, 64)


@pytest.mark.slow  # starts two interpreters
def test_workers_change_nothing(images, tmp_path):
    generate_proposals(images, tmp_path / "alone", SaliencySettings(), num_workers=0)
    generate_proposals(images, tmp_path / "shared", SaliencySettings(), num_workers=2)
    alone, shared = contents(tmp_path / "alone"), contents(tmp_path / "shared")
    records = [sorted(of.pop(Path("records.jsonl")).splitlines()) for of in (alone, shared)]
    assert records[0] == records[1]
    assert alone == shared


def test_an_image_that_is_finished_waits_for_no_other():
    slow, quick, broken = Future(), Future(), Future()
    quick.set_result(ImageRecord("quick"))
    broken.set_exception(BrokenProcessPool())
    pending = {slow, broken, quick}
    records = processing._take_finished(pending)
    assert next(records).stem == "quick"
    with pytest.raises(BrokenProcessPool):
        next(records)
    assert pending == {slow}


def test_a_killed_worker_is_said_and_finished_images_are_kept(images, tmp_path):
    many = images.images[:2] * 30  # more than are handed out at once
    others = set(multiprocessing.active_children())  # of another test, or of a library
    records = processing.process_images(many, tmp_path / "out", SaliencySettings(), num_workers=1)
    next(records)
    (worker,) = set(multiprocessing.active_children()) - others
    worker.kill()
    with pytest.raises(InputError, match=r"a saliency worker was killed.*\(finished images are kept\)"):
        list(records)
    assert cv2.imread(str(tmp_path / f"out/masks/{many[0].stem}.png"), cv2.IMREAD_UNCHANGED) is not None


def test_a_killed_run_goes_on_and_ends_the_same(images, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    generate_proposals(images, whole, SaliencySettings(), num_workers=0)
    original, done = processing.propose, []

    def dies_at_the_third(pixels, stem, settings, given):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(stem)
        return original(pixels, stem, settings, given)

    monkeypatch.setattr(processing, "propose", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        generate_proposals(images, stopped, SaliencySettings(), num_workers=0)
    assert not (stopped / "proposals.json").exists()
    with (stopped / "records.jsonl").open("a") as handle:
        handle.write('{"stem": "4", "hei')  # the kill came in the middle of a line
    again = []
    monkeypatch.setattr(processing, "propose", lambda *given: again.append(given[1]) or original(*given))
    summary = generate_proposals(images, stopped, SaliencySettings(), num_workers=0)
    assert not set(again) & set(done)
    assert summary.num_reused == 2
    assert (stopped / "proposals.json").read_bytes() == (whole / "proposals.json").read_bytes()
    assert (stopped / "rejected.json").read_bytes() == (whole / "rejected.json").read_bytes()


def test_a_killed_second_run_leaves_no_lists_of_the_first(images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    whole = contents(out)
    draw(tmp_path / "in/0.png", 9)
    original = processing.propose

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(processing, "propose", killed)
    with pytest.raises(KeyboardInterrupt):
        generate_proposals(images, out, SaliencySettings(), num_workers=0)
    assert not {"proposals.json", "proposals_results.json", "rejected.json"} & {path.name for path in out.iterdir()}
    assert json.loads((out / "saliency.json").read_text())["counts"] is None
    with pytest.raises(InputError, match=r"has saliency.json and no proposals.json"):
        open_objects(out, images.images, ObjectSettings())
    monkeypatch.setattr(processing, "propose", original)
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    assert contents(out).keys() == whole.keys()
    assert json.loads((out / "saliency.json").read_text()) == json.loads(whole[Path("saliency.json")])


def test_masks_of_another_set_in_the_folder_are_said(images, tmp_path, capfd):
    out = tmp_path / "out"
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    assert "that are not among" not in capfd.readouterr().err
    draw(tmp_path / "other/new.png", 1)
    generate_proposals(open_image_folder(tmp_path / "other"), out, SaliencySettings(), num_workers=0)
    assert "also has 7 finished images that are not among these 1 (0, ...)" in capfd.readouterr().err
    assert set(read_proposals(out)) == {"new"}


def test_ids_do_not_depend_on_which_images_are_accepted(images, tmp_path):
    out = tmp_path / "out"
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    before = {image["stem"]: image for image in json.loads((out / "proposals.json").read_text())["images"]}
    assert [(image["id"], image["file_name"]) for image in before.values()] == [
        *[(1, "0.png"), (2, "2.png"), (3, "4.png")],
        *[(5, "deep/1.png"), (6, "deep/3.png")],  # broken.jpg is the fourth, plain.png the last
    ]
    draw(tmp_path / "drawn.png", 9)
    (tmp_path / "in/broken.jpg").write_bytes((tmp_path / "drawn.png").read_bytes())
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    content = json.loads((out / "proposals.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5, 6]
    assert before.items() < {image["stem"]: image for image in content["images"]}.items()


def test_shards_in_any_order_give_what_one_run_gives(images, tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    generate_proposals(images, whole, SaliencySettings(), num_workers=0)
    first = generate_proposals(images, shared, SaliencySettings(), 0, Shard(2, 3))
    assert (first.num_images, first.is_whole) == (2, False)
    assert "the lists are written when the other shards are finished" in str(first)
    assert not (shared / "proposals.json").exists()
    generate_proposals(images, shared, SaliencySettings(), 0, Shard(0, 3))
    last = generate_proposals(images, shared, SaliencySettings(), 0, Shard(1, 3))
    assert last.is_whole
    for name in ("proposals.json", "proposals_results.json", "rejected.json", "saliency.json"):
        assert (shared / name).read_bytes() == (whole / name).read_bytes()
    again = generate_proposals(images, shared, SaliencySettings(), num_workers=0)
    assert (again.num_images, again.num_reused) == (7, 6)  # the broken file is tried again


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_shard_that_does_not_exist(index, count):
    with pytest.raises(InputError, match=rf"shard {index + 1}/{count} does not exist; give 1/"):
        Shard(index, count)


def test_a_run_in_parts_goes_on_with_another_number_of_parts(images, tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    generate_proposals(images, whole, SaliencySettings(), num_workers=0)
    generate_proposals(images, shared, SaliencySettings(), 0, Shard(1, 3))  # 2 and deep/1
    rest = [generate_proposals(images, shared, SaliencySettings(), 0, Shard(index, 2)) for index in (0, 1)]
    assert [(summary.num_images, summary.num_reused) for summary in rest] == [(4, 1), (3, 1)]
    assert [summary.is_whole for summary in rest] == [False, True]
    for name in ("proposals.json", "proposals_results.json", "rejected.json", "saliency.json"):
        assert (shared / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no convergence\nin 25 steps"), "RuntimeError: no convergence in 25 steps"),
        (ArpackNoConvergence("no convergence", [], []), "ArpackNoConvergence: ARPACK error -1: no convergence"),
        (np.linalg.LinAlgError("singular"), "LinAlgError: singular"),
        (FloatingPointError("underflow"), "FloatingPointError: underflow"),
        (cv2.error("bad size"), "error: bad size"),
        (InputError("too few patches"), "InputError: too few patches"),
    ],
)
def test_an_image_on_which_the_estimator_fails_is_rejected_and_tried_again(
    error, reason, images, tmp_path, monkeypatch, capfd
):
    original, done = processing.propose, []
    fail_on(monkeypatch, "2", error)
    summary = generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=0)
    assert (summary.num_masks, summary.num_rejected, summary.is_whole) == (4, 3, True)
    reasons = {rejection.stem: rejection.reason for rejection in read_rejected(tmp_path / "out")}
    assert reasons["2"] == f"the estimator failed: {reason}"
    assert capfd.readouterr().err.count(f"rejected 2: the estimator failed: {reason}\n") == 1
    monkeypatch.setattr(processing, "propose", lambda *given: done.append(given[1]) or original(*given))
    assert generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=0).num_masks == 5
    assert done == ["2"]


@pytest.mark.parametrize(
    "error", [TypeError("a"), AttributeError("b"), MemoryError(), torch.OutOfMemoryError("c"), NotImplementedError()]
)
def test_errors_of_the_program_end_the_run_and_name_the_image(error, images, tmp_path, monkeypatch):
    fail_on(monkeypatch, "deep/1", error)
    with pytest.raises(type(error)) as raised:
        generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=0)
    (note,) = raised.value.__notes__
    assert note.startswith("while working on image deep/1 (")
    assert not (tmp_path / "out/proposals.json").exists()


def fail_on(monkeypatch, stem, error):
    original = processing.propose

    def fails(pixels, name, settings, given):
        if name == stem:
            raise error
        return original(pixels, name, settings, given)

    monkeypatch.setattr(processing, "propose", fails)


def test_an_image_whose_record_broke_is_done_again(images, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    before = (out / "proposals.json").read_bytes()
    lines = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"', b"?")
    (out / "records.jsonl").write_bytes(b"".join(lines))
    capfd.readouterr()
    summary = generate_proposals(images, out, SaliencySettings(), num_workers=0)
    assert (summary.num_reused, summary.is_whole) == (5, True)  # neither that image nor the unreadable one
    assert (out / "proposals.json").read_bytes() == before
    assert capfd.readouterr().err.count(f"records.jsonl at byte {len(lines[0]) + len(lines[1])} holds no record") == 1


@pytest.mark.parametrize(
    ("num_images", "most", "expected"), [(6400, 4, 4), (6400, 1, 0), (6400, None, 8), (200, 4, 3), (100, 4, 0)]
)
def test_the_number_of_workers_is_chosen_by_images_and_cores(num_images, most, expected, monkeypatch):
    monkeypatch.setattr(processing, "num_cores", lambda: 8)
    chosen = []
    monkeypatch.setattr(
        processing, "_run", lambda images, work, maps, num_workers: chosen.append(num_workers) or iter(())
    )
    images = [ImageRef(str(number), Path("none")) for number in range(num_images)]
    list(processing.process_images(images, Path("out"), SaliencySettings(), None, most))
    assert chosen == [expected]


def test_a_second_run_does_only_what_is_missing_or_was_broken(images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    (out / "masks/2.png").unlink()
    draw(tmp_path / "in/broken.jpg", 9)
    done, original = [], processing.propose
    monkeypatch.setattr(processing, "propose", lambda *given: done.append(given[1]) or original(*given))
    summary = generate_proposals(images, out, SaliencySettings(), num_workers=0)
    assert sorted(done) == ["2", "broken"]
    assert (summary.num_masks, summary.num_rejected, summary.num_reused) == (6, 1, 5)
    assert [rejection.stem for rejection in read_rejected(out)] == ["plain"]


@pytest.mark.parametrize("num_parts", [1, 2])
def test_another_image_of_the_same_name_is_done_again(images, tmp_path, num_parts):
    out = tmp_path / "out"
    generate_proposals(images, out, SaliencySettings(keep_soft=True), num_workers=0)
    draw(tmp_path / "in/0.png", 77)
    draw(tmp_path / "in/2.png", 0, plain=True)
    parts = [
        generate_proposals(images, out, SaliencySettings(keep_soft=True), 0, Shard(index, num_parts))
        for index in range(num_parts)
    ]
    assert sum(part.num_reused for part in parts) == 4  # of 7: two changed, and the broken one is tried again
    assert parts[-1].num_rejected + (parts[0].num_rejected if num_parts == 2 else 0) == 3
    assert set(read_proposals(out)) == {"0", "4", "deep/1", "deep/3"}
    assert not (out / "masks/2.png").exists()
    assert not (out / "soft/2.png").exists()
    generate_proposals(images, tmp_path / "new", SaliencySettings(keep_soft=True), num_workers=0)
    for name in ("masks/0.png", "soft/0.png", "proposals.json"):
        assert (out / name).read_bytes() == (tmp_path / "new" / name).read_bytes()
    again = generate_proposals(images, out, SaliencySettings(keep_soft=True), num_workers=0)
    assert again.num_reused == 6


def test_an_image_that_comes_back_is_done_again(images, tmp_path):
    out, path = tmp_path / "out", tmp_path / "in/0.png"
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    first, mask = path.read_bytes(), (out / "masks/0.png").read_bytes()
    draw(path, 77)
    generate_proposals(images, out, SaliencySettings(), num_workers=0)
    assert (out / "masks/0.png").read_bytes() != mask
    path.write_bytes(first)
    assert generate_proposals(images, out, SaliencySettings(), num_workers=0).num_reused == 5
    assert (out / "masks/0.png").read_bytes() == mask
    assert generate_proposals(images, out, SaliencySettings(), num_workers=0).num_reused == 6


def test_another_map_of_method_file_is_read_again(images, tmp_path):
    generate_proposals(images, tmp_path / "maps", SaliencySettings(keep_soft=True), num_workers=0)
    settings = SaliencySettings(method="file", masks=tmp_path / "maps/masks")
    generate_proposals(images, tmp_path / "out", settings, num_workers=0)
    cv2.imwrite(str(tmp_path / "maps/masks/0.png"), np.full((48, 64), 255, np.uint8) * (np.arange(64) < 20))
    summary = generate_proposals(images, tmp_path / "out", settings, num_workers=0)
    assert summary.num_images - summary.num_reused == 3  # the changed map, the broken image, and the one without a map
    assert cv2.imread(str(tmp_path / "out/masks/0.png"), cv2.IMREAD_UNCHANGED)[:, :20].all()


def test_maps_that_make_others_be_read_otherwise(images, tmp_path):
    """Two values are background and foreground, whatever they are; beside a map of all values they are grey."""
    maps, out = tmp_path / "maps", tmp_path / "out"
    maps.mkdir()
    cv2.imwrite(str(maps / "0.png"), np.full((48, 64), 100, np.uint8) * (np.arange(64) < 40))
    settings = SaliencySettings(method="file", masks=maps)
    generate_proposals(images, out, settings, num_workers=0)
    assert (out / "masks/0.png").exists()
    cv2.imwrite(str(maps / "2.png"), np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1)))
    for folder in (out, tmp_path / "new"):
        generate_proposals(images, folder, settings, num_workers=0)
    assert not (out / "masks/0.png").exists()
    for name in ("masks/2.png", "proposals.json", "rejected.json", "saliency.json"):
        assert (out / name).read_bytes() == (tmp_path / "new" / name).read_bytes()


def test_nothing_left_to_do_is_said(images, tmp_path):
    (tmp_path / "in/broken.jpg").unlink()
    images = open_image_folder(tmp_path / "in")
    generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=0)
    summary = generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=0)
    assert summary.images_per_second == 0
    assert "finished before" in str(summary)


def test_other_settings_are_refused_with_both_values(images, tmp_path):
    generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=0)
    with pytest.raises(InputError, match=r"threshold 0\.5 there, 0\.4 now.*another output folder"):
        generate_proposals(images, tmp_path / "out", SaliencySettings(threshold=0.4), num_workers=0)
    recorded = json.loads((tmp_path / "out/saliency.json").read_text())
    assert recorded["settings"]["threshold"] == 0.5
    assert recorded["counts"] == {"images": 7, "masks": 5, "rejected": 2}


def test_a_folder_of_a_network_does_not_ask_for_the_encoder_of_its_teachers(tmp_path):
    def record(encoder, digest):
        settings = SaliencySettings("self_trained", encoder=encoder, network=tmp_path / "network.safetensors")
        return FolderRecord(settings, {"weights_sha256": digest}, "none")

    claim_folder(tmp_path, record("resnet10t", "1"))
    claim_folder(tmp_path, record(SaliencySettings().encoder, "1"))
    with pytest.raises(InputError, match="was begun with other settings"):
        claim_folder(tmp_path, record("resnet10t", "2"))


def test_unusable_output_and_workers_are_refused(images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file"):
        generate_proposals(images, tmp_path / "file", SaliencySettings(), num_workers=0)
    with pytest.raises(InputError, match="num_workers -1 is negative"):
        generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=-1)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/saliency.json").write_text("[]")
    with pytest.raises(InputError, match="no saliency settings"):
        generate_proposals(images, tmp_path / "odd", SaliencySettings(), num_workers=0)


@pytest.mark.real_data
def test_photographs_are_segmented_better_than_by_an_ellipse(real_data):
    from densessl.data.images import read_image
    from densessl.data.layouts import open_data_set
    from densessl.saliency.proposals import estimate

    split = open_data_set(real_data / "voc_animals", "train_aug")
    scores = {"fused": [], "centre": []}
    for image in split.images[::150]:
        labels = split.labels(image)
        valid, objects = labels != 255, (labels != 0) & (labels != 255)
        for method, values in scores.items():
            refine = "colour_models" if method == "fused" else "none"
            mask = estimate(read_image(image.path), SaliencySettings(method=method, refine=refine)) > 0.5
            values.append((mask & objects).sum() / ((mask | objects) & valid).sum())
    assert np.mean(scores["fused"]) > np.mean(scores["centre"]) + 0.05
    assert np.mean(scores["fused"]) > 0.45
