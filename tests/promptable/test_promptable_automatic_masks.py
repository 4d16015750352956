"""Automatic masks against the generator of segment-anything with the same random weights, and within a bound."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_sam import saved, vit_b_sam, with_local_masks
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import coco_encode_rle, rle_to_mask

from densessl.data.images import list_images, read_image
from densessl.errors import InputError
from densessl.promptable.automatic_masks import AutomaticMask, automatic_masks
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import PromptableModel, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.small_regions import regions
from densessl.structures import ImageArray, MaskArray

SETTINGS = AutomaticSettings(
    points_per_side=7,
    predicted_iou_threshold=0.05,
    stability_threshold=0.2,
    stability_offset=0.1,
    box_nms_threshold=0.97,
    crop_nms_threshold=0.9,
)
"""Random weights draw unsteady masks and predict their IoU at random: with these thresholds some dozens remain."""

VARIANTS = {
    "plain": SETTINGS,
    "crops": replace(SETTINGS, crop_layers=1, crop_points_divisor=2),
    "clean": replace(SETTINGS, min_region_px=60),
    "both": replace(SETTINGS, crop_layers=1, crop_points_divisor=2, min_region_px=60),
}


def drawn(height: int, width: int, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def generator_of(sam: Sam, settings: AutomaticSettings) -> SamAutomaticMaskGenerator:
    return SamAutomaticMaskGenerator(
        sam,
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.predicted_iou_threshold,
        stability_score_thresh=settings.stability_threshold,
        stability_score_offset=settings.stability_offset,
        box_nms_thresh=settings.box_nms_threshold,
        crop_n_layers=settings.crop_layers,
        crop_nms_thresh=settings.crop_nms_threshold,
        crop_overlap_ratio=settings.crop_overlap,
        crop_n_points_downscale_factor=settings.crop_points_divisor,
        min_mask_region_area=settings.min_region_px,
        output_mode="uncompressed_rle",
    )


@pytest.fixture
def predictor(local_model: PromptableModel) -> Predictor:
    return Predictor(local_model, "cpu", "fp32")


def assert_same(ours: Predictor, sam: Sam, image: ImageArray, settings: AutomaticSettings) -> int:
    """Compare all masks; returns how many are the same to the bit."""
    found = automatic_masks(ours, image, settings)
    published = generator_of(sam, settings).generate(image)
    assert len(found) == len(published)
    num_same = 0
    for mask, record in zip(found, published, strict=True):
        assert mask.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-5)
        # rounding may decide one pixel at each of the two thresholds
        assert mask.stability == pytest.approx(record["stability_score"], abs=max(1e-5, 2 / max(1, mask.area_px)))
        assert list(mask.point) == record["point_coords"][0]
        x0, y0, x1, y1 = mask.crop
        assert [x0, y0, x1 - x0, y1 - y0] == record["crop_box"]
        differs = mask.runs.mask() != rle_to_mask(record["segmentation"])
        if differs.any():
            assert_rounding_decided(differs, record, sam, image, settings)
        else:
            assert_same_lengths(mask, record)
            num_same += 1
    assert num_same >= 0.9 * len(found)
    return num_same


def assert_same_lengths(mask: AutomaticMask, record: dict[str, Any]) -> None:
    assert mask.runs.coco() == coco_encode_rle(record["segmentation"])
    assert mask.area_px == record["area"]
    x0, y0, x1, y1 = mask.box
    assert [x0, y0, x1 - 1 - x0, y1 - 1 - y0] == record["bbox"]  # its boxes end at the last pixel


def assert_rounding_decided(
    differs: MaskArray, record: dict[str, Any], sam: Sam, image: ImageArray, settings: AutomaticSettings
) -> None:
    """Pixels may differ where the logit of segment-anything is all but at the threshold."""
    if settings.min_region_px:  # where such a pixel may decide whether a region is small
        assert differs.sum() <= settings.min_region_px
        return
    x, y, width, height = record["crop_box"]
    theirs = SamPredictor(sam)
    theirs.set_image(image[y : y + height, x : x + width])
    point = np.array(record["point_coords"]) - [x, y]
    logits, iou, _ = theirs.predict(point, np.array([1]), return_logits=True)
    whole = np.full(image.shape[:2], np.inf)
    whole[y : y + height, x : x + width] = logits[np.argmin(abs(iou - record["predicted_iou"]))]
    assert abs(whole[differs]).max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(150, 101), (90, 240)])
def test_masks_are_those_of_segment_anything(
    local: Sam, predictor: Predictor, size: tuple[int, int], variant: str
) -> None:
    assert assert_same(predictor, local, drawn(*size), replace(VARIANTS[variant], points_per_side=5)) >= 3


@pytest.mark.parametrize("crop_layers", [0, 1])
def test_masks_are_those_of_segment_anything_at_the_published_nms(
    local: Sam, predictor: Predictor, crop_layers: int
) -> None:
    """Random weights reach no published threshold of quality: those here part what the package itself finds."""
    image = drawn(150, 101, seed=3)
    published = AutomaticSettings(points_per_side=8, stability_offset=0.1, crop_points_divisor=2)
    assert (published.box_nms_threshold, published.crop_nms_threshold) == (0.7, 0.7)
    everything = replace(published, predicted_iou_threshold=0, stability_threshold=0, box_nms_threshold=1)
    records = generator_of(local, everything).generate(image)
    settings = replace(
        published,
        predicted_iou_threshold=widest_gap([record["predicted_iou"] for record in records]),
        stability_threshold=widest_gap([record["stability_score"] for record in records]),
        crop_layers=crop_layers,
    )
    assert 3 <= assert_same(predictor, local, image, settings) < len(records) / 4


def widest_gap(values: list[float]) -> float:
    """Return the middle of the widest gap in the lower third of the positive values: no rounding crosses it."""
    positive = np.sort([value for value in values if value > 0])
    lower = positive[: len(positive) // 3]
    place = int(np.diff(lower).argmax())
    return float(lower[place : place + 2].mean())


@pytest.mark.real_data
@pytest.mark.parametrize("variant", ["plain", "both"])
def test_masks_on_photographs_are_those_of_segment_anything(
    local: Sam, predictor: Predictor, real_data: Path, variant: str
) -> None:
    refs = list_images(real_data / "tiny_coco" / "val2017")
    by_shape = sorted(refs, key=lambda ref: read_image(ref.path).shape[0] / read_image(ref.path).shape[1])
    # the widest, a common one, the tallest
    images = [read_image(ref.path) for ref in (by_shape[0], by_shape[len(refs) // 2], by_shape[-1])]
    settings = VARIANTS[variant]
    num_same = sum(assert_same(predictor, local, image, settings) for image in images)
    assert num_same >= (25 if settings.crop_layers else 55)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(3600)
def test_masks_of_vit_b_are_those_of_segment_anything(real_data: Path, tmp_path: Path) -> None:
    sam = with_local_masks(vit_b_sam())
    ours = Predictor.from_weights(saved(sam, tmp_path / "sam_vit_b.pth"), "cpu", "fp32")
    settings = replace(SETTINGS, points_per_side=8, predicted_iou_threshold=0)
    images = [read_image(ref.path) for ref in list_images(real_data / "tiny_coco" / "val2017")]
    by_shape = sorted(images, key=lambda image: image.shape[0] / image.shape[1])
    assert sum(assert_same(ours, sam, image, settings) for image in (by_shape[0], by_shape[-1])) >= 20


def test_clean_masks_have_no_small_region(predictor: Predictor) -> None:
    image = drawn(90, 140)
    plain, clean = (automatic_masks(predictor, image, VARIANTS[name]) for name in ("plain", "clean"))
    by_point = {(mask.point, mask.predicted_iou): mask for mask in plain}
    assert any(by_point[mask.point, mask.predicted_iou].area_px != mask.area_px for mask in clean)
    for mask in clean:
        for part in (mask.runs, mask.runs.inverse()):
            of_run = regions(columns := part.by_column())
            areas = np.bincount(of_run, weights=columns.ends - columns.starts)
            assert areas.min(initial=1000) >= 60 or len(areas) == 1


def test_the_bound_changes_no_mask(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    image, sizes = drawn(90, 140), []
    attend = predictor.model.mask_decoder.attend
    monkeypatch.setattr(
        predictor.model.mask_decoder,
        "attend",
        lambda *arguments: (sizes.append(len(arguments[2])), attend(*arguments))[1],
    )
    free, bound = (automatic_masks(predictor, image, SETTINGS, max_memory_gb) for max_memory_gb in (1.0, 0.015))
    assert set(sizes) == {4, 1}
    assert len(free) == len(bound) > 3
    for ours, theirs in zip(free, bound, strict=True):
        assert (ours.runs.mask() != theirs.runs.mask()).sum() <= 2
        assert ours.predicted_iou == pytest.approx(theirs.predicted_iou, abs=1e-5)
    with pytest.raises(InputError, match=r"max_memory_gb is 0.001, but one point on an image of 90 x 140 .* give at"):
        automatic_masks(predictor, image, SETTINGS, 0.001)
    with pytest.raises(InputError, match="max_memory_gb is nan"):
        automatic_masks(predictor, image, SETTINGS, float("nan"))


def test_masks_that_will_not_do_are_not_upscaled(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = predictor.model.mask_decoder
    monkeypatch.setattr(decoder, "masks", lambda *_: pytest.fail("upscaled"))
    assert automatic_masks(predictor, drawn(40, 50), replace(SETTINGS, predicted_iou_threshold=1e9)) == ()


def test_boxes_thresholds_and_areas_hold(predictor: Predictor) -> None:
    found = automatic_masks(predictor, drawn(90, 140), VARIANTS["both"])
    assert found
    for mask in found:
        array = mask.runs.mask()
        assert array.shape == (90, 140)
        assert mask.area_px == array.sum()
        y, x = np.nonzero(array)
        assert mask.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert mask.predicted_iou > SETTINGS.predicted_iou_threshold
        assert mask.stability >= SETTINGS.stability_threshold


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (3000, 4000)])
def test_any_size(predictor: Predictor, size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), dtype=np.uint8)
    settings = replace(SETTINGS, points_per_side=2, predicted_iou_threshold=0, stability_threshold=0)
    found = automatic_masks(predictor, image, settings)
    assert found or size == (1, 1)
    assert all(mask.runs.size == size for mask in found)


def test_the_whole_image_is_encoded_once(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    image, encoded = drawn(60, 50), []
    encode = predictor.model.encode
    monkeypatch.setattr(predictor.model, "encode", lambda pixels: (encoded.append(1), encode(pixels))[1])
    predictor.set_image(image)
    automatic_masks(predictor, image, VARIANTS["crops"])
    assert len(encoded) == 5
    predictor.predict([[10, 10]])  # the image that is set is still it
    with pytest.raises(InputError, match=r"image has shape \(3, 4\)"):
        automatic_masks(predictor, np.zeros((3, 4), dtype=np.uint8))


def test_a_mirrored_predictor_is_refused(local_model: PromptableModel) -> None:
    with pytest.raises(InputError, match="the predictor is mirrored, which is for prompts"):
        automatic_masks(Predictor(local_model, "cpu", "fp32", mirrored=True), np.zeros((20, 30, 3), dtype=np.uint8))


def test_mixed_precision_is_close(local_model: PromptableModel) -> None:
    image = drawn(90, 140)
    exact, mixed = (automatic_masks(Predictor(local_model, "cpu", p), image, SETTINGS) for p in ("fp32", "bf16"))
    assert len(mixed) == pytest.approx(len(exact), abs=0.4 * len(exact))


def test_finer_features_reach_every_mask() -> None:
    """A mask that is found without being asked for is the one that its point asks for."""
    torch.manual_seed(0)
    settings = PromptableSettings("test_resnet", 64, dim=16, decoder_heads=2, decoder_mlp_dim=32, fine_features=True)
    predictor = Predictor(build_promptable_model(settings))
    image = drawn(48, 64)
    everything = AutomaticSettings(3, predicted_iou_threshold=0, stability_threshold=0, box_nms_threshold=1)
    predictor.set_image(image)
    found = automatic_masks(predictor, image, everything)
    assert found
    for mask in found:
        asked = predictor.predict([mask.point], [1])
        assert any(np.array_equal(mask.runs.mask(), one) for one in asked.masks[0])
