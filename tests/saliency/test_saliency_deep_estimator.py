"""Methods on deep features end to end: grid sizes, known scenes, real small encoders, weights that change, refusals."""

import json
import os
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from densessl.data.image_folder import open_image_folder
from densessl.errors import InputError, MissingInputError
from densessl.models.encoders import build_encoder
from densessl.models.patch_features import PatchFeatures
from densessl.saliency import deep_estimator as module
from densessl.saliency.deep_estimator import deep_saliency, deep_segments, load_encoder, resize_to_grid
from densessl.saliency.feature_settings import DEEP_METHODS
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposal_store import read_proposals
from densessl.saliency.proposals import SaliencySettings, estimate, propose


def settings_for(encoder, folder, method="tokencut", seed=0, **changes):
    """Write random weights of an encoder, in timm's format, and return settings that use them."""
    path = folder / f"{encoder}.safetensors"
    torch.manual_seed(seed)
    save_file(build_encoder(encoder).backbone.state_dict(), path)
    given = {"refine": "none", "feature_size_px": 128, **changes}
    return SaliencySettings(method=method, encoder=encoder, weights=path, **given)


def draw(height=90, width=160):
    """Return a photograph's stand-in: noise, with a block of another colour."""
    image = np.random.default_rng(0).integers(40, 90, (height, width, 3), dtype=np.uint8)
    image[30:70, 90:140] += np.uint8(120)
    return image


class ColourEncoder:
    """Stands for an encoder of stride 16: the feature of a cell is how its mean red differs from 128."""

    class encoder:
        stride = 16

    def extract(self, pixels):
        cells = torch.nn.functional.avg_pool2d(pixels, 16)[0, 0].double().numpy() - 0.5
        height, width = cells.shape
        values = np.stack([cells.ravel(), np.full(cells.size, 0.01)], axis=1)
        return PatchFeatures(values, (cells.ravel() + 1)[None], height, width)


