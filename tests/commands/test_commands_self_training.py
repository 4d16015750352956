"""`saliency --method self_trained`: one command trains and makes masks, resumes, and serves other folders."""

import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_runs import DrawnFolder, command, draw_folder, truncate, write_mask

from densessl.commands import self_training as stage
from densessl.data.image_folder import open_image_folder
from densessl.data.soft_targets import SoftMaps
from densessl.models.saliency_network import SaliencyNetwork, SaliencyNetworkHeader, load_saliency_network
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageRef, ImageSet
from densessl.training.patch_training import PatchTrainingSettings
from densessl.training.self_training import SelfTrainingSettings

FLAGS = (
    *("--method", "self_trained", "--num_workers", "0", "--gallery", "false", "--refine", "none"),
    *("--self_training.rounds", "2", "--self_training.epochs", "8", "--self_training.size_px", "32"),
    *(
        "--self_training.batch_size",
        "4",
        "--self_training.num_workers",
        "0",
        "--self_training.teachers",
        "[fused,centre]",
    ),
)


def run(drawn: DrawnFolder, *words: object) -> None:
    outcome = command("saliency", "--images", drawn.images, *words)
    assert outcome.status == 0, outcome.err


@pytest.fixture(scope="module")
def trained(drawn: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of masks with its network; read only."""
    out = tmp_path_factory.mktemp("self_trained") / "out"
    run(drawn, "--out", out, *FLAGS)
    return out


def test_one_command_trains_and_makes_masks(trained: Path) -> None:
    parts = {path.name for path in (trained / "self_training").iterdir()}
    assert parts == {"fused", "centre", "round-1", "round-2", "network.safetensors", "self_training.json"}
    assert list((trained / "self_training" / "round-1" / "soft").iterdir())
    assert not (trained / "self_training" / "round-2" / "soft").exists()
    record = json.loads((trained / "saliency.json").read_text())
    assert record["supervision"] == f"self-trained network ({record['features']['supervision']})"
    assert record["features"]["supervision"].startswith(
        "initial weights: none (random weights); targets: fitted to none"
    )
    assert (trained / "proposals.json").is_file()


def test_a_stopped_run_goes_on_and_ends_the_same(
    trained: Path, drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = stage.train_saliency_network, []

    def dies_in_the_second_round(*given: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "train_saliency_network", dies_in_the_second_round)
    assert command("saliency", "--images", drawn.images, "--out", tmp_path / "again", *FLAGS).status == 130
    run(drawn, "--out", tmp_path / "again", *FLAGS)
    assert len(calls) == 3  # the first round was not trained again
    name = "self_training/network.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_the_network_serves_other_folders_and_says_what_touched_it(
    trained: Path, drawn: DrawnFolder, tmp_path: Path
) -> None:
    network = trained / "self_training" / "network.safetensors"
    words = ("--method", "self_trained", "--network", network, "--refine", "none", "--num_workers", "0")
    run(drawn, "--out", tmp_path / "other", *words)
    assert not (tmp_path / "other" / "self_training").exists()
    for path in (trained / "masks").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / "masks" / path.name).read_bytes()
    page = (tmp_path / "other" / "gallery" / "index.html").read_text()
    assert "network.safetensors" in page
    assert "vit_small_patch16_224.dino" not in page
    assert "self-trained network (initial weights: none (random weights)" in page


def test_other_settings_are_refused(trained: Path, drawn: DrawnFolder) -> None:
    outcome = command(
        "saliency", "--images", drawn.images, "--out", trained, *FLAGS, "--self_training.learning_rate", "0.5"
    )
    assert outcome.status == 1
    assert "self_training.learning_rate 0.001 there, 0.5 now" in outcome.err


def test_a_finished_network_is_not_reused_for_other_images(trained: Path, tmp_path: Path) -> None:
    more = draw_folder(tmp_path, num_images=9)
    outcome = command("saliency", "--images", more.images, "--out", trained, *FLAGS)
    assert outcome.status == 1
    assert "images.number 8 there, 9 now" in outcome.err
    assert f"--network {trained / 'self_training' / 'network.safetensors'}" in outcome.err


def test_a_finished_network_is_not_reused_for_other_contents_of_the_same_names(trained: Path, tmp_path: Path) -> None:
    out, moved = tmp_path / "out", draw_folder(tmp_path)
    shutil.copytree(trained, out)
    words = ("saliency", "--images", moved.images, "--out", out, *FLAGS)
    outcome = command(*words)
    assert outcome.status == 0, outcome.err
    assert "all were finished before" in outcome.out
    assert "earlier version" not in outcome.err
    shutil.copy(moved.images / "5.jpg", moved.images / "3.jpg")
    outcome = command(*words)
    assert outcome.status == 1
    assert "(images or given maps hold something else now than they did then); use those, or another" in outcome.err
    assert f"--network {out / 'self_training' / 'network.safetensors'}" in outcome.err
    record = out / "self_training" / "self_training.json"
    content = json.loads(record.read_text())
    then = content["images"].pop("contents_sha256")
    younger = {name: content["saliency"].pop(name) for name in ("attention_layer", "num_segments")}
    record.write_text(json.dumps(content))
    outcome = command(*words, "--self_training.learning_rate", "0.5")
    assert "learning_rate 0.001 there, 0.5 now" in outcome.err
    assert json.loads(record.read_text()) == content  # nothing is recorded where the folder is refused
    outcome = command(*words)
    assert outcome.status == 0, outcome.err
    assert f"{record} is of an earlier version and does not say what the images held" in outcome.err
    assert "7 finished before" in outcome.out  # masks are known by content all the same
    recorded = json.loads(record.read_text())
    assert recorded["images"].pop("contents_sha256") != then
    content["saliency"] |= younger
    assert recorded == content
    shutil.copy(moved.images / "6.jpg", moved.images / "3.jpg")
    outcome = command(*words)
    assert outcome.status == 1
    assert "(images or given maps hold something else now than they did then)" in outcome.err


@pytest.mark.parametrize(("teachers", "is_noticed"), [(("file",), True), (("centre",), False)])
def test_given_maps_are_known_by_their_content(teachers: tuple[str, ...], is_noticed: bool, tmp_path: Path) -> None:
    folder = draw_folder(tmp_path)
    images = open_image_folder(folder.images)
    settings = SaliencySettings(method="self_trained", masks=folder.masks), SelfTrainingSettings(teachers=teachers)
    border = PatchTrainingSettings()
    before = stage._describe(images, *settings, border, 0)
    write_mask(folder, "3", 255)
    assert (stage._describe(images, *settings, border, 0) != before) == is_noticed


@pytest.mark.parametrize(("averaging", "share"), [(0.0, 0.0), (0.25, 0.0), (0.25, 0.4)])
def test_targets_are_the_moving_average_of_the_maps(
    averaging: float, share: float, drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_image_folder(drawn.images)
    generator, maps, seen = np.random.default_rng(0), {}, []

    def draw_maps(image_set: ImageSet, folder: Path, *_: object) -> None:
        (folder / "soft").mkdir(parents=True)
        for ref in image_set.images:
            maps[folder.name, ref.stem] = generator.integers(0, 256, (4, 6), dtype=np.uint8)
            Image.fromarray(maps[folder.name, ref.stem]).save(folder / "soft" / f"{ref.stem}.png")

    def note_targets(*given: object) -> float:
        targets = cast(SoftMaps, given[3])
        seen.append({ref.stem: targets.read(ref.stem) for ref in images.images})
        return 0.0

    monkeypatch.setattr(stage, "generate_proposals", draw_maps)
    monkeypatch.setattr(stage, "train_saliency_network", note_targets)
    monkeypatch.setattr(stage, "masks_provenance", lambda folder: "drawn")
    settings = SelfTrainingSettings(
        teachers=("fused", "centre"), rounds=3, averaging=averaging, teacher_share=share, encoder="resnet10t"
    )
    stage.self_train(images, tmp_path / "out", SaliencySettings(method="self_trained"), settings, seed=0)
    assert len(seen) == 3
    for ref in images.images:
        target = teachers = (maps["fused", ref.stem] / 255 + maps["centre", ref.stem] / 255) / 2
        np.testing.assert_allclose(seen[0][ref.stem], target, atol=1e-6)
        for number in (1, 2):  # the share `averaging` of the earlier targets is kept
            target = averaging * target + (1 - averaging) * maps[f"round-{number}", ref.stem] / 255
            expected = share * teachers + (1 - share) * target
            np.testing.assert_allclose(seen[number][ref.stem], expected, atol=1e-6)


def test_a_warm_start_goes_on_with_the_last_network(
    drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[torch.Tensor] = []

    def trained(fabric: object, network: SaliencyNetwork, *_: object) -> float:
        weight = network.parts.encoder.model.conv1[0].weight
        begun.append(weight.detach().clone())
        weight.data += 1
        return 0.0

    monkeypatch.setattr(stage, "train_saliency_network", trained)
    for is_warm in (False, True):
        settings = SelfTrainingSettings(
            teachers=("centre",), rounds=2, encoder="resnet10t", decoder="fpn", warm_start=is_warm, reduce_images=True
        )
        out = tmp_path / str(is_warm)
        images = open_image_folder(drawn.images)
        stage.self_train(images, out, SaliencySettings(method="self_trained"), settings, seed=0)
        assert torch.equal(begun[1], begun[0] + 1) == is_warm
        assert {path.name for path in (out / "round-2").iterdir()} == {"network.safetensors"}  # no cache is left
        begun.clear()


def test_the_first_rounds_may_learn_from_all_images(
    drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(stage, "train_saliency_network", lambda *given: seen.append(len(given[2])) or 0.0)
    settings = SelfTrainingSettings(
        teachers=("centre",), rounds=3, encoder="resnet10t", kept_share=0.5, kept_from=3, decoder="fpn"
    )
    images = open_image_folder(drawn.images)
    stage.self_train(images, tmp_path / "out", SaliencySettings(method="self_trained"), settings, seed=0)
    assert seen == [8, 8, 4]


@pytest.mark.parametrize(("last", "refined"), [(None, (True, True)), (1, (True, False)), (0, (False, False))])
def test_the_maps_of_rounds_may_stay_as_they_are(
    last: int | None, refined: tuple[bool, bool], drawn: DrawnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "train_saliency_network", lambda *_: 0.0)
    settings = SelfTrainingSettings(
        teachers=("centre",), rounds=3, encoder="resnet10t", decoder="fpn", scales=(1.0, 0.5), refine_until=last
    )
    saliency = SaliencySettings(method="self_trained", refine="guided_filter")
    network = stage.self_train(open_image_folder(drawn.images), tmp_path, saliency, settings, seed=0)
    assert load_saliency_network(network)[1].scales == (1.0, 0.5)
    records = [json.loads((tmp_path / name / "saliency.json").read_text()) for name in ("centre", "round-1", "round-2")]
    refinements = ["guided_filter" if is_refined else "none" for is_refined in (True, *refined)]
    assert [record["settings"]["refine"] for record in records] == refinements


def test_settings_are_checked_before_the_folder_is_claimed(drawn: DrawnFolder, tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    for words, message in (
        (("--self_training.teachers", "[centre,magic]"), "unknown saliency method 'magic'"),
        (("--self_training.teachers", "[centre,tokencut]"), "give a file with its weights"),
        (("--self_training.teachers", "[tokencut]", "--weights", "none.pth"), "none.pth"),
        (("--self_training.encoder", "resnet19"), "'resnet19' is not a timm model name"),
        (("--self_training.weights", tmp_path / "wrong.safetensors"), "wrong.safetensors"),
        (("--weights", "dino.pth"), "weights dino.pth is for teachers that work on features, which fused, centre do"),
    ):
        outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *FLAGS, *words)
        assert outcome.status == 1, words
        assert message in outcome.err
        assert not (tmp_path / "out" / "self_training").exists()


def test_weights_are_known_by_their_content(drawn: DrawnFolder, tmp_path: Path) -> None:
    flags = (*FLAGS, "--self_training.rounds", "1", "--self_training.teachers", "[centre]")
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        save_file(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / f"{name}.safetensors")
    weights = tmp_path / "first.safetensors"
    run(drawn, "--out", tmp_path / "out", *flags, "--self_training.weights", weights)
    weights = weights.rename(tmp_path / "moved.safetensors")
    run(drawn, "--out", tmp_path / "out", *flags, "--self_training.weights", weights)
    (tmp_path / "second.safetensors").rename(weights)
    words = ("--out", tmp_path / "out", *flags, "--self_training.weights", weights)
    outcome = command("saliency", "--images", drawn.images, *words)
    assert outcome.status == 1
    assert "self_training.weights_sha256" in outcome.err
    weights.unlink()
    outcome = command("saliency", "--images", drawn.images, *words)
    assert outcome.status == 1
    assert f"no weights file {weights}" in outcome.err


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not valid JSON"), ("[]", "no settings of a training"), ('{"saliency": 1}', "no settings of")],
)
def test_a_damaged_record(content: str, message: str, drawn: DrawnFolder, tmp_path: Path) -> None:
    (tmp_path / "self_training").mkdir()
    (tmp_path / "self_training" / "self_training.json").write_text(content)
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path, *FLAGS)
    assert outcome.status == 1
    assert message in outcome.err


def test_an_image_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "drawn", num_images=5)
    truncate(folder.images / "3.jpg")
    words = ("--self_training.averaging", "0", "--self_training.num_workers", "1", "--self_training.epochs", "20")
    outcome = command("saliency", "--images", folder.images, "--out", tmp_path / "out", *FLAGS, *words)
    assert outcome.status == 0, outcome.err
    assert "round-1: 4 of 5 images" in outcome.err
    assert json.loads((tmp_path / "out" / "rejected.json").read_text())[0]["stem"] == "3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "fused", "--network", "n.safetensors"), "saliency method fused uses no network"),
        (("--method", "self_trained", "--network", "none.safetensors"), "no saliency network none.safetensors"),
        (("--method", "self_trained", "--shard", "1/2"), "a network is trained in one process; train it first"),
        (("--method", "self_trained", "--self_training.teachers", "[magic]"), "unknown saliency method 'magic'"),
        (("--method", "self_trained", "--self_training.teachers", "[tokencut]"), "give a file with its weights"),
        (("--method", "self_trained", "--self_training.teachers", "[fused, fused]"), "names one twice; name each once"),
        (
            ("--method", "self_trained", "--self_training.encoder_lr_scale", "0"),
            "keeps the encoder resnet18 as it is, and that is random; give --self_training.weights",
        ),
    ],
)
def test_what_cannot_be_used(words: tuple[str, ...], message: str, drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = command("saliency", "--images", drawn.images, "--out", tmp_path / "out", *words)
    assert outcome.status == 1
    assert message in outcome.err


def test_run_wants_a_trained_network(drawn: DrawnFolder, tmp_path: Path) -> None:
    outcome = command("run", "--images", drawn.images, "--out", tmp_path / "run", "--saliency.method", "self_trained")
    assert outcome.status == 1
    assert "needs a network; train one with `densessl saliency --method self_trained" in outcome.err


class _OffByABit:
    """A network whose logits fall by 0.1 a pixel from the middle, 0 on the outline of the disc, but for a bias."""

    def __init__(self, bias: float) -> None:
        self.bias = bias
        y, x = np.mgrid[:80, :100].astype(np.float32)
        self.distance = np.hypot(y - 40, x - 50)

    def logits(self) -> np.ndarray:
        return (30 - self.distance) / 10 + self.bias

    def shift_logits(self, by: float) -> None:
        self.bias += by


@pytest.fixture
def discs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ImageRef, ...]:
    """Enough references to a photograph of a bright disc, the first of them damaged; the stage sees it as it is."""
    grain = np.random.default_rng(0).integers(0, 60, (80, 100, 3))
    image = np.where((_OffByABit(0).distance < 30)[..., None], 190, 60) + grain
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "disc.png")
    (tmp_path / "damaged.png").write_bytes(b"no image")
    monkeypatch.setattr(stage, "view_with_logits", lambda image, network, _: (image, network.logits()))
    good = tuple(ImageRef(str(number), tmp_path / "disc.png") for number in range(1, stage.MIN_CALIBRATED))
    return (ImageRef("0", tmp_path / "damaged.png"), *good)


def _calibrate(network: _OffByABit, images: tuple[ImageRef, ...]) -> str:
    return stage._calibrate(cast(SaliencyNetwork, network), cast(SaliencyNetworkHeader, None), images)


def test_the_threshold_is_where_outlines_follow_edges(discs: tuple[ImageRef, ...]) -> None:
    network = _OffByABit(1.5)
    assert _calibrate(network, discs) == "outlines follow most edges at logit 1.5"
    assert network.bias == 0
    assert _calibrate(network, discs) == "outlines follow most edges at logit 0"


@pytest.mark.parametrize(
    ("bias", "last", "reason"), [(1.5, -1, "49 images, fewer than the 50"), (5, None, "from -3 to 5")]
)
def test_a_threshold_that_cannot_be_trusted_is_left_alone(
    bias: float, last: int | None, reason: str, discs: tuple[ImageRef, ...]
) -> None:
    network = _OffByABit(bias)
    assert _calibrate(network, discs[:last]).startswith("threshold 0 kept: ")
    assert reason in _calibrate(network, discs[:last])
    assert network.bias == bias


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, ["0", "1", "2", "3"]), (0.5, ["0", "2"]), (0.25, ["2"]), (0.01, ["2"])]
)
def test_the_most_decided_targets_train_the_network(share: float, kept: list[str], tmp_path: Path) -> None:
    for number, sureness in enumerate((0.6, 0.2, 0.9, 0.4)):
        soft = np.repeat([[0.5 - sureness / 2], [0.5 + sureness / 2]], 3, axis=0) * 255
        Image.fromarray(soft.astype(np.uint8)).save(tmp_path / f"{number}.png")
    images = tuple(ImageRef(str(number), tmp_path / f"{number}.png") for number in range(4))
    chosen = stage._most_decided(images, SoftMaps((tmp_path,), (1.0,)), share)
    assert [ref.stem for ref in chosen] == kept
