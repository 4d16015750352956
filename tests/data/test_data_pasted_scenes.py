"""Pasting an object into a scene: pixels and masks against a plain restatement, the rules, refused settings."""

from dataclasses import replace

import numpy as np
import pytest

from densessl.data.pasted_scenes import Cutout, PasteSettings, Scene, cut_out, paste
from densessl.errors import InputError

RED, GREY = (200, 10, 10), (90, 90, 90)
SHARP = PasteSettings(feather_px=0.0, min_area=0.1, max_area=0.1, min_shown=0.0, min_left=0.0)


def square(side: int = 20) -> Cutout:
    return Cutout(np.full((side, side, 3), RED, np.uint8), np.ones((side, side), bool))


def plain_scene(*masks: np.ndarray) -> Scene:
    return Scene(np.full((60, 80, 3), GREY, np.uint8), tuple(masks))


def many(scene: Scene, settings: PasteSettings, cutout: Cutout | None = None, num: int = 60) -> list[Scene | None]:
    return [paste(scene, cutout or square(), settings, np.random.default_rng(seed)) for seed in range(num)]


def test_what_is_cut_out_is_the_bounding_box() -> None:
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    mask = np.zeros((5, 6), bool)
    mask[1, 2] = mask[3, 4] = True
    found = cut_out(image, mask)
    np.testing.assert_array_equal(found.image, image[1:4, 2:5])
    assert np.argwhere(found.mask).tolist() == [[0, 0], [2, 2]]
    with pytest.raises(InputError, match="empty mask"):
        cut_out(image, np.zeros((5, 6), bool))


def test_pixels_and_mask_agree_and_the_rest_stays() -> None:
    found = [scene for scene in many(plain_scene(), SHARP) if scene is not None]
    assert len(found) > 40
    for scene in found:
        (mask,) = scene.masks
        assert (scene.image[mask] == RED).all()
        assert (scene.image[~mask] == GREY).all()


def test_the_area_is_as_asked_where_the_object_lies_inside() -> None:
    whole = [scene for scene in many(plain_scene(), replace(SHARP, min_shown=1.0)) if scene is not None]
    assert len(whole) > 5
    for scene in whole:
        assert scene.masks[0].mean() == pytest.approx(0.1, rel=0.08)


def test_what_is_covered_is_taken_from_the_masks_before() -> None:
    own = np.zeros((60, 80), bool)
    own[10:50, 10:70] = True
    covered = 0
    for scene in many(plain_scene(own), SHARP):
        if scene is not None:
            before, new = scene.masks
            assert not (before & new).any()
            np.testing.assert_array_equal(before, own & ~new)
            covered += bool((own & new).any())
    assert covered > 20


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_at_least_a_share_is_shown(share: float) -> None:
    full = [scene.masks[0].sum() for scene in many(plain_scene(), replace(SHARP, min_shown=1.0)) if scene]
    shown = [scene.masks[0].sum() for scene in many(plain_scene(), replace(SHARP, min_shown=share)) if scene]
    assert share * max(full) * 0.98 <= min(shown) < max(full)


def test_at_least_a_share_is_left_of_what_is_covered() -> None:
    own = np.zeros((60, 80), bool)
    own[20:40, 30:50] = True
    found = many(plain_scene(own), replace(SHARP, min_left=0.7))
    assert any(scene is None for scene in found)
    left = [scene.masks[0].sum() / own.sum() for scene in found if scene is not None]
    assert min(left) >= 0.7


def test_objects_are_not_enlarged_beyond_the_scale() -> None:
    assert all(scene is None for scene in many(plain_scene(), SHARP, square(4)))  # 480 pixels want a factor of 5.5
    assert any(scene is not None for scene in many(plain_scene(), replace(SHARP, max_scale=6.0), square(4)))


def test_the_outline_is_softened() -> None:
    found = [scene for scene in many(plain_scene(), replace(SHARP, feather_px=1.5)) if scene is not None]
    between = [((scene.image[..., 0] > 95) & (scene.image[..., 0] < 195)).sum() for scene in found]
    assert min(between) > 10


def test_some_are_mirrored() -> None:
    half = square()
    half.image[:, :10] = (10, 10, 200)
    sides = set()
    for scene in many(plain_scene(), replace(SHARP, min_shown=1.0), half):
        if scene is not None:
            column = np.flatnonzero(scene.masks[0].any(axis=0))[0]
            sides.add(bool(scene.image[scene.masks[0].any(axis=1), column, 0].mean() > 100))
    assert sides == {False, True}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, "pasting.share is 1.5"),
        ({"min_left": -0.1}, "pasting.min_left is -0.1"),
        ({"max_objects": 0}, "pasting.max_objects is 0"),
        ({"scenes_per_image": 0}, "pasting.scenes_per_image is 0; it must be at least 1"),
        ({"min_area": 0.4}, "pasting.min_area 0.4 and pasting.max_area 0.3"),
        ({"max_scale": 0.0}, "pasting.max_scale is 0.0"),
        ({"feather_px": -1.0}, "pasting.feather_px -1.0"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PasteSettings(**settings)
