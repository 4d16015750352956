"""Embedded images in parts: a call that was stopped embeds what is left, and gives what one call gives."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation import embedded_parts
from densessl.evaluation.embedded_parts import Embedded, embed_in_parts, remove_parts
from densessl.evaluation.extraction import EmbeddedImage
from densessl.structures import ImageRef, Rejection

IMAGES = tuple(ImageRef(f"image_{number}", Path(f"image_{number}.png")) for number in range(10))
STATES = tuple(f"state of {ref.stem}" for ref in IMAGES)
IDENTITY = {"encoder": "one", "image_size_px": [32, 32]}
BATCH_SIZE = 2


class Stopped(Exception):
    pass


class Embedder:
    """Embeds images one by one, the fourth not at all, and stops before the image `stop`; remembers what it did."""

    def __init__(self, stop: str | None = None, pixels: bool = False) -> None:
        self.stop, self.pixels = stop, pixels
        self.done: list[str] = []

    def __call__(self, refs: Sequence[ImageRef]) -> Iterator[Embedded]:
        for ref in refs:
            if ref.stem == self.stop:
                raise Stopped
            self.done.append(ref.stem)
            number = int(ref.stem[-1])
            if number == 3:
                yield Rejection(ref.stem, "no mask")
                continue
            rng = np.random.default_rng(number)
            num_masks = 0 if self.pixels else number % 4
            yield EmbeddedImage(
                ref.stem,
                rng.normal(size=(num_masks, 5)).astype(np.float32),
                rng.random(num_masks) > 0.3,
                b"" if self.pixels else bytes(range(number)),
                rng.normal(size=(5, 2, 3)).astype(np.float16) if self.pixels else None,
                (20 + number, 30),
            )


@pytest.fixture(autouse=True)
def _every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_parts, "PART_SECONDS", 0.0)


def embed(
    folder: Path, embedder: Embedder, states: Sequence[str] = STATES, identity: dict = IDENTITY
) -> list[Embedded]:
    return list(embed_in_parts(folder, identity, IMAGES, states, embedder, BATCH_SIZE))


def stop_at(folder: Path, stem: str, pixels: bool = False) -> None:
    with pytest.raises(Stopped):
        embed(folder, Embedder(stem, pixels))


def check_same(found: Sequence[Embedded], wanted: Sequence[Embedded]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert type(one) is type(other)
        assert one.stem == other.stem
        if isinstance(one, EmbeddedImage) and isinstance(other, EmbeddedImage):
            assert (one.instances, one.size) == (other.instances, other.size)
            for name in ("vectors", "has_prototype", "features"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        else:
            assert one == other


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("stop", [1, 4, 7, 9])
def test_goes_on_at_a_batch_and_gives_the_same(tmp_path: Path, stop: int, pixels: bool) -> None:
    stop_at(tmp_path, f"image_{stop}", pixels)
    second = Embedder(pixels=pixels)
    found = embed(tmp_path, second)
    left = [ref.stem for ref in IMAGES[stop // BATCH_SIZE * BATCH_SIZE :]]
    assert sorted(second.done) == sorted({*left, "image_3"})  # which had been left out
    check_same(found, list(Embedder(pixels=pixels)(IMAGES)))


def test_stopped_again_and_again(tmp_path: Path) -> None:
    for stop in (3, 5, 8):
        stop_at(tmp_path, f"image_{stop}")
    last = Embedder()
    check_same(embed(tmp_path, last), list(Embedder()(IMAGES)))
    assert sorted(last.done) == ["image_3", "image_8", "image_9"]  # the one left out, and those after the last stop


def test_an_image_that_changed_is_embedded_again(tmp_path: Path) -> None:
    embed(tmp_path, Embedder())
    again = Embedder()
    embed(tmp_path, again, states=[*STATES[:4], "changed", *STATES[5:]])
    assert again.done == ["image_3", "image_4"]


def test_what_was_left_out_is_tried_again(tmp_path: Path) -> None:
    class Mended(Embedder):
        def __call__(self, refs: Sequence[ImageRef]) -> Iterator[Embedded]:
            for item in super().__call__(refs):
                vectors, nothing = np.ones((1, 5), np.float32), np.ones(1, bool)
                is_left_out = isinstance(item, Rejection)
                yield EmbeddedImage(item.stem, vectors, nothing, b"x", None, (4, 4)) if is_left_out else item

    stop_at(tmp_path, "image_7")
    found = embed(tmp_path, Mended())
    assert [item.stem for item in found] == [ref.stem for ref in IMAGES]
    assert not any(isinstance(item, Rejection) for item in found)


def test_parts_are_written_by_their_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_parts, "PART_SECONDS", 1e9)
    monkeypatch.setattr(embedded_parts, "PART_BYTES", 100)
    results = embed_in_parts(tmp_path, IDENTITY, IMAGES, STATES, Embedder(pixels=True), BATCH_SIZE)
    for _ in range(6):
        next(results)
    assert list(tmp_path.glob("*.npz"))
    results.close()


def test_parts_of_another_identity_are_not_used(tmp_path: Path) -> None:
    embed(tmp_path, Embedder())
    again = Embedder()
    embed(tmp_path, again, identity={**IDENTITY, "encoder": "another"})
    assert len(again.done) == len(IMAGES)


def test_a_damaged_part_is_embedded_again(tmp_path: Path) -> None:
    embed(tmp_path, Embedder())
    part = sorted(tmp_path.glob("*.npz"))[1]
    part.write_bytes(part.read_bytes()[:100])
    again = Embedder()
    check_same(embed(tmp_path, again), list(Embedder()(IMAGES)))
    assert again.done == ["image_2", "image_3"]  # both, in one batch


def test_a_folder_of_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.npz").write_bytes(b"mine")
    with pytest.raises(InputError, match="did not begin it"):
        embed(tmp_path, Embedder())
    remove_parts(tmp_path)
    assert (tmp_path / "notes.npz").read_bytes() == b"mine"


def test_parts_are_removed_when_they_have_served(tmp_path: Path) -> None:
    embed(tmp_path / "parts", Embedder())
    remove_parts(tmp_path / "parts")
    assert list(tmp_path.iterdir()) == []


def test_parts_are_written_while_it_goes_on(tmp_path: Path) -> None:
    results = embed_in_parts(tmp_path, IDENTITY, IMAGES, STATES, Embedder(), BATCH_SIZE)
    for _ in range(5):
        next(results)
    assert len(list(tmp_path.glob("*.npz"))) == 2  # what a kill at this point would leave
    results.close()