@pytest.mark.parametrize("method", DEEP_METHODS)
@pytest.mark.parametrize(("height", "width"), [(90, 150), (150, 90), (360, 600)])
def test_a_block_of_a_non_square_image_is_found(method, height, width, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_encoder", lambda settings: ColourEncoder())
    image = np.full((height, width, 3), 60, np.uint8)
    top, bottom, left, right = height // 3, 2 * height // 3, width // 2, 5 * width // 6  # whole patches
    image[top:bottom, left:right] = 230
    soft = deep_saliency(image, method, settings_for("test_vit", tmp_path, feature_size_px=480).features)
    assert (soft.shape, soft.dtype) == ((height, width), np.float32)
    assert 0 <= soft.min() < 0.5 < soft.max() <= 1
    truth = np.zeros((height, width), dtype=bool)
    truth[top:bottom, left:right] = True
    found = soft > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.9


class ThreeColourEncoder(ColourEncoder):
    """The feature of a cell is its mean colour less the grey of the ground."""

    def extract(self, pixels):
        cells = torch.nn.functional.avg_pool2d(pixels, 16)[0].double().numpy() - 60 / 255
        _, height, width = cells.shape
        values = np.vstack([cells.reshape(3, -1), np.full((1, height * width), 0.2)]).T
        return PatchFeatures(values, np.ones((1, height * width)), height, width)


def two_blocks(height, width):
    """Return grey ground with a large red block and a small blue one, whole patches at 480 pixels, and their masks."""
    image = np.full((height, width, 3), 60, np.uint8)
    large, small = np.zeros((2, height, width), dtype=bool)
    large[height // 6 : height // 2, width // 6 : width // 2] = True
    small[2 * height // 3 : 5 * height // 6, 2 * width // 3 : 5 * width // 6] = True
    image[large], image[small] = (230, 60, 60), (60, 60, 230)
    return image, large, small


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize(("height", "width"), [(288, 480), (480, 288), (720, 1200)])
def test_segments_of_an_image_become_proposals(height, width, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_encoder", lambda settings: ThreeColourEncoder())
    monkeypatch.setattr(module, "NUM_EIGENVECTORS", 2)  # those that tell three segments apart; the others cut up ground
    image, large, small = two_blocks(height, width)
    parts = settings_for("test_vit", tmp_path, "deep_spectral", feature_size_px=480)
    plain, found = propose(image, "a", parts), propose(image, "a", replace(parts, num_segments=3))
    np.testing.assert_array_equal(found.foreground, plain.foreground)
    np.testing.assert_array_equal(found.soft, plain.soft)
    first, second = found.proposals
    assert overlap(first.mask, large) > 0.9
    assert overlap(second.mask, small) > 0.8
    for part in (first, second):
        rows, columns = np.nonzero(part.mask)
        assert part.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert part.area_px == part.mask.sum()
        assert part.score == pytest.approx(float(found.soft[part.mask].mean()), abs=1e-5)
        assert not part.touches_border
    share = second.area_px / second.mask.size
    (only,) = propose(image, "a", replace(parts, num_segments=3, min_area=1.01 * share)).proposals
    np.testing.assert_array_equal(only.mask, first.mask)


def test_segments_of_small_grids_and_plain_images(tmp_path):
    settings = settings_for("test_vit", tmp_path, "deep_spectral").features
    thin = draw(20, 160)[:, :, ::-1]
    labels = deep_segments(np.ascontiguousarray(thin), 3, settings, (40, 90))  # 8 patches
    assert (labels.shape, labels.dtype) == ((40, 90), np.int64)
    assert set(np.unique(labels)) <= {0, 1, 2}
    assert labels.any()
    assert not deep_segments(np.full((20, 30, 3), 90, np.uint8), "auto", settings, (20, 30)).any()
    with pytest.raises(InputError, match="num_segments 9 is not between 2 and the 8 patches"):
        deep_segments(np.ascontiguousarray(thin), 9, settings, (40, 90))


@pytest.mark.parametrize(
    ("height", "width", "size_px", "stride", "expected"),
    [
        (300, 400, 480, 16, (352, 480)),  # 360 px are 22.5 cells; rounded to the even 22
        (333, 500, 480, 14, (322, 476)),
        (50, 40, 128, 16, (128, 96)),
        (1, 900, 128, 16, (16, 128)),
        (480, 480, 480, 32, (480, 480)),
    ],
)
def test_images_are_brought_to_whole_patches(height, width, size_px, stride, expected):
    assert resize_to_grid(np.zeros((height, width, 3), np.uint8), size_px, stride).shape == (*expected, 3)


@pytest.mark.parametrize("method", DEEP_METHODS)
@pytest.mark.parametrize("encoder", ["test_vit", "test_vit3", "test_efficientnet", "test_resnet"])
def test_small_encoders_of_every_kind_give_maps(method, encoder, tmp_path):
    settings = settings_for(encoder, tmp_path, method)
    soft = estimate(draw(), settings)
    assert (soft.shape, soft.dtype) == ((90, 160), np.float32)
    assert 0 <= soft.min() <= soft.max() <= 1
    np.testing.assert_array_equal(soft, estimate(draw(), settings))
    assert not estimate(np.full((20, 30, 3), 90, np.uint8), settings).any()


def test_an_encoder_is_built_once_and_again_when_its_file_changes(tmp_path):
    settings = settings_for("test_vit", tmp_path)
    first = load_encoder(settings.features)
    assert load_encoder(settings_for("test_vit", tmp_path, "lost").features) is not first  # written anew
    again = load_encoder(settings.features)
    os.utime(settings.weights, ns=(1, 1))
    assert load_encoder(settings.features) is not again


@pytest.fixture
def images(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        image = draw()
        image[:, :, 1] += np.uint8(20 * number)
        cv2.imwrite(str(tmp_path / f"in/{number}.png"), image)
    return open_image_folder(tmp_path / "in")


def test_the_record_names_the_weights_and_their_labels(images, tmp_path):
    settings = settings_for("test_vit", tmp_path)
    generate_proposals(images, tmp_path / "out", settings, num_workers=0)
    record = json.loads((tmp_path / "out/saliency.json").read_text())
    assert record["settings"]["method"] == "tokencut"
    assert record["settings"]["weights"] == str(settings.weights)
    assert re.fullmatch("[0-9a-f]{64}", record["features"]["weights_sha256"])
    assert "unknown" in record["features"]["supervision"]
    assert record["supervision"] == (
        "fitted to none (estimator tokencut); labels that trained its features (test_vit, weights "
        f"{settings.weights.name}): {record['features']['supervision']}"
    )
    generate_proposals(images, tmp_path / "plain", SaliencySettings(), num_workers=0)
    plain = json.loads((tmp_path / "plain/saliency.json").read_text())
    assert plain.keys() == {"settings", "supervision", "counts"}


def test_resuming_with_other_weights_is_refused_and_with_moved_ones_goes_on(images, tmp_path):
    settings = settings_for("test_vit", tmp_path)
    generate_proposals(images, tmp_path / "out", settings, num_workers=0)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(settings.weights.read_bytes())
    arguments = {"method": "tokencut", "encoder": "test_vit", "refine": "none", "feature_size_px": 128}
    summary = generate_proposals(images, tmp_path / "out", SaliencySettings(weights=moved, **arguments), num_workers=0)
    assert summary.num_reused == 4
    other = settings_for("test_vit", tmp_path, seed=1)  # another file at the same path
    with pytest.raises(InputError, match=r"weights 'with SHA-256 \w+' there, 'with SHA-256 \w+' now"):
        generate_proposals(images, tmp_path / "out", other, num_workers=0)
    with pytest.raises(InputError, match=r"method 'tokencut' there, 'fused' now; .*weights 'with SHA-256"):
        generate_proposals(images, tmp_path / "out", SaliencySettings(), num_workers=0)


@pytest.mark.slow  # starts two interpreters
def test_workers_give_the_same_maps(images, tmp_path):
    settings = settings_for("test_resnet", tmp_path, "deep_spectral", keep_soft=True)
    generate_proposals(images, tmp_path / "alone", settings, num_workers=0)
    generate_proposals(images, tmp_path / "shared", settings, num_workers=2)
    alone, shared = (
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.png"))}
        for folder in (tmp_path / "alone", tmp_path / "shared")
    )
    assert len(alone) >= 4
    assert alone == shared


def test_threads_are_given_back(images, tmp_path):
    previous = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        generate_proposals(images, tmp_path / "out", settings_for("test_vit", tmp_path), num_workers=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(previous)


def test_a_folder_of_segments_goes_on_and_belongs_to_its_number(images, tmp_path):
    settings = settings_for("test_vit", tmp_path, "deep_spectral", min_area=0.0)
    parts, out = tmp_path / "parts", tmp_path / "out"
    generate_proposals(images, parts, settings, num_workers=0)
    record = json.loads((parts / "saliency.json").read_text())
    del record["settings"]["num_segments"]  # as a version without the setting wrote it
    (parts / "saliency.json").write_text(json.dumps(record))
    assert generate_proposals(images, parts, settings, num_workers=0).num_reused == len(images)
    chosen = replace(settings, num_segments=4)
    with pytest.raises(InputError, match="num_segments None there, 4 now"):
        generate_proposals(images, parts, chosen, num_workers=0)
    generate_proposals(images, out, chosen, num_workers=0)
    assert json.loads((out / "proposals.json").read_text())["info"]["description"].startswith("segments of the images")
    found = read_proposals(out)
    assert found.keys() == read_proposals(parts).keys()
    for stem, segments in found.items():
        assert 1 <= len(segments) <= 3
        assert np.sum([part.mask for part in segments], axis=0).max() == 1  # disjoint
        masks = [cv2.imread(str(folder / f"masks/{stem}.png"), cv2.IMREAD_UNCHANGED) for folder in (parts, out)]
        np.testing.assert_array_equal(*masks)
    before = (out / "proposals.json").read_bytes()
    assert generate_proposals(images, out, chosen, num_workers=0).num_reused == len(images)
    assert (out / "proposals.json").read_bytes() == before


def test_an_automatic_number_of_segments_is_recorded_and_compared(images, tmp_path):
    settings = settings_for("test_vit", tmp_path, "deep_spectral", min_area=0.0, num_segments="auto")
    out = tmp_path / "out"
    generate_proposals(images, out, settings, num_workers=0)
    assert json.loads((out / "saliency.json").read_text())["settings"]["num_segments"] == "auto"
    assert generate_proposals(images, out, settings, num_workers=0).num_reused == len(images)
    for number in (4, None):
        with pytest.raises(InputError, match=f"num_segments 'auto' there, {number} now"):
            generate_proposals(images, out, replace(settings, num_segments=number), num_workers=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "lost"}, r"method lost works on features of encoder vit_small.*random weights; give a file"),
        ({"method": "lost", "weights": "a.pth", "pretrained": True}, r"both weights a\.pth and pretrained true"),
        ({"weights": "a.pth"}, r"method fused uses no encoder, but weights a\.pth is given.*tokencut, deep_spectral"),
        ({"pretrained": True}, r"method fused uses no encoder, but pretrained true is given"),
        ({"output_stride": 4}, r"output_stride 4 is not one of 8, 16, 32"),
        ({"feature_size_px": 100}, r"feature_size_px 100 is below 128.*480 is usual"),
        ({"num_segments": 4}, r"method fused makes no segments, but num_segments 4 is given.*choose deep_spectral"),
        ({"method": "tokencut", "pretrained": True, "num_segments": "auto"}, r"method tokencut makes no segments"),
        ({"method": "deep_spectral", "pretrained": True, "num_segments": 1}, r"num_segments 1 is below 2.*4 is usual"),
        ({"method": "deep_spectral", "pretrained": True, "num_segments": "all"}, r"num_segments 'all' is unknown"),
    ],
)
def test_settings_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SaliencySettings(**arguments)


def test_unusable_encoders_are_refused_before_any_image(images, tmp_path):
    missing = SaliencySettings(method="lost", encoder="test_vit", weights=tmp_path / "none.pth")
    with pytest.raises(MissingInputError, match=r"no checkpoint file .*none\.pth"):
        generate_proposals(images, tmp_path / "out", missing, num_workers=0)
    large = settings_for("test_vit", tmp_path, feature_size_px=1500)
    with pytest.raises(
        InputError, match="feature_size_px 1500 makes 93 patches of 16 pixels a side; choose 128 to 1280"
    ):
        generate_proposals(images, tmp_path / "out", large, num_workers=0)
    assert not (tmp_path / "out/saliency.json").exists()


@pytest.mark.real_data
def test_known_photographs_are_halved_neither_way(real_data, tmp_path):
    """With random weights the masks mean nothing, but every photograph must go through at its own size."""
    from densessl.data.images import read_image
    from densessl.data.layouts import open_data_set

    split = open_data_set(real_data / "voc_animals", "train_aug")
    settings = settings_for("test_vit", tmp_path, "deep_spectral")
    for image in split.images[:3]:
        pixels = read_image(image.path)
        assert estimate(pixels, settings).shape == pixels.shape[:2]
