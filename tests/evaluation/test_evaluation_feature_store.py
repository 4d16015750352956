"""Feature stores: what was encoded is read back, whatever stopped the process, and nothing else is read for it."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.image_folder import open_image_folder
from densessl.errors import InputError, MissingInputError
from densessl.evaluation import feature_arrays, store_writer
from densessl.evaluation.encoder_features import AutocastFeatures, FeatureEncoder
from densessl.evaluation.feature_arrays import to_float16
from densessl.evaluation.feature_store import open_feature_store
from densessl.evaluation.feature_writing import store_features
from densessl.evaluation.framing import Framing
from densessl.evaluation.prototypes import DenseFeatures
from densessl.structures import ImageRef

FRAME = Framing((16, 24))


class Encoder:
    """Colours pooled to an 8 x 8 grid of cells; counts the images that it is given."""

    def __init__(self) -> None:
        self.num_images = 0

    def __call__(self, images: torch.Tensor) -> DenseFeatures:
        self.num_images += len(images)
        return DenseFeatures(torch.nn.functional.avg_pool2d(images, 8), images.mean(1))


def _draw(root: Path, num: int = 7) -> tuple[ImageRef, ...]:
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for index in range(num):
        pixels = generator.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{index:03d}.png")
    return open_image_folder(root).images


def _of(encode: Callable[[torch.Tensor], DenseFeatures], **changes: object) -> FeatureEncoder:
    return replace(FeatureEncoder(encode, "colours", "f" * 64, "none"), **changes)  # type: ignore[arg-type]


def _spoil(ref: ImageRef) -> None:
    ref.path.write_bytes(ref.path.read_bytes()[:60])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_is_read_is_what_the_encoder_gave(num_workers: int, tmp_path: Path) -> None:
    refs = _draw(tmp_path / "images")
    direct: list[DenseFeatures] = []

    def encode(images: torch.Tensor) -> DenseFeatures:
        direct.append(Encoder()(images))
        return direct[-1]

    store = store_features(tmp_path / "store", refs, _of(encode), FRAME, batch_size=3, num_workers=num_workers)
    assert store.stems == tuple(ref.stem for ref in refs)
    assert store.sizes == tuple((20 + index, 30) for index in range(7))
    assert (len(store), store.dim, store.grid, store.has_saliency, store.rejected) == (7, 3, (2, 3), True, ())
    features, saliency = torch.cat([item.features for item in direct]), torch.cat([item.saliency for item in direct])  # type: ignore[list-item,misc]
    for index in range(7):
        dense = store.dense(index)
        assert dense.features.shape == (1, 3, 2, 3)
        assert dense.features.dtype == torch.float32
        assert torch.equal(dense.features[0], features[index].half().float())
        assert dense.saliency is not None
        assert torch.equal(dense.saliency[0], saliency[index].half().float())
        assert np.array_equal(store.pixels(index), dense.features[0].numpy())
        assert store.pixels(index).dtype == np.float32
    assert np.load(tmp_path / "store/features.npy", mmap_mode="r").shape == (7, 3, 2, 3)
    assert np.array_equal(pickle.loads(pickle.dumps(store)).pixels(4), store.pixels(4))


def test_nothing_is_computed_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = _draw(tmp_path / "images")
    first, second = Encoder(), Encoder()
    one = store_features(tmp_path / "store", refs, _of(first), FRAME)
    said = capsys.readouterr().err
    assert "features of 7 images, 3 x 2 x 3, saliency 16 x 24, float16: 0.00 GB in" in said
    assert "7 images encoded in" in said
    other = store_features(tmp_path / "store", refs, _of(second), FRAME)
    assert (first.num_images, second.num_images) == (7, 0)
    assert np.array_equal(one.pixels(6), other.pixels(6))
    assert np.array_equal(open_feature_store(tmp_path / "store").pixels(6), one.pixels(6))
    assert capsys.readouterr().err == ""


_KILLED = """
import sys, time, torch
from pathlib import Path
from densessl.data.image_folder import open_image_folder
from densessl.evaluation import store_writer
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.feature_writing import store_features
from densessl.evaluation.framing import Framing
from densessl.evaluation.prototypes import DenseFeatures

store_writer.COMMIT_SECONDS = 0.0

def encode(images):
    time.sleep(0.05)
    return DenseFeatures(torch.nn.functional.avg_pool2d(images, 8), images.mean(1))

