"""Listing and reading images of every kind, and refusing every kind of broken one."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from densessl.data.decoding import decode_image, image_size
from densessl.data.images import find_by_stem, list_images, read_image
from densessl.errors import InputError, MissingInputError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)  # non-square


def save(path: Path, values: np.ndarray = COLOURS, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def test_list_is_nested_sorted_and_skips_hidden(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a.b.webp", ".hidden.png", ".git/c.png", "a/notes.bmp"):
        save(tmp_path / name, format=None if "JPG" not in name else "JPEG")
    (tmp_path / "readme.txt").write_text("x")
    refs = list_images(tmp_path)
    assert [ref.stem for ref in refs] == ["a.b", "a/notes", "a/z", "b"]
    assert refs[-1].path == tmp_path / "b.JPG"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "x.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    assert [ref.stem for ref in list_images(root)] == ["link/x"]


def test_same_stem_names_both_files(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png have the same name"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="rename or remove one"):
        find_by_stem(tmp_path, ["a"])


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no image folder"):
        list_images(tmp_path / "none")
    with pytest.raises(InputError, match=r"\.jpg, \.jpeg, \.jfif, \.png"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="is a file, not a folder"):
        list_images(save(tmp_path / "a.png"))


def test_find_by_stem_leaves_out_the_absent(tmp_path: Path) -> None:
    path = save(tmp_path / "x" / "a.TIF", format="TIFF")
    assert find_by_stem(tmp_path, ["x/a", "x/b", "y/c"]) == {"x/a": path}


def test_png_comes_back_exactly_and_writable(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png"))
    np.testing.assert_array_equal(image, COLOURS)
    assert image.dtype == np.uint8
    assert image.flags.writeable


def test_jpeg_equals_opencv(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", cv2.resize(COLOURS, (90, 60)))
    assert np.abs(read_image(path).astype(int) - cv2.imread(str(path))[:, :, ::-1]).max() <= 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    plain = np.zeros((16, 32, 3), dtype=np.uint8)
    plain[:8, :8] = 250  # a light corner, top left of the stored pixels
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", plain, exif=exif)
    image = read_image(path)
    assert image.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    assert image_size(path) == image.shape[:2]
    row = 0 if orientation in (1, 2, 5, 6) else -1
    column = 0 if orientation in (1, 4, 5, 8) else -1
    assert image[row, column, 0] > 200
    assert image[-1 - row, -1 - column, 0] < 50


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_at_reduced_size_as_they_are_shown(tmp_path: Path, suffix: str, orientation: int) -> None:
    """A picture that is different in each corner; JPEGs are decoded at a fraction of their size."""
    ramp = np.add.outer(np.linspace(0, 120, 240), np.linspace(0, 60, 330))
    picture = np.repeat(ramp[:, :, None], 3, axis=2).astype(np.uint8)
    picture[:60, :80, 0] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", picture, exif=exif)
    whole = read_image(path)
    height, width = whole.shape[0] // 5, whole.shape[1] // 5
    reduced = read_image(path, (height, width))
    assert (reduced.shape, reduced.dtype) == ((height, width, 3), np.uint8)
    expected = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - expected).mean() < 1.5
    assert np.array_equal(read_image(path, whole.shape[:2]), whole)
    decoded = decode_image(path, at_least=(height, width)).size
    assert decoded == ((-(-whole.shape[1] // 4), -(-whole.shape[0] // 4)) if suffix == "jpg" else whole.shape[1::-1])


def test_reduced_images_of_other_modes(tmp_path: Path) -> None:
    ramp = np.add.outer(np.linspace(0, 60000, 64), np.linspace(0, 5000, 96))
    for values, options in (
        (ramp.astype(np.uint16), {}),
        (np.dstack([(ramp / 256).astype(np.uint8)] * 4), {}),
        ((ramp / 256).astype(np.uint8), {}),
    ):
        path = save(tmp_path / "a.png", values, **options)
        expected = cv2.resize(read_image(path), (24, 16), interpolation=cv2.INTER_AREA)
        assert np.array_equal(read_image(path, (16, 24)), expected)
    save(tmp_path / "grey.jpg", (ramp / 256).astype(np.uint8))
    Image.fromarray(np.dstack([(ramp / 256).astype(np.uint8)] * 4), "CMYK").save(tmp_path / "cmyk.jpg")
    for name in ("grey", "cmyk"):
        reduced, whole = (read_image(tmp_path / f"{name}.jpg", size) for size in ((16, 24), None))
        expected = cv2.resize(whole, (24, 16), interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.astype(int) - expected).mean() < 2


def test_exif_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + content))
    data = path.read_bytes()
    path.write_bytes(data[:-12] + chunk + data[-12:])
    assert image_size(path) == (9, 6) == read_image(path).shape[:2]


def test_grey_kinds(tmp_path: Path) -> None:
    ramp = np.arange(0, 256, 5, dtype=np.uint8).reshape(4, 13)
    expected = np.repeat(ramp[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_image(save(tmp_path / "l.png", ramp)), expected)
    sixteen = ramp.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image(save(tmp_path / "i.png", sixteen)), expected)
    np.testing.assert_array_equal(read_image(save(tmp_path / "i.tif", sixteen)), expected)
    np.testing.assert_array_equal(read_image(save(tmp_path / "f.tif", ramp / np.float32(255))), expected)
    np.testing.assert_array_equal(read_image(save(tmp_path / "f255.tif", ramp.astype(np.float32))), expected)
    one = read_image(save(tmp_path / "1.png", ramp > 100))
    np.testing.assert_array_equal(one[:, :, 0], np.where(ramp > 100, 255, 0))


def test_twelve_bit_samples_fill_the_range(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", np.array([[0, 4095, 2048]], dtype=np.uint16)))
    assert image[0, :, 0].tolist() == [0, 255, 128]  # 2048 * 255 / 4095 = 127.53


@pytest.mark.parametrize("values", [[-1.0, 0.5], [np.nan, 0.5], [0.0, 70000.0], [0.0, np.inf]])
def test_impossible_float_samples(tmp_path: Path, values: list[float]) -> None:
    path = save(tmp_path / "a.tif", np.array([values], dtype=np.float32))
    with pytest.raises(InputError, match="must be finite and lie in 0-65535"):
        read_image(path)


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[:, 1] = (200, 0, 0, 255)
    rgba[:, 2] = (0, 0, 0, 128)
    image = read_image(save(tmp_path / "a.png", rgba))
    assert image[0].tolist() == [[255, 255, 255], [200, 0, 0], [127, 127, 127]]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    palette.putpalette([9, 9, 9, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("mode", ["CMYK", "LA", "P", "YCbCr"])
def test_other_colour_modes(tmp_path: Path, mode: str) -> None:
    grey = Image.new("RGB", (5, 4), (90, 90, 90)).convert(mode, palette=Image.Palette.ADAPTIVE)
    path = tmp_path / ("a.png" if mode in ("LA", "P") else "a.tif")
    grey.save(path)
    image = read_image(path)
    assert image.shape == (4, 5, 3)
    assert np.abs(image.astype(int) - 90).max() <= 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_truncated_at_any_point(tmp_path: Path, suffix: str) -> None:
    data = save(tmp_path / f"whole.{suffix}", cv2.resize(COLOURS, (90, 60))).read_bytes()
    path = tmp_path / f"a.{suffix}"
    for share in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match="copy it again, convert it or remove it"):
            read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_raise_nothing_else(tmp_path: Path, suffix: str) -> None:
    data = save(tmp_path / f"whole.{suffix}").read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / f"a.{suffix}"
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 6):
            damaged[position] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        for read in (read_image, image_size):
            try:
                result = read(path)
            except InputError:
                continue
            assert len(result) >= 1  # damage that goes unnoticed still gives an image, or its size


def test_empty_missing_folder_and_text(tmp_path: Path) -> None:
    empty = tmp_path / "a.jpg"
    empty.touch()
    with pytest.raises(InputError, match=r"empty .0 bytes."):
        read_image(empty)
    with pytest.raises(MissingInputError, match=r"no image file .*none\.jpg"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    empty.write_text("<html>not found</html>")
    with pytest.raises(InputError, match="not one of the formats JPEG"):
        read_image(empty)


@pytest.mark.parametrize("side", [13_000, 60_000])
@pytest.mark.filterwarnings("ignore")
def test_decompression_bombs(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match="150,000,000"):
        read_image(path)
    with pytest.raises(InputError, match="150,000,000"):
        image_size(path)


def test_size_needs_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert image_size(path) == (6, 9)


@pytest.mark.real_data
def test_real_photographs(real_data: Path) -> None:
    for ref in list_images(real_data / "tiny_coco" / "val2017")[:10]:
        assert read_image(ref.path).shape[:2] == image_size(ref.path)
