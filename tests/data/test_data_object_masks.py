"""Objects are found in proposals, COCO files, id maps and masks, within the areas that were asked for."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths

from densessl.data.object_masks import ObjectSettings, open_coco_objects, open_objects
from densessl.errors import InputError, MissingInputError
from densessl.structures import ImageRef, MaskArray

SIZE = (20, 30)
REF = ImageRef("a/one", Path("a/one.png"))
ALL = ObjectSettings(min_area=0.0, max_area=1.0)


def _box(top: int, left: int, bottom: int, right: int) -> MaskArray:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


WHOLE, PART, OTHER = _box(2, 2, 18, 14), _box(4, 4, 10, 10), _box(5, 20, 9, 26)


def _rle(mask: MaskArray) -> dict[str, object]:
    encoded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}


def _coco(folder: Path, image: dict[str, object], masks: list[MaskArray], name: str = "objects.json") -> Path:
    annotations = [
        {"id": number, "image_id": 7, "category_id": 1, "segmentation": _rle(mask), "iscrowd": 0}
        for number, mask in enumerate(masks, start=1)
    ]
    crowd = {"id": 99, "image_id": 7, "category_id": 1, "segmentation": _rle(WHOLE), "iscrowd": 1}
    content = {
        "images": [{"id": 7, "height": SIZE[0], "width": SIZE[1], **image}],
        "annotations": [*annotations, crowd],
    }
    (folder / name).write_text(json.dumps(content))
    return folder / name


def _map(folder: Path, ids: np.ndarray, *, is_palette: bool) -> Path:
    (folder / "a").mkdir(parents=True)
    image = Image.fromarray(ids.astype(np.uint8), "P" if is_palette else "L")
    if is_palette:
        image.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
    image.save(folder / "a" / "one.png")
    return folder


def _same(found: tuple[MaskArray, ...], wanted: list[MaskArray]) -> bool:
    return len(found) == len(wanted) and all(np.array_equal(one, two) for one, two in zip(found, wanted, strict=True))


def test_annotations_that_belong_to_no_image_or_have_no_mask(tmp_path: Path) -> None:
    path = _coco(tmp_path, {"file_name": "a/one.png"}, [WHOLE])
    content = json.loads(path.read_text())
    content["annotations"].append({"id": 5, "image_id": 777, "segmentation": _rle(WHOLE)})
    path.write_text(json.dumps(content))
    assert len(open_coco_objects(path, [ImageRef("a/one", tmp_path)]).read(ImageRef("a/one", tmp_path), SIZE)) == 1
    content["annotations"].append({"id": 6, "image_id": 7, "bbox": [0, 0, 3, 3]})
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"annotation 6 of .* has no segmentation, only a box or nothing"):
        open_coco_objects(path, [ImageRef("a/one", tmp_path)])


def test_a_coco_file_gives_overlapping_objects_largest_first_and_no_crowds(tmp_path: Path) -> None:
    path = _coco(tmp_path, {"file_name": "a/one.jpg"}, [PART, WHOLE, OTHER])
    assert _same(open_objects(path, [REF], ALL).read(REF, SIZE), [WHOLE, PART, OTHER])


def test_a_proposals_folder_is_known_by_its_list_and_its_stems(tmp_path: Path) -> None:
    _coco(tmp_path, {"file_name": "masks/a/one.png", "stem": "a/one"}, [OTHER], "proposals.json")
    objects = open_objects(tmp_path, [REF], ALL)
    assert _same(objects.read(REF, SIZE), [OTHER])
    assert objects.read(ImageRef("a/two", Path("a/two.png")), SIZE) == ()
    assert "proposals.json" in objects.source.describe()
    assert _same(pickle.loads(pickle.dumps(objects)).read(REF, SIZE), [OTHER])


def test_maps_of_classes_are_cut_into_connected_parts_and_void_is_none(tmp_path: Path) -> None:
    classes = np.where(_box(2, 2, 8, 8) | _box(12, 12, 18, 20), 5, 0)
    classes[_box(2, 20, 6, 26)] = 3
    classes[_box(10, 0, 11, 30)] = 255
    folder = _map(tmp_path / "SegmentationClass", classes, is_palette=True)
    found = open_objects(folder, [REF], ALL).read(REF, SIZE)
    assert _same(found, [_box(12, 12, 18, 20), _box(2, 2, 8, 8), _box(2, 20, 6, 26)])


def test_maps_of_instances_keep_the_pieces_of_an_object_together(tmp_path: Path) -> None:
    split = _box(2, 2, 8, 8) | _box(12, 12, 18, 20)
    folder = _map(tmp_path / "SegmentationObject", np.where(split, 2, 0), is_palette=True)
    assert _same(open_objects(folder, [REF], ALL).read(REF, SIZE), [split])
    connected = ObjectSettings("connected", 0.0, 1.0)
    assert len(open_objects(folder, [REF], connected).read(REF, SIZE)) == 2


def test_binary_masks_are_cut_into_connected_parts(tmp_path: Path) -> None:
    folder = _map(tmp_path / "masks", np.where(WHOLE | OTHER, 255, 0), is_palette=False)
    assert _same(open_objects(folder, [REF], ALL).read(REF, SIZE), [WHOLE, OTHER])


def test_areas_bound_the_objects(tmp_path: Path) -> None:
    path = _coco(tmp_path, {"file_name": "a/one.jpg"}, [WHOLE, PART, OTHER])
    num_pixels = SIZE[0] * SIZE[1]
    chosen = ObjectSettings(min_area=PART.sum() / num_pixels, max_area=(WHOLE.sum() - 1) / num_pixels)
    assert _same(open_objects(path, [REF], chosen).read(REF, SIZE), [PART])
    with pytest.raises(InputError, match=r"min_area 0.5 and objects.max_area 0.5"):
        ObjectSettings(min_area=0.5, max_area=0.5)


def test_faults_are_told(tmp_path: Path) -> None:
    path = _coco(tmp_path, {"file_name": "a/one.jpg"}, [WHOLE])
    objects = open_objects(path, [REF], ALL)
    with pytest.raises(InputError, match=r"describes image a/one as 20 x 30, but it is 30 x 20"):
        objects.read(REF, (30, 20))
    with pytest.raises(MissingInputError, match="describes none of the 1 images"):
        open_objects(path, [ImageRef("b", Path("b.png"))], ALL)
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(InputError, match="not in the COCO instances format"):
        open_objects(tmp_path / "other.json", [REF], ALL)
    with pytest.raises(MissingInputError, match="no mask folder"):
        open_objects(tmp_path / "nowhere", [REF], ALL)


def test_ids_of_masks_with_one_object_are_taken_whole(tmp_path: Path) -> None:
    two_pieces = np.zeros(SIZE)
    two_pieces[0, 0] = two_pieces[-1, -1] = 255
    folder = _map(tmp_path, two_pieces, is_palette=False)
    ref = ImageRef("a/one", tmp_path)
    for parts, num in (("ids", 1), ("connected", 2)):
        settings = ObjectSettings(parts=parts, min_area=0)  # type: ignore[arg-type]
        assert len(open_objects(folder, [ref], settings).read(ref, SIZE)) == num
