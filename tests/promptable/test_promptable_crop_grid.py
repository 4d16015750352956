"""Crops and points against the package segment-anything."""

import numpy as np
import pytest
import torch
from segment_anything.utils.amg import build_all_layer_point_grids, generate_crop_boxes, is_box_near_crop_edge

from densessl.errors import InputError
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.crop_grid import Crop, crops_of


@pytest.mark.parametrize("size", [(427, 640), (640, 427), (100, 101), (33, 1200), (6000, 8000)])
@pytest.mark.parametrize("overlap", [512 / 1500, 0.0, 0.1])
def test_crops_are_the_published(size: tuple[int, int], overlap: float) -> None:
    published = zip(*generate_crop_boxes(size, 3, overlap), strict=True)
    found = crops_of(size, AutomaticSettings(crop_layers=3, crop_overlap=overlap))
    # of very narrow images the published ones are in part beyond the edge, and empty
    expected = [(box, layer) for box, layer in published if box[0] < box[2] and box[1] < box[3]]
    assert [(list(crop.box), crop.layer) for crop in found] == expected


def test_an_image_of_a_pixel_has_one_crop_of_a_layer() -> None:
    crops = crops_of((1, 1), AutomaticSettings(crop_layers=2))
    assert {crop.box for crop in crops} == {(0, 0, 1, 1)}


def test_points_are_the_published() -> None:
    settings = AutomaticSettings(points_per_side=8, crop_layers=2, crop_points_divisor=2)
    for layer, grid in enumerate(build_all_layer_point_grids(8, 2, 2)):
        crop = Crop((10, 20, 110, 90), layer)
        assert np.array_equal(crop.points(settings.points_of_layer(layer)), grid * np.array([[100, 70]]))


def test_masks_that_a_crop_cuts_are_the_published() -> None:
    generator = np.random.default_rng(0)
    crop, image_size = Crop((0, 60, 200, 300), 1), (300, 400)
    for _ in range(300):
        x0, y0 = generator.integers(0, [180, 220])
        x1, y1 = generator.integers([x0 + 1, y0 + 1], [201, 241])
        box = int(x0), int(y0), int(x1), int(y1)
        last = torch.tensor([[x0, y0, x1 - 1, y1 - 1]])
        expected = is_box_near_crop_edge(last, list(crop.box), [0, 0, 400, 300]).item()
        assert crop.cuts(box, image_size) == expected


def test_settings_out_of_range_are_told() -> None:
    for name, value, message in (
        ("points_per_side", 0, "automatic.points_per_side is 0; it must be at least 1"),
        ("crop_layers", -1, "automatic.crop_layers is -1; it must be at least 0"),
        ("min_region_px", -1, "automatic.min_region_px is -1; it must be at least 0"),
        ("stability_threshold", 1.5, r"automatic.stability_threshold is 1.5; it must lie in \[0, 1\]"),
        ("crop_overlap", 1.0, r"automatic.crop_overlap is 1.0; it must lie in \[0, 1\)"),
        ("stability_offset", -1.0, "automatic.stability_offset is -1.0; it must not be negative"),
        ("predicted_iou_threshold", -0.1, "automatic.predicted_iou_threshold is -0.1; it must not be negative"),
        ("box_nms_threshold", float("nan"), "automatic.box_nms_threshold is nan"),
    ):
        with pytest.raises(InputError, match=message):
            AutomaticSettings(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="points_per_side 3 leaves no point for crops of layer 2 with"):
        AutomaticSettings(points_per_side=3, crop_layers=2, crop_points_divisor=2)
