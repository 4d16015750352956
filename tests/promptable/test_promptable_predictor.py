"""The predictor against that of segment-anything; its cache, its choice of masks, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_sam import saved, vit_b_sam
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

import densessl
from densessl.data.images import list_images, read_image
from densessl.errors import InputError
from densessl.promptable.fitting_masks import prompt_fit
from densessl.promptable.predicted_masks import PredictedMasks
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import PromptableModel, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.structures import ImageArray


def drawn(height: int, width: int, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def predictor(model: PromptableModel) -> Predictor:
    return Predictor(model, "cpu", "fp32")


def assert_same(found: PredictedMasks, published: SamPredictor, index: int = 0, **prompt: Any) -> None:
    """Compare one prompt's masks, which we rank and segment-anything does not."""
    masks, iou, logits = published.predict(**prompt)
    order = found.output[index] - (1 if prompt.get("multimask_output", True) else 0)
    np.testing.assert_allclose(found.predicted_iou[index], iou[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.low_resolution[index], logits[order], rtol=1e-5, atol=1e-5)
    # a pixel whose logit rounding decides may fall on either side
    sure = abs(published.predict(**prompt, return_logits=True)[0]) > 1e-4
    assert sure.mean() > 0.999
    assert np.array_equal((found.masks[index] & sure[order]), masks[order] & sure[order])


def check_all_prompts(ours: Predictor, published: SamPredictor, image: ImageArray) -> None:
    ours.set_image(image)
    published.set_image(image)
    height, width = image.shape[:2]
    points = np.array([[0.4 * width, 0.6 * height], [0.1 * width, 0.2 * height]])
    labels, box = np.array([1, 0]), np.array([0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height])
    click = ours.predict(points[:1], labels[:1])
    assert_same(click, published, point_coords=points[:1], point_labels=labels[:1])
    assert_same(ours.predict(boxes=box, multimask=False), published, box=box, multimask_output=False)
    mask = click.low_resolution[0, 0]
    assert_same(
        ours.predict(points, labels, box, mask),
        published,
        point_coords=points,
        point_labels=labels,
        box=box,
        mask_input=mask[None],
    )


@pytest.mark.parametrize("size", [(150, 101), (90, 240), (256, 256), (1, 1)])
def test_masks_are_those_of_segment_anything(published: Sam, predictor: Predictor, size: tuple[int, int]) -> None:
    check_all_prompts(predictor, SamPredictor(published), drawn(*size))


@pytest.mark.real_data
def test_masks_on_photographs_are_those_of_segment_anything(
    published: Sam, predictor: Predictor, real_data: Path
) -> None:
    refs = list_images(real_data / "tiny_coco" / "val2017")
    by_shape = sorted(refs, key=lambda ref: read_image(ref.path).shape[0] / read_image(ref.path).shape[1])
    theirs = SamPredictor(published)
    for ref in (by_shape[0], by_shape[len(refs) // 2], by_shape[-1]):  # the widest, a common one, the tallest
        check_all_prompts(predictor, theirs, read_image(ref.path))


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(3600)
def test_vit_b_gives_the_masks_of_segment_anything(real_data: Path, tmp_path: Path) -> None:
    sam = vit_b_sam()
    ours = Predictor.from_weights(saved(sam, tmp_path / "sam_vit_b.pth"), "cpu", "fp32")
    assert ours.model.settings == PromptableSettings("sam_vit_b")
    refs = list_images(real_data / "tiny_coco" / "val2017")
    tallest = max((read_image(ref.path) for ref in refs), key=lambda image: image.shape[0] / image.shape[1])
    check_all_prompts(ours, SamPredictor(sam), tallest)


def test_several_prompts_are_the_same_one_by_one(published: Sam, predictor: Predictor) -> None:
    image, theirs = drawn(100, 140), SamPredictor(published)
    points = np.array([[[10, 20], [90, 30]], [[70, 80], [5, 5]], [[139, 99], [0, 0]]], dtype=float)
    labels = np.array([[1, 1], [1, 0], [0, 1]])
    found = predictor.set_image(image).predict(points, labels)
    theirs.set_image(image)
    assert len(found) == 3
    for index in range(3):
        assert_same(found, theirs, index, point_coords=points[index], point_labels=labels[index])


def test_predictions_are_deterministic_and_fed_back(predictor: Predictor) -> None:
    predictor.set_image(drawn(60, 80))
    first, second = (predictor.predict([[20, 30]]) for _ in range(2))
    assert np.array_equal(first.masks, second.masks)
    assert np.array_equal(first.low_resolution, second.low_resolution)
    further = predictor.predict([[20, 30]], mask=first.low_resolution[:, 0], multimask=False)
    assert further.masks.shape == (1, 1, 60, 80)
    assert further.output.tolist() == [[0]]


def test_one_mask_can_be_asked_for(predictor: Predictor) -> None:
    predictor.set_image(drawn(60, 80))
    every, best = predictor.predict([[20, 30]]), predictor.predict([[20, 30]], select="best")
    assert best.masks.shape == (1, 1, 60, 80)
    assert np.array_equal(best.masks[0, 0], every.masks[0, 0])
    areas = [predictor.predict([[20, 30]], select=name).area_px.item() for name in ("subpart", "part", "whole")]
    assert areas == sorted(every.area_px[0])
    with pytest.raises(InputError, match="select is 'biggest'; it is one of best, whole, part, subpart, fitting"):
        predictor.predict([[20, 30]], select="biggest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="select 'whole' chooses among three masks, but multimask is false"):
        predictor.predict([[20, 30]], select="whole", multimask=False)


@pytest.mark.parametrize("multimask", [True, False])
def test_a_fitting_mask_holds_its_click(predictor: Predictor, multimask: bool) -> None:
    predictor.set_image(drawn(60, 80))
    every = predictor.predict([[0, 0]], multimask=multimask).masks[0].any(0)
    points = np.argwhere(every)[:: max(1, every.sum() // 5)][:, None, ::-1].astype(float)  # some mask is there
    found = predictor.predict(points, select="fitting", multimask=multimask)
    assert found.masks.shape == (len(points), 1, 60, 80)
    assert (found.output[:, 0] > 0).tolist() == [multimask] * len(points)
    alone = predictor.predict(points[1], select="fitting", multimask=multimask)
    assert np.array_equal(alone.masks[0], found.masks[1])
    holds = [found.masks[index, 0, int(y), int(x)] for index, ((x, y),) in enumerate(points)]
    candidates = predictor.predict(points, multimask=multimask).masks
    could = [candidates[index, :, int(y), int(x)].any() for index, ((x, y),) in enumerate(points)]
    assert any(could)
    assert all(hold for hold, can in zip(holds, could, strict=True) if can)
    assert predictor.predict(boxes=[10, 10, 50, 40], select="fitting").masks.shape == (1, 1, 60, 80)
    assert predictor.predict(mask=found.low_resolution[0, 0], select="fitting").masks.shape == (1, 1, 60, 80)


def test_refined_masks_are_chosen_where_they_fit(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn(60, 80)
    predictor.set_image(image)
    points = np.array([[[20, 30]], [[70, 10]], [[40, 50]], [[5, 5]], [[60, 59]]], dtype=float)
    found = predictor.predict(points, select="fitting", refine="grabcut")
    cut: list[PredictedMasks] = []
    monkeypatch.setattr(
        "densessl.promptable.predictor.keep_fitting", lambda refined, prompts: (cut.append(refined), refined)[1]
    )
    predictor.predict(points, select="fitting", refine="grabcut")
    refined = [(part, index) for part in cut for index in range(len(part))]
    assert len(refined) == 5
    for number, (part, index) in enumerate(refined):
        fits = [prompt_fit(mask, points[number].astype(np.float32), np.array([1])) for mask in part.masks[index]]
        best = int(np.argmax(part.predicted_iou[index].clip(1e-6) * np.square(fits)))
        assert np.array_equal(found.masks[number, 0], part.masks[index, best])
        assert found.output[number, 0] == part.output[index, best]
    single = predictor.predict(points, select="fitting", refine="grabcut", multimask=False)
    assert single.output.tolist() == [[0]] * 5


def test_parts_of_the_decoding_give_what_one_call_gives(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).uniform(0, 60, (9, 2, 2))
    predictor.set_image(drawn(60, 80))
    masks = predictor.predict(points[:, :1], multimask=False).low_resolution[:, 0]
    decode, sizes = predictor.model.decode, []
    monkeypatch.setattr(
        predictor.model, "decode", lambda *given: (sizes.append(len(given[1].points)), decode(*given))[1]
    )
    parts = predictor.predict(points, mask=masks)
    monkeypatch.setattr("densessl.promptable.predictor.prompts_at_a_time", lambda device: 9)
    whole = predictor.predict(points, mask=masks)
    assert sizes == [4, 4, 1, 9]
    np.testing.assert_allclose(parts.low_resolution, whole.low_resolution, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(parts.predicted_iou, whole.predicted_iou, rtol=1e-5, atol=1e-5)
    assert (parts.masks == whole.masks).mean() > 0.999
    assert np.array_equal(parts.output, whole.output)


def test_a_selection_that_the_model_has_not_is_refused() -> None:
    small = {"dim": 32, "num_multimask": 2, "decoder_heads": 2, "decoder_mlp_dim": 32}
    model = build_promptable_model(PromptableSettings("test_resnet", 64, **small))  # type: ignore[arg-type]
    predictor = Predictor(model, "cpu", "fp32").set_image(drawn(40, 60))
    assert predictor.predict([[20, 30]], select="subpart").masks.shape == (1, 1, 40, 60)
    with pytest.raises(
        InputError, match=r"'part' needs 3 masks .* num_multimask is 2; choose best or fitting or whole"
    ):
        predictor.predict([[20, 30]], select="part")


def test_embeddings_are_kept_by_content_and_bounded(model: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, encoded = Predictor(model, "cpu", "fp32", max_cached_images=2), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda images: (encoded.append(1), encode(images))[1])
    first, second, third = (drawn(20, 30, seed) for seed in range(3))
    for image in (first, second, first.copy(), np.asfortranarray(first), first.reshape(30, 20, 3)):
        predictor.set_image(image)
    assert len(encoded) == 3  # the same pixels in another shape are another image
    predictor.set_image(third)  # drops `first`; `second` is gone already
    predictor.set_image(third)
    assert len(encoded) == 4
    predictor.set_image(first)
    assert len(encoded) == 5
    predictor.forget_images()
    with pytest.raises(InputError, match="no image is set"):
        predictor.predict([[1, 1]])


def test_an_array_that_is_filled_again_leaves_the_image_that_was_set(model: PromptableModel) -> None:
    frame, predictor = drawn(60, 80), Predictor(model, "cpu", "fp32")
    predictor.set_image(frame)
    before = predictor.predict([[20, 30]], refine="grabcut")
    frame[:] = drawn(60, 80, 1)
    assert np.array_equal(predictor.predict([[20, 30]], refine="grabcut").masks, before.masks)


def test_mixed_precision_is_close(model: PromptableModel) -> None:
    image = drawn(60, 80)
    exact, mixed = (
        Predictor(model, "cpu", precision).set_image(image).predict([[20, 30]], multimask=False)
        for precision in ("fp32", "bf16")
    )
    assert mixed.low_resolution.dtype == np.float32
    assert (exact.masks != mixed.masks).mean() < 0.1
    assert abs(exact.predicted_iou - mixed.predicted_iou).max() < 0.1


def test_a_large_image_is_segmented(predictor: Predictor) -> None:
    found = predictor.set_image(np.zeros((6000, 8000, 3), dtype=np.uint8)).predict([[7999, 5999]], select="best")
    assert found.masks.shape == (1, 1, 6000, 8000)


def test_a_file_on_disk_is_read(predictor: Predictor, tmp_path: Path) -> None:
    from PIL import Image

    image = drawn(20, 30)
    Image.fromarray(image).save(tmp_path / "a.png")
    from_file = predictor.set_image(tmp_path / "a.png").embedding
    assert predictor.set_image(image).embedding is from_file


def test_a_frame_without_padding_works_on_a_backbone() -> None:
    torch.manual_seed(0)
    settings = PromptableSettings("resnet18", 128, padding="stride", dim=32, decoder_heads=2, decoder_mlp_dim=64)
    predictor = Predictor(build_promptable_model(settings), "cpu", "fp32").set_image(drawn(50, 100))
    found = predictor.predict([[[10, 10]], [[90, 40]]])
    assert found.masks.shape == (2, 3, 50, 100)
    assert found.low_resolution.shape == (2, 3, 16, 32)
    again = predictor.predict(mask=found.low_resolution[:, 0])
    assert again.masks.shape == (2, 3, 50, 100)


def test_wrong_input_is_told(model: PromptableModel, predictor: Predictor) -> None:
    with pytest.raises(InputError, match="no image is set"):
        predictor.predict([[1, 1]])
    with pytest.raises(InputError, match=r"image has shape \(3, 4\)"):
        predictor.set_image(np.zeros((3, 4), dtype=np.uint8))
    with pytest.raises(InputError, match="max_cached_images is 0"):
        Predictor(model, "cpu", max_cached_images=0)
    with pytest.raises(InputError, match="no prompt is given"):
        predictor.set_image(drawn(4, 5)).predict()


def test_the_package_exports_it() -> None:
    assert densessl.Predictor is Predictor
