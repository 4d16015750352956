"""The map of an embedding space: marks that differ, crops of the planned size, thumbnails that do not overlap."""

import numpy as np
import pytest

from densessl.report.cluster_marks import cluster_colour, cluster_mark, ink_on
from densessl.report.embedding_map import MAX_THUMBNAILS, MaskMap, draw_map, draw_marks, lay_out
from densessl.report.mask_crops import FRAME_PX, LEAST_SHARE, crop_box, crop_size, cut_out, framed


def make_map(num: int = 80, num_clusters: int = 5, *, is_flat: bool = False) -> MaskMap:
    generator = np.random.default_rng(0)
    places = generator.normal(0, 1, (num, 2)).astype(np.float32)
    if is_flat:
        places[:, 1] = 0
    clusters = np.arange(num) % num_clusters
    sizes = [(84, 50) if row % 2 else (40, 84) for row in range(num)]
    return MaskMap(places, clusters, {1: "cats"}, {c: c for c in range(num_clusters)}, sizes, ("first", "second"))


def test_pairs_of_colour_and_mark_are_unique_and_the_first_differ_in_both() -> None:
    pairs = [(cluster_colour(cluster), cluster_mark(cluster)) for cluster in range(49)]
    assert len(set(pairs)) == 49
    assert len({colour for colour, _ in pairs[:7]}) == len({mark for _, mark in pairs[:7]}) == 7


def test_ink_reads_on_colours() -> None:
    assert ink_on((255, 255, 255)) == ink_on((240, 228, 66)) == (20, 20, 20)
    assert ink_on((0, 0, 0)) == ink_on((0, 114, 178)) == (255, 255, 255)


@pytest.mark.parametrize("is_flat", [False, True])
def test_thumbnails_do_not_overlap_lie_inside_and_begin_with_the_medoids(is_flat: bool) -> None:
    masks = make_map(is_flat=is_flat)
    layout = lay_out(masks)
    boxes = []
    for row in layout.thumbnails:
        (height, width), (x, y) = masks.sizes[row], layout.places_px[row]
        boxes.append((x - width / 2 - 4, y - height / 2 - 4, x + width / 2 + 4, y + height / 2 + 4))
    for i, one in enumerate(boxes):
        assert min(one[:2]) >= 0
        assert one[2] <= layout.size[1]
        assert one[3] <= layout.size[0]
        for other in boxes[:i]:
            assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
    assert layout.thumbnails[0] == 0
    assert len(boxes) > 5


def test_both_axes_have_one_scale_and_y_points_up() -> None:
    masks = make_map()
    layout = lay_out(masks)
    steps, steps_px = np.diff(masks.places, axis=0), np.diff(layout.places_px, axis=0)
    scale = steps_px[:, 0] / steps[:, 0]
    np.testing.assert_allclose(scale, scale[0], rtol=1e-3)
    np.testing.assert_allclose(-steps_px[:, 1] / steps[:, 1], scale[0], rtol=1e-3)


def test_there_are_not_too_many_thumbnails() -> None:
    masks = make_map(2000)
    tiny = MaskMap(masks.places, masks.clusters, {}, masks.medoids, [(2, 2)] * 2000, None)
    assert len(lay_out(tiny).thumbnails) == MAX_THUMBNAILS


def test_one_place_is_drawn() -> None:
    masks = MaskMap(np.zeros((1, 2), np.float32), np.zeros(1, np.int64), {}, {0: 0}, [(84, 84)], None)
    layout = lay_out(masks)
    assert layout.thumbnails == (0,)
    np.testing.assert_allclose(layout.places_px[0], [layout.size[1] / 2, layout.size[0] / 2])


def test_pictures_show_thumbnails_in_their_frames_where_they_belong() -> None:
    masks = make_map(12)
    layout = lay_out(masks)
    thumbnails = {row: np.full((*masks.sizes[row], 3), 90, np.uint8) for row in layout.thumbnails}
    picture, marks = draw_map(masks, layout, thumbnails), draw_marks(masks, layout)
    assert picture.shape == marks.shape
    assert picture.shape[1] == layout.size[1]
    assert picture.shape[0] > layout.size[0]  # the legend
    for row in layout.thumbnails:
        x, y = layout.places_px[row].round().astype(int)
        assert picture[y, x].tolist() == [90, 90, 90]
        frame = x - masks.sizes[row][1] // 2 - FRAME_PX + 2
        assert (np.abs(picture[y, frame] - np.array(cluster_colour(int(masks.clusters[row])))) < 2).all()
    drawn = (marks.reshape(-1, 3) == np.array(cluster_colour(0))).all(axis=1).sum()
    assert drawn > 3 * 50  # the marks of three masks


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((10, 5, 60, 40), (48, 64)),
        ((0, 0, 1, 1), (200, 300)),
        ((299, 199, 300, 200), (200, 300)),
        ((100, 0, 102, 200), (200, 300)),
        ((0, 0, 64, 48), (48, 64)),
    ],
)
def test_crops_have_the_planned_size_hold_the_box_and_are_not_too_small(box, size) -> None:
    x0, y0, x1, y1 = crop_box(box, size)
    assert 0 <= x0 <= box[0]
    assert 0 <= y0 <= box[1]
    assert box[2] <= x1 <= size[1]
    assert box[3] <= y1 <= size[0]
    assert min(x1 - x0, y1 - y0) >= min(*size, round(LEAST_SHARE * max(size)))
    height, width = crop_size(box, size, 84)
    assert max(height, width) == 84
    mask = np.zeros(size, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    assert cut_out(np.full((*size, 3), 100, np.uint8), mask, box, 84).shape == (height, width, 3)


def test_inside_is_in_colour_and_outside_is_washed_out() -> None:
    photo = np.zeros((80, 80, 3), np.uint8)
    photo[..., 0] = 200
    mask = np.zeros((80, 80), bool)
    mask[:, :40] = True
    picture = cut_out(photo, mask, (0, 0, 80, 80), 80)
    assert picture[40, 10].tolist() == [200, 0, 0]
    assert np.ptp(picture[40, 70].astype(int)) == 0
    assert picture[40, 70, 0] > 180


def test_frames_add_their_width() -> None:
    picture = framed(np.full((40, 60, 3), 7, np.uint8), (0, 114, 178), 12)
    assert picture.shape == (40 + 2 * FRAME_PX, 60 + 2 * FRAME_PX, 3)
    assert picture[-2, 30].tolist() == [0, 114, 178]
    assert picture[30, 40].tolist() == [7, 7, 7]
