"""Views of images with objects: the frame, the cells, boxes, mirroring, and batches."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.object_masks import ChosenObjects, ObjectSettings, open_objects
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.promptable.framing import frame_of
from densessl.promptable.object_views import ObjectViews, ViewChoice, box_in_frame, collate_objects, mask_cells
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.structures import ImageRef

SETTINGS = PromptableSettings("test_resnet", 64, dim=16)
CHOICE = ViewChoice(objects_per_image=2, prompts_per_object=3, flip=False, cell_px=4)


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[tuple[ImageRef, ...], ChosenObjects]:
    """Two images of 24 x 32, with one object and with three."""
    (tmp_path / "masks").mkdir()
    generator = np.random.default_rng(0)
    refs = []
    for number in range(2):
        image = Image.fromarray(generator.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        image.save(tmp_path / f"{number}.png")
        ids = np.zeros((24, 32), dtype=np.uint8)
        ids[2:10, 4:20] = 1
        if number:
            ids[12:20, 2:8], ids[14:18, 20:28] = 2, 3
        Image.fromarray(ids).save(tmp_path / "masks" / f"{number}.png")
        refs.append(ImageRef(str(number), tmp_path / f"{number}.png"))
    objects = open_objects(tmp_path / "masks", refs, ObjectSettings("ids"))
    return tuple(refs), objects


def test_a_view_has_the_frame_the_cells_and_the_boxes(drawn: tuple[tuple[ImageRef, ...], ChosenObjects]) -> None:
    views = ObjectViews(*drawn, SETTINGS, CHOICE)
    view = views[SampleKey(0, 0, 1)]
    assert view.image is not None
    assert view.image.shape == (3, 64, 64)
    assert view.extent.tolist() == [64, 48]
    assert view.masks.shape == (3, 16, 16)
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[1:5, 2:10] = True
    assert torch.equal(view.masks[0], wanted)
    assert view.boxes[0].tolist() == [8, 4, 40, 20]
    assert len(view.targets) == 6  # two of the three objects, three prompts each
    assert len(set(view.targets.tolist())) == 2
    again = views[SampleKey(0, 0, 1)]
    assert all(torch.equal(one, two) for one, two in zip(view[2:], again[2:], strict=True))


def test_mirrored_views_are_the_mirror_image(drawn: tuple[tuple[ImageRef, ...], ChosenObjects]) -> None:
    mirrored = ObjectViews(*drawn, SETTINGS, ViewChoice(64, 1, True, 4))
    plain = ObjectViews(*drawn, SETTINGS, ViewChoice(64, 1, False, 4))
    kinds = set()
    for epoch in range(6):
        one, other = mirrored[SampleKey(0, epoch, 0)], plain[SampleKey(0, epoch, 0)]
        is_same = torch.equal(one.masks, other.masks)
        kinds.add(is_same)
        assert one.image is not None
        assert other.image is not None
        if not is_same:
            assert torch.equal(one.masks, other.masks.flip(-1))  # the image fills the frame's width
            assert torch.equal(one.image, other.image.flip(-1))
            assert one.boxes[0].tolist() == [64 - 40, 4, 64 - 8, 20]
    assert kinds == {True, False}


def test_a_batch_counts_targets_through_all_masks(drawn: tuple[tuple[ImageRef, ...], ChosenObjects]) -> None:
    views = ObjectViews(*drawn, SETTINGS, CHOICE)
    single = [views[SampleKey(0, 0, index)] for index in (0, 1)]
    batch = collate_objects(single)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.image_of_mask.tolist() == [0, 1, 1, 1]
    assert batch.targets.tolist() == [0, 0, 0, *(1 + single[1].targets).tolist()]
    assert torch.equal(batch.masks[batch.targets[3:]], single[1].masks[single[1].targets])


@dataclass(frozen=True)
class _Stored:
    def read(self, stem: str, *, is_flipped: bool) -> tuple[torch.Tensor, ...] | None:
        return (torch.full((2, 4, 4), 7.0),) if stem == "1" else None


def test_stored_features_take_the_place_of_the_image(drawn: tuple[tuple[ImageRef, ...], ChosenObjects]) -> None:
    stored, plain = (ObjectViews(*drawn, SETTINGS, CHOICE, kept) for kept in (_Stored(), None))
    batch = collate_objects([stored[SampleKey(0, 0, index)] for index in (1, 0)])
    assert batch.stored_places.tolist() == [0]
    assert batch.image_places.tolist() == [1]
    assert batch.images.shape[0] == 1
    assert batch.features[0].shape == (1, 2, 4, 4)
    assert torch.equal(batch.targets, collate_objects([plain[SampleKey(0, 0, index)] for index in (1, 0)]).targets)


def test_a_thin_mask_keeps_the_cells_that_it_covers_most() -> None:
    frame = frame_of((64, 64), SETTINGS)
    thin = np.zeros((64, 64), dtype=np.bool_)
    thin[10, 5:30] = True
    cells = mask_cells(thin, frame, 4)
    assert cells.sum() > 0
    assert set(np.flatnonzero(cells.any(axis=1))) == {2}
    assert box_in_frame(thin, frame).tolist() == [5, 10, 30, 11]


def test_images_with_frames_of_their_own_make_no_batch(drawn: tuple[tuple[ImageRef, ...], ChosenObjects]) -> None:
    with pytest.raises(InputError, match="train with padding square"):
        ObjectViews(*drawn, PromptableSettings("test_resnet", 64, padding="stride"), CHOICE)


@pytest.mark.parametrize("cell_px", [4, 2, 1])
@pytest.mark.parametrize("size", [(37, 90), (200, 150), (64, 64), (5, 300)])
def test_cells_are_those_that_a_mask_covers_half(size: tuple[int, int], cell_px: int) -> None:
    generator = np.random.default_rng(0)
    mask = generator.random(size) < 0.6
    mask[: size[0] // 2, : size[1] // 2] = True
    frame = frame_of(size, SETTINGS)
    height, width = frame.scaled_size
    how = cv2.INTER_AREA if height < size[0] else cv2.INTER_LINEAR
    covered = np.zeros(frame.padded_size, dtype=np.float32)
    covered[:height, :width] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=how)
    side = 64 // cell_px
    means = covered.reshape(side, cell_px, side, cell_px).mean((1, 3))
    assert np.array_equal(mask_cells(mask, frame, cell_px), means >= min(0.5, means.max()))
