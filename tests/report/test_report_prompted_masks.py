"""Pictures of prompted masks and of maps."""

import numpy as np

from densessl.report.prompted_masks import MAP_SIDE_PX, SIDE_PX, draw_mask_map, draw_masks


def test_each_mask_has_its_panel_with_the_prompts() -> None:
    photo = np.full((100, 300, 3), 120, dtype=np.uint8)
    masks = [np.zeros((100, 300), dtype=np.bool_) for _ in range(2)]
    masks[1][20:60, 100:200] = True
    points, labels = np.array([[150.0, 40.0], [20.0, 80.0]]), np.array([1, 0])
    sheet = draw_masks(photo, masks, ["one", "two"], points, labels, np.array([90.0, 10.0, 210.0, 70.0]))
    assert sheet.shape == (124, 2 * 300 + 8, 3)
    for left in (0, 308):
        assert np.argmax(sheet[40, left + 150]) == 1  # green, on the object
        assert np.argmax(sheet[80, left + 20]) == 0  # red, off it
        assert np.argmax(sheet[40, left + 90]) == 2 or np.argmax(sheet[40, left + 91]) == 2  # the box
    assert np.array_equal(sheet[30, 308 + 120], photo[0, 0])
    assert (sheet[30, 120] < 120).all()


def test_large_photographs_are_reduced() -> None:
    photo = np.full((3000, 1500, 3), 120, dtype=np.uint8)
    mask, none = np.ones((3000, 1500), dtype=np.bool_), np.zeros((0, 2))
    sheet = draw_masks(photo, [mask], ["a caption that is wider than"], none, np.zeros(0, dtype=np.int64), None)
    assert sheet.shape[:2] == (SIDE_PX + 24, SIDE_PX // 2)
    assert draw_mask_map(photo, mask.astype(np.uint16)).shape == (MAP_SIDE_PX, MAP_SIDE_PX // 2, 3)


def test_masks_of_a_map_differ_and_none_is_grey() -> None:
    photo = np.full((40, 254 * 4, 3), 120, dtype=np.uint8)
    numbers = np.repeat(np.arange(1, 255, dtype=np.uint16), 4)[None].repeat(40, axis=0)
    numbers[30:] = 0
    drawn = draw_mask_map(photo, numbers).astype(int)
    inside = drawn[10, 5::4][:250]
    assert (np.ptp(inside, axis=1) > 20).sum() > 200  # but for outlines, which are white
    assert (drawn[35] == drawn[35, 0]).all()
    assert not np.array_equal(drawn[10, 1], drawn[10, 9])


def test_an_image_of_one_pixel() -> None:
    photo, numbers = np.zeros((1, 1, 3), dtype=np.uint8), np.ones((1, 1), dtype=np.uint16)
    assert draw_mask_map(photo, numbers).shape == (1, 1, 3)
    sheet = draw_masks(photo, [numbers > 0], ["x"], np.zeros((1, 2)), np.ones(1, dtype=np.int64), None)
    assert sheet.shape[0] == 25
