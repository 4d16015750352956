"""Masks made by anyone: every encoding, alone and settled over a folder."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.data.mask_encodings import load_mask_file, settle_encoding, trace_mask
from densessl.data.masks import MaskFolder, nearest_pixels, open_mask_folder, read_mask
from densessl.errors import InputError, MissingInputError
from densessl.structures import ImageRef

FOREGROUND = np.zeros((40, 60), dtype=np.bool_)
FOREGROUND[8:30, 10:45] = True
RAMP = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (40, 1))


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def two(low: int, high: int, dtype: type = np.uint8) -> np.ndarray:
    return np.where(FOREGROUND, high, low).astype(dtype)


def refs(*stems: str) -> list[ImageRef]:
    return [ImageRef(stem, Path("images") / f"{stem}.jpg") for stem in stems]


def folder_of(root: Path, *files: np.ndarray) -> MaskFolder:
    for number, values in enumerate(files):
        save(root / f"{number}.png", values)
    return open_mask_folder(root, refs(*(str(number) for number in range(len(files)))))


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (two(0, 1), "binary 0/1"),
        (FOREGROUND, "binary 0/1"),
        (two(0, 255), "binary 0/255"),
        (np.repeat(two(0, 255)[:, :, None], 3, axis=2), "binary 0/255"),
        (two(0, 255, np.uint16), "binary 0/255"),
        (two(0, 65535, np.uint16), "two values"),
        (two(0, 128), "two values"),
        (two(40, 90), "two values"),
        (two(0, 1).astype(np.float32), "soft float"),
    ],
)
def test_hard_masks_read_alike(tmp_path: Path, values: np.ndarray, encoding: str) -> None:
    path = save(tmp_path / ("a.tif" if values.dtype == np.float32 else "a.png"), values)
    reading = read_mask(path, size=(40, 60))
    assert reading.encoding == encoding
    np.testing.assert_array_equal(reading.foreground, FOREGROUND)
    np.testing.assert_array_equal(reading.soft, FOREGROUND.astype(np.float32))
    assert reading.soft.dtype == np.float32
    assert reading.instances is None


@pytest.mark.parametrize(
    ("values", "encoding", "step"),
    [
        (np.rint(RAMP * 255).astype(np.uint8), "soft 8-bit", 1 / 255),
        (np.rint(RAMP * 65535).astype(np.uint16), "soft 16-bit", 1 / 65535),
        (RAMP, "soft float", 1e-7),
    ],
)
def test_soft_maps_keep_their_values(tmp_path: Path, values: np.ndarray, encoding: str, step: float) -> None:
    reading = read_mask(save(tmp_path / ("a.tif" if values.dtype == np.float32 else "a.png"), values))
    assert reading.encoding == encoding
    np.testing.assert_allclose(reading.soft, RAMP, atol=step)
    np.testing.assert_array_equal(reading.foreground, reading.soft > 0.5)


def test_grey_ids_are_instances(tmp_path: Path) -> None:
    ids = two(0, 3)
    ids[0, :5] = (1, 2, 2, 255, 255)
    reading = read_mask(save(tmp_path / "a.png", ids))
    assert reading.encoding == "instances"
    assert reading.instances is not None
    assert reading.instances.dtype == np.int64
    assert reading.instances[0, :6].tolist() == [1, 2, 2, 0, 0, 0]
    assert reading.num_void_px == 2
    np.testing.assert_array_equal(reading.foreground, (ids > 0) & (ids < 255))


def test_sixteen_bit_ids_may_pass_255(tmp_path: Path) -> None:
    ids = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) // 4
    reading = read_mask(save(tmp_path / "a.png", ids))
    assert reading.encoding == "instances"
    np.testing.assert_array_equal(reading.instances, ids)
    assert reading.num_void_px == 0


def test_voc_palette_void_is_background_and_said(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.png", two(255, 15))
    reading = read_mask(tmp_path / "a.png")
    assert reading.encoding == "palette labels"
    np.testing.assert_array_equal(reading.foreground, FOREGROUND)
    assert reading.instances is not None
    assert reading.instances.max() == 15
    assert reading.num_void_px == int((~FOREGROUND).sum())
    assert "255 void, which counts as background" in open_mask_folder(tmp_path, refs("a")).describe()


def test_grey_coloured_class_of_the_voc_palette_stays_a_label(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.png", two(0, 7))  # car is drawn in the grey (128, 128, 128)
    reading = read_mask(tmp_path / "a.png")
    assert reading.instances is not None
    assert reading.instances.max() == 7


def test_grey_palette_is_greyscale(tmp_path: Path) -> None:
    image = Image.fromarray(two(1, 0))  # index 0 is white
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "a.png")
    reading = read_mask(tmp_path / "a.png")
    assert reading.encoding == "binary 0/255"
    np.testing.assert_array_equal(reading.foreground, FOREGROUND)


def test_cut_outs_are_read_by_their_alpha(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    rgba[:, :, 3] = two(0, 255)
    reading = read_mask(save(tmp_path / "a.png", rgba))
    assert reading.encoding == "alpha channel"
    np.testing.assert_array_equal(reading.foreground, FOREGROUND)


@pytest.mark.parametrize("quality", [60, 95])
def test_jpeg_masks(tmp_path: Path, quality: int) -> None:
    reading = read_mask(save(tmp_path / "a.jpg", two(0, 255), quality=quality))
    assert (reading.foreground == FOREGROUND).mean() > 0.995
    soft = read_mask(save(tmp_path / "b.jpg", np.rint(RAMP * 255).astype(np.uint8)))
    assert soft.encoding == "soft 8-bit"


def test_jpeg_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="JPEG alters small values, save masks as PNG"):
        read_mask(save(tmp_path / "a.jpg", two(0, 5)))


def test_all_background_is_legal(tmp_path: Path) -> None:
    reading = read_mask(save(tmp_path / "a.png", two(0, 0)))
    assert reading.encoding == "all background"
    assert not reading.foreground.any()


@pytest.mark.parametrize("value", [1, 255])
def test_all_foreground(tmp_path: Path, value: int) -> None:
    assert read_mask(save(tmp_path / "a.png", two(value, value))).foreground.all()


def test_another_size_names_both(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", two(0, 1))
    with pytest.raises(InputError, match=r"mask of another size: .* is 40 x 60, its image 60 x 40"):
        read_mask(path, size=(60, 40))


def test_unusable_files(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no mask file"):
        read_mask(tmp_path / "none.png")
    colours = np.zeros((4, 5, 3), dtype=np.uint8)
    colours[0, 0] = (200, 0, 0)
    with pytest.raises(InputError, match=r"shows colours .channels differ by up to 200"):
        read_mask(save(tmp_path / "a.png", colours))
    for values in ([[-1.0, 0.5]], [[np.nan, 0.5]], [[0.2, 1.5]]):
        with pytest.raises(InputError, match="0-1"):
            read_mask(save(tmp_path / "a.tif", np.array(values, dtype=np.float32)))


def test_folder_settles_what_one_file_leaves_open(tmp_path: Path) -> None:
    full = two(255, 255)
    assert folder_of(tmp_path / "binary", full, two(0, 255)).encoding == "binary 0/255"
    ids = folder_of(tmp_path / "ids", two(0, 1), two(0, 2), two(0, 0))
    assert ids.encoding == "instances"
    assert ids.read(refs("0")[0]).instances is not None
    soft = folder_of(tmp_path / "soft", two(0, 1), np.rint(RAMP * 255).astype(np.uint8))
    assert soft.encoding == "soft 8-bit"
    assert not soft.read(refs("0")[0]).foreground.any()  # 1 of 255
    two_values = folder_of(tmp_path / "two", two(0, 0), two(90, 90))
    assert two_values.encoding == "two values"
    assert two_values.read(refs("1")[0]).foreground.all()
    assert "90 foreground" in two_values.describe()
    assert folder_of(tmp_path / "empty", two(0, 0)).encoding == "all background"


def test_palette_and_grey_labels_together(tmp_path: Path) -> None:
    write_label_map(tmp_path / "0.png", two(0, 15))
    save(tmp_path / "1.png", two(255, 3))  # as SegmentationClassAug mixes them
    folder = open_mask_folder(tmp_path, refs("0", "1"))
    assert folder.encoding == "palette labels"
    np.testing.assert_array_equal(folder.read(refs("1")[0]).foreground, FOREGROUND)


def test_contradicting_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0\.png holds 0/1, but .*1\.png holds 0/255; write all in one way"):
        folder_of(tmp_path / "binary", two(0, 1), two(0, 255))
    write_label_map(tmp_path / "0.png", two(0, 15))
    save(tmp_path / "1.png", np.rint(RAMP * 255).astype(np.uint8))
    with pytest.raises(InputError, match=r"0\.png holds palette labels, but .*1\.png grey values to 255"):
        open_mask_folder(tmp_path, refs("0", "1"))
    with pytest.raises(InputError, match=r"is float, but .* is 8-bit"):
        settle_encoding(
            [
                trace_mask(load_mask_file(save(tmp_path / "s.tif", RAMP))),
                trace_mask(load_mask_file(tmp_path / "1.png")),
            ]
        )


@pytest.mark.parametrize("given", ["segmented", "segmented/masks"])
def test_maps_of_segment_are_read_as_numbers_however_few(tmp_path: Path, given: str) -> None:
    save(tmp_path / "segmented/masks/0.png", two(1, 2, np.uint16))  # two masks fill the image
    save(tmp_path / "segmented/masks/1.png", two(0, 1, np.uint16))
    (tmp_path / "segmented/segment.json").write_text("{}")
    folder = open_mask_folder(tmp_path / given, refs("0", "1"))
    assert folder.describe().endswith("read as instances (as segment.json tells)")
    filled = folder.read(refs("0")[0])
    assert filled.foreground.all()
    assert np.array_equal(filled.instances == 2, FOREGROUND)
    assert np.array_equal(folder.read(refs("1")[0]).foreground, FOREGROUND)


@pytest.mark.parametrize("given", ["proposed", "proposed/masks"])
def test_masks_of_saliency_are_read_as_it_writes_them(tmp_path: Path, given: str) -> None:
    save(tmp_path / "proposed/masks/deep/0.png", two(0, 255))
    save(tmp_path / "proposed/masks/1.png", two(255, 255))  # judged by itself it could be void everywhere
    (tmp_path / "proposed/saliency.json").write_text("{}")
    folder = open_mask_folder(tmp_path / given, refs("deep/0", "1"))
    assert folder.describe().endswith("read as binary 0/255 (as saliency.json tells)")
    assert folder.read(refs("1")[0]).foreground.all()


def test_soft_maps_of_saliency_are_no_ids(tmp_path: Path) -> None:
    """Sure maps of clean images hold 0, 255 and few values between, as maps of classes with void do."""
    values = two(0, 255)
    values[0, 0] = 24
    assert open_mask_folder(folder_of(tmp_path / "other", values).folder, refs("0")).encoding == "instances"
    save(tmp_path / "proposed/soft/0.png", values)
    (tmp_path / "proposed/saliency.json").write_text("{}")
    folder = open_mask_folder(tmp_path / "proposed/soft", refs("0"))
    assert folder.encoding == "soft 8-bit"
    assert np.allclose(folder.read(refs("0")[0]).soft, values / 255)


def test_late_outlier_does_not_pass(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, two(0, 1), two(0, 1))
    save(tmp_path / "1.png", two(0, 200))
    with pytest.raises(InputError, match=r"1\.png .*values up to 200.* does not fit .* binary 0/1"):
        folder.read(refs("1")[0])


def test_broken_file_fails_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.png", two(0, 1))
    (tmp_path / "b.png").write_bytes(b"x")
    folder = open_mask_folder(tmp_path, refs("a", "b"))
    assert (folder.encoding, folder.num_judged) == ("binary 0/1", 1)
    with pytest.raises(InputError, match="cannot be read"):
        folder.read(refs("b")[0])
    with pytest.raises(InputError, match="cannot be read"):
        open_mask_folder(tmp_path, refs("b"))


def test_nested_stems_saliency_output_and_missing(tmp_path: Path) -> None:
    save(tmp_path / "masks" / "cats" / "1.png", two(0, 1))
    save(tmp_path / "masks" / "2.png", two(0, 1))
    save(tmp_path / "soft" / "2.png", np.rint(RAMP * 255).astype(np.uint8))
    folder = open_mask_folder(tmp_path, refs("cats/1", "2", "3"))
    assert folder.missing == ("3",)
    assert folder.encoding == "binary 0/1"
    assert "masks for 2 of 3 images" in folder.describe()
    with pytest.raises(MissingInputError, match=r"image 3 has no mask .*3\.png"):
        folder.read(refs("3")[0])
    again = pickle.loads(pickle.dumps(folder))
    np.testing.assert_array_equal(again.read(refs("cats/1")[0]).foreground, FOREGROUND)


def test_photographs_are_not_taken_for_their_masks(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", two(0, 1))
    with pytest.raises(InputError, match="images without masks"):
        open_mask_folder(tmp_path, [ImageRef("a", path)])


def test_missing_folders_and_masks(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no mask folder"):
        open_mask_folder(tmp_path / "none", refs("a"))
    with pytest.raises(InputError, match=r"images without masks: none of the 4 images .a, b, c, \.\.\.. has a mask"):
        open_mask_folder(tmp_path, refs("a", "b", "c", "d"))


@pytest.mark.real_data
def test_real_saliency_maps(real_data: Path) -> None:
    root = real_data / "voc_animals"
    stems = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[:30]
    assert open_mask_folder(root / "saliency_csnet", refs(*stems)).encoding == "soft 8-bit"
    assert open_mask_folder(root / "SegmentationClass", refs(*stems)).encoding == "palette labels"


@pytest.mark.parametrize("size", [(40, 60), (13, 20), (1, 1), (40, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nearest_pixels_are_those_at_the_centres(size: tuple[int, int], dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 200, (40, 60)).astype(dtype)
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, (40, 60), strict=True))
    found = nearest_pixels(values, size)
    assert found.dtype == dtype
    assert np.array_equal(found, values[np.ix_(rows.astype(int), columns.astype(int))])


@pytest.mark.parametrize("values", [two(0, 255), two(0, 1), two(7, 90), (RAMP * 255).astype(np.uint8)])
def test_a_mask_reduced_while_it_is_read_is_the_whole_one_reduced(tmp_path: Path, values: np.ndarray) -> None:
    folder = folder_of(tmp_path, values)
    (ref,) = refs("0")
    whole, reduced = folder.read(ref, (40, 60)), folder.read(ref, (40, 60), (16, 24))
    assert np.array_equal(reduced.foreground, nearest_pixels(whole.foreground.astype(np.uint8), (16, 24)))
    assert np.array_equal(reduced.soft, nearest_pixels(whole.soft, (16, 24)))
    with pytest.raises(InputError, match=r"is 40 x 60, its image 16 x 24"):
        folder.read(ref, (16, 24), (8, 12))