root = Path(sys.argv[1])
encoder = FeatureEncoder(encode, "colours", "f" * 64, "none")
store_features(root / "store", open_image_folder(root / "images").images, encoder, Framing((16, 24)), batch_size=1)
"""


def test_a_killed_process_leaves_whole_features_alone(tmp_path: Path) -> None:
    refs = _draw(tmp_path / "images", 40)
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stderr=subprocess.DEVNULL)
    records, deadline = tmp_path / "store/images.npy", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if records.is_file() and records.stat().st_size and np.load(records)["is_done"].sum() >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    partial = open_feature_store(tmp_path / "store")
    assert 3 <= len(partial) < 40
    row = len(partial)  # the place of the image it was at: as if half of it had been written
    with (tmp_path / "store/features.npy").open("r+b") as handle:
        handle.seek(-(40 - row) * 3 * 2 * 3 * 2, os.SEEK_END)
        handle.write(b"\x11" * 10)
    encoder = Encoder()
    resumed = store_features(tmp_path / "store", refs, _of(encoder), FRAME)
    assert encoder.num_images == 40 - len(partial)
    whole = store_features(tmp_path / "whole", refs, _of(Encoder()), FRAME)
    assert resumed.stems == whole.stems
    for index in range(40):
        assert np.array_equal(resumed.pixels(index), whole.pixels(index))


def test_another_encoder_framing_or_image_list_is_refused(tmp_path: Path) -> None:
    refs, folder, encoder = _draw(tmp_path / "images"), tmp_path / "store", Encoder()
    store_features(folder, refs, _of(encoder), FRAME)
    other = replace(_of(encoder), fingerprint="0" * 64)
    with pytest.raises(InputError, match=r"something else \(fingerprint: 'ffff.* there, '0000.* now\); choose another"):
        store_features(folder, refs, other, FRAME)
    for changed in (Framing((24, 24)), Framing((16, 24), "crop")):
        with pytest.raises(InputError, match=r"something else \(framing:"):
            store_features(folder, refs, _of(encoder), changed)
    with pytest.raises(InputError, match=r"something else \(images: .* there, .* now; num_images: 7 there, 6 now\)"):
        store_features(folder, refs[1:], _of(encoder), FRAME)
    with pytest.raises(InputError, match=r"something else \(precision: 'fp32' there, 'bf16' now\)"):
        store_features(folder, refs, _of(encoder, precision="bf16"), FRAME)
    store_features(tmp_path / "anonymous", refs, _of(encoder, fingerprint=None), FRAME)
    with pytest.raises(InputError, match=r"encoder colours has no fingerprint by which to tell"):
        store_features(tmp_path / "anonymous", refs, _of(encoder, fingerprint=None), FRAME)


def test_a_broken_image_costs_one_line_and_is_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = _draw(tmp_path / "images")
    whole = refs[2].path.read_bytes()
    _spoil(refs[2])
    store = store_features(tmp_path / "store", refs, _of(Encoder()), FRAME, batch_size=3)
    assert [item.stem for item in store.rejected] == ["002"]
    assert "002.png" in store.rejected[0].reason
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")] == [
        f"left out 002: {store.rejected[0].reason}"
    ]
    assert store.stems == ("000", "001", "003", "004", "005", "006")
    refs[2].path.write_bytes(whole)
    encoder = Encoder()
    mended = store_features(tmp_path / "store", refs, _of(encoder), FRAME)
    assert (encoder.num_images, len(mended), mended.rejected) == (1, 7, ())
    assert np.array_equal(mended.pixels(3), store.pixels(2))


def test_an_image_that_changed_is_done_again(tmp_path: Path) -> None:
    refs, encoder = _draw(tmp_path / "images"), Encoder()
    store_features(tmp_path / "store", refs, _of(Encoder()), FRAME)
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(refs[1].path)
    _spoil(refs[4])
    store = store_features(tmp_path / "store", refs, _of(encoder), FRAME)
    assert encoder.num_images == 1
    assert "004" not in store.stems
    assert store.sizes[1] == (50, 50)
    assert np.allclose(store.pixels(1)[0], -2.1179, atol=1e-3)
    _spoil(refs[6])  # now nothing is left that could be encoded
    store = store_features(tmp_path / "store", refs, _of(encoder), FRAME)
    assert encoder.num_images == 1
    assert store.stems == ("000", "001", "002", "003", "005")
    assert [item.stem for item in store.rejected] == ["004", "006"]


def test_another_image_of_the_same_length_is_done_again(tmp_path: Path) -> None:
    refs, encoder = list(_draw(tmp_path / "images")), Encoder()
    for ref, grey in ((refs[0], 10), (refs[1], 200)):
        Image.fromarray(np.full((20, 20, 3), grey, np.uint8)).save(ref.path.with_suffix(".bmp"))
    refs[:2] = [replace(ref, path=ref.path.with_suffix(".bmp")) for ref in refs[:2]]
    store_features(tmp_path / "store", refs, _of(Encoder()), FRAME)
    shutil.copyfile(refs[1].path, refs[0].path)
    moved = [replace(ref, path=shutil.copy2(ref.path, tmp_path / ref.path.name)) for ref in refs]
    store = store_features(tmp_path / "store", moved, _of(encoder), FRAME)
    assert encoder.num_images == 1  # files that only moved are the same
    assert np.array_equal(store.pixels(0), store.pixels(1))


def test_no_image_that_can_be_used(tmp_path: Path) -> None:
    refs = _draw(tmp_path / "images", 2)
    for ref in refs:
        _spoil(ref)
    with pytest.raises(InputError, match=r"none of 2 images could be encoded; the first: .*000.png"):
        store_features(tmp_path / "store", refs, _of(Encoder()), FRAME)


def test_features_that_are_not_finite_name_the_image_and_keep_the_others(tmp_path: Path) -> None:
    refs, calls = _draw(tmp_path / "images"), []

    def encode(images: torch.Tensor) -> DenseFeatures:
        calls.append(len(images))
        features = images.clone()
        if len(calls) == 2:
            features[1, 0, 0, 0] = torch.nan
        return DenseFeatures(features)

    with pytest.raises(InputError, match=r"features of image '004' hold NaN, infinity"):
        store_features(tmp_path / "store", refs, _of(encode), FRAME, batch_size=3)
    assert open_feature_store(tmp_path / "store").stems == ("000", "001", "002", "003")


def test_features_that_change_their_shape(tmp_path: Path) -> None:
    refs, calls = _draw(tmp_path / "images"), []

    def encode(images: torch.Tensor) -> DenseFeatures:
        calls.append(1)
        return DenseFeatures(images[:, :, len(calls) :])

    with pytest.raises(InputError, match=r"image '003' have another shape .*\(3, 14, 24\).* \(.*\(3, 15, 24\)"):
        store_features(tmp_path / "store", refs, _of(encode), FRAME, batch_size=3)


def test_a_full_disk_leaves_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs, encoder = _draw(tmp_path / "images"), Encoder()
    write, rows = feature_arrays.ArrayFile.write, []

    def write_until_full(self: feature_arrays.ArrayFile, handle: object, row: int, values: np.ndarray) -> None:
        rows.append(row)
        if self.path.name == "features.npy" and row == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, handle, row, values)  # type: ignore[arg-type]

    monkeypatch.setattr(feature_arrays.ArrayFile, "write", write_until_full)
    with pytest.raises(InputError, match=r"cannot write to .*store \(No space left on device\); free some space"):
        store_features(tmp_path / "store", refs, _of(encoder), FRAME, batch_size=3)
    monkeypatch.undo()
    assert len(open_feature_store(tmp_path / "store")) == 4
    again = Encoder()
    assert len(store_features(tmp_path / "store", refs, _of(again), FRAME)) == 7
    assert again.num_images == 3


def test_a_disk_that_is_too_small_is_noticed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = _draw(tmp_path / "images")
    usage = type("Usage", (), {"free": 100})()
    monkeypatch.setattr(feature_arrays.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"the features need 0.00 GB more in .*, but its disk has 0.00 GB free"):
        store_features(tmp_path / "store", refs, _of(Encoder()), FRAME)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="no /proc to read the resident set from")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, "COMMIT_SECONDS", 0.05)
    refs, seen = _draw(tmp_path / "images", 70), []

    def encode(images: torch.Tensor) -> DenseFeatures:
        seen.append(_resident_bytes())
        return DenseFeatures(torch.ones(len(images), 256, 64, 64))  # 2 MiB each as float16

    store = store_features(tmp_path / "store", refs, _of(encode), FRAME, batch_size=2)
    assert max(seen[10:]) - max(seen[5:10]) < 40e6  # of 105 MB
    for index in range(5):
        store.pixels(index)
    before = _resident_bytes()
    for index in range(70):
        store.pixels(index)
    assert _resident_bytes() - before < 30e6


@pytest.mark.parametrize("magnitude", [1e-30, 1e-6, 1e-3, 0.07, 1.0, 3e4, 7e4, 1e9, 1e38])
def test_float16_keeps_any_magnitude(magnitude: float) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    values *= np.float32(magnitude) / np.abs(values).max()
    halves, scale = to_float16(values)
    assert np.isfinite(halves).all()
    assert (scale == 1) == (2**-4 <= magnitude <= 2**15)
    restored = halves.astype(np.float32) * np.float32(scale)
    assert np.abs(restored - values).max() <= 2.0**-11 * magnitude
    assert to_float16(np.zeros((1, 1, 1), np.float32)) == (0, 1)


def test_features_that_are_embedded_after_pooling(tmp_path: Path) -> None:
    refs = _draw(tmp_path / "images", 3)
    head = torch.nn.Conv2d(3, 5, 1)

    def project(features: torch.Tensor) -> torch.Tensor:
        maps = features if features.ndim == 4 else features[:, :, None, None]
        return head(maps) if features.ndim == 4 else head(maps).flatten(1)

    def encode(images: torch.Tensor) -> DenseFeatures:
        return DenseFeatures(torch.nn.functional.avg_pool2d(images, 8), None, project)

    store = store_features(tmp_path / "store", refs, _of(encode, project=project), FRAME)
    assert (store.dim, store.pixels(0).shape, store.dense(0).features.shape) == (5, (5, 2, 3), (1, 3, 2, 3))
    assert store.dense(0).project is project
    with pytest.raises(InputError, match=r"embedded after pooling, by the head of colours; open them with"):
        open_feature_store(tmp_path / "store")


def test_bfloat16(tmp_path: Path) -> None:
    refs = _draw(tmp_path / "images", 2)
    network = torch.nn.Conv2d(3, 4, 8, 8)
    dtypes = []

    def encode(images: torch.Tensor) -> DenseFeatures:
        features = network(images)
        dtypes.append(features.dtype)
        return DenseFeatures(features)

    fast = AutocastFeatures(encode, torch.device("cpu"))
    one = store_features(tmp_path / "fp32", refs, _of(encode), FRAME)
    other = store_features(tmp_path / "bf16", refs, _of(fast, precision="bf16"), FRAME)
    assert dtypes == [torch.float32, torch.bfloat16]
    assert np.abs(one.pixels(0) - other.pixels(0)).max() < 0.05
    assert not np.array_equal(one.pixels(0), other.pixels(0))


def test_damaged_stores(tmp_path: Path) -> None:
    refs, folder = _draw(tmp_path / "images"), tmp_path / "store"
    with pytest.raises(MissingInputError, match=r"no file .*features.json; expected the description"):
        open_feature_store(folder)
    store_features(folder, refs, _of(Encoder()), FRAME)
    content = json.loads((folder / "features.json").read_text())
    for broken in ({**content, "layout": {}}, {**content, "identity": {"framing": 3}}, {"version": 2}, []):
        (folder / "features.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"lacks a part or holds a wrong one"):
            open_feature_store(folder)
    (folder / "features.json").write_text(json.dumps({**content, "version": 9}))
    with pytest.raises(
        InputError, match=r"feature store of version 9; this one reads 2; remove it, or choose another folder"
    ):
        open_feature_store(folder)
    (folder / "features.json").write_text(json.dumps(content))
    (folder / "stems.json").write_text("[]")
    with pytest.raises(InputError, match=r"stems.json does not belong to features.json"):
        open_feature_store(folder)
    (folder / "stems.json").write_text(json.dumps([ref.stem for ref in refs]))
    with (folder / "features.npy").open("r+b") as handle:
        handle.truncate(200)
    with pytest.raises(InputError, match=r"features.npy has 200 bytes instead of 380"):
        open_feature_store(folder)
    with pytest.raises(InputError, match=r"features.npy has 200 bytes instead of 380"):
        store_features(folder, refs, _of(Encoder()), FRAME)
    (folder / "features.npy").unlink()
    with pytest.raises(InputError, match=r"features.npy is missing; remove the folder"):
        open_feature_store(folder)
