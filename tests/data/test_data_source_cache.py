"""The cache of decoded images: what it keeps, its bound, and that nothing broken ever comes out of it."""

import errno
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from densessl.data.source_cache import Source, SourceCache, source_key
from densessl.errors import InputError

SIZES = [(4, 5), (7, 3), (6, 6)]
PLACES = [20 + 4 * height * width for height, width in SIZES]


def _source(index: int, seed: int = 0) -> Source:
    generator = np.random.default_rng([seed, index])
    size = SIZES[index]
    image, masks = (
        generator.integers(0, 256, (*size, 3), dtype=np.uint8),
        generator.integers(0, 3, size, dtype=np.uint8),
    )
    return Source(image, masks)


def _cache(folder: Path, max_bytes: float = 1e6, *, version: int = 0, stems: str = "abc") -> SourceCache:
    keys = [source_key(stem, version) for stem in stems]
    cache = SourceCache(folder, list(stems), SIZES, keys, max_bytes)
    cache.prepare()
    return cache


def _same(found: Source | None, expected: Source) -> bool:
    return found is not None and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_was_written_is_read_here_and_by_the_next_run(tmp_path: Path) -> None:
    cache = _cache(tmp_path / "cache")
    assert (cache.num_kept, cache.num_bytes, cache.path.stat().st_size) == (3, sum(PLACES), sum(PLACES))
    assert all(cache.read(index) is None for index in range(3))
    for index in (2, 0):
        cache.write(index, _source(index))
    for again in (cache, _cache(tmp_path / "cache"), pickle.loads(pickle.dumps(cache))):
        assert _same(again.read(0), _source(0))
        assert again.read(1) is None
        assert _same(again.read(2), _source(2))
    image, instances, confidence = cache.read(0) or _source(1)
    assert confidence is None
    assert (image.shape, instances.shape, image.dtype) == ((4, 5, 3), (4, 5), np.uint8)
    assert image.flags.writeable


@pytest.mark.parametrize(
    ("max_bytes", "num_kept"), [(0, 0), (PLACES[0] - 1, 0), (PLACES[0], 1), (sum(PLACES) - 1, 2), (sum(PLACES), 3)]
)
def test_the_file_never_exceeds_its_bound(tmp_path: Path, max_bytes: int, num_kept: int) -> None:
    cache = _cache(tmp_path, max_bytes)
    for index in range(3):
        cache.write(index, _source(index))
    assert cache.num_kept == num_kept
    assert [cache.read(index) is not None for index in range(3)] == [index < num_kept for index in range(3)]
    assert cache.path.stat().st_size <= max_bytes


def test_another_bound_keeps_what_is_there(tmp_path: Path) -> None:
    _cache(tmp_path, PLACES[0]).write(0, _source(0))
    larger = _cache(tmp_path)
    assert _same(larger.read(0), _source(0))
    larger.write(2, _source(2))
    assert _cache(tmp_path, PLACES[0]).path.stat().st_size == PLACES[0]
    assert _same(_cache(tmp_path).read(0), _source(0))
    assert _cache(tmp_path).read(2) is None


def test_a_changed_file_is_stored_again(tmp_path: Path) -> None:
    _cache(tmp_path).write(0, _source(0))
    changed = _cache(tmp_path, version=1)
    assert changed.read(0) is None
    changed.write(0, _source(0, seed=1))
    assert _same(changed.read(0), _source(0, seed=1))
    assert _cache(tmp_path).read(0) is None


def test_an_image_of_another_size_than_planned_is_not_kept(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    cache.write(0, _source(1))
    assert cache.read(0) is None


def test_a_writer_killed_in_the_middle_leaves_an_empty_place(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; import numpy as np\n"
        "from densessl.data import source_cache\n"
        "real = source_cache._write_all\n"
        "def torn(handle, content):\n"
        "    real(handle, content[: len(content) // 2]); os.kill(os.getpid(), 9)\n"
        "source_cache._write_all = torn\n"
        "key = source_cache.source_key('a', 0)\n"
        f"cache = source_cache.SourceCache(Path(sys.argv[1]), list('abc'), {SIZES},\n"
        "    [source_cache.source_key(stem, 0) for stem in 'abc'], 1e6)\n"
        "cache.write(1, source_cache.Source(np.ones((7, 3, 3), np.uint8), np.ones((7, 3), np.uint8)))"
    )
    cache = _cache(tmp_path)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert any(cache.path.read_bytes())
    assert cache.read(1) is None
    cache.write(1, _source(1))
    assert _same(_cache(tmp_path).read(1), _source(1))


def test_two_processes_fill_one_file(tmp_path: Path) -> None:
    """Both write all images, over and over and against each other; whatever is read is whole."""
    children = [os.fork() for _ in range(2)]
    if 0 in children:
        cache = SourceCache(tmp_path, list("abc"), SIZES, [source_key(stem, 0) for stem in "abc"], 1e6)
        for turn in range(300):
            cache._is_checked = bytearray(3)
            found = cache.read(turn % 3)
            if found is not None and not _same(found, _source(turn % 3)):
                os._exit(1)
            cache.write(turn % 3, _source(turn % 3))
        os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    cache = _cache(tmp_path)
    assert all(_same(cache.read(index), _source(index)) for index in range(3))


def test_a_fork_does_not_share_the_position_of_its_parent(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    cache.write(0, _source(0))
    child = os.fork()
    if child == 0:
        before = cache._handle
        os._exit(0 if _same(cache.read(0), _source(0)) and cache._handle is not before else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_damage_is_noted_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = _cache(tmp_path)
    for index in range(3):
        cache.write(index, _source(index))
    content = bytearray(cache.path.read_bytes())
    content[PLACES[0] + 40] ^= 1
    cache.path.write_bytes(content)
    again = _cache(tmp_path)
    assert _same(again.read(0), _source(0))
    assert again.read(1) is None
    assert f"is damaged at byte {PLACES[0]}; that image is decoded and stored again" in capsys.readouterr().err
    again.write(1, _source(1))
    assert _same(_cache(tmp_path).read(1), _source(1))


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, b"\xff" * 5000])
def test_a_file_of_something_else_is_filled_anew(tmp_path: Path, content: bytes) -> None:
    path = _cache(tmp_path).path
    path.write_bytes(content)
    cache = _cache(tmp_path)
    assert cache.path == path
    assert all(cache.read(index) is None for index in range(3))
    cache.write(2, _source(2))
    assert _same(_cache(tmp_path).read(2), _source(2))


def test_a_file_cut_off_while_it_is_read_has_empty_places(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    cache.write(2, _source(2))
    os.truncate(cache.path, sum(PLACES) - 1)
    assert cache.read(2) is None
    cache.path.unlink()
    fresh = SourceCache(tmp_path, list("abc"), SIZES, [source_key(stem, 0) for stem in "abc"], 1e6)
    assert fresh.read(2) is None  # another machine, where nobody has prepared it


def test_a_full_disk_stops_the_writing_with_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = _cache(tmp_path)
    cache.write(0, _source(0))

    class Full(io.FileIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_handle", Full(str(cache.path), "r+b"))
    for index in (1, 2):
        cache.write(index, _source(index))
    assert capsys.readouterr().err.count("no more images are kept in") == 1
    assert _same(cache.read(0), _source(0))


def test_caches_of_other_images_go_where_there_is_no_room_for_both(tmp_path: Path) -> None:
    oldest, older = _cache(tmp_path, stems="xyz").path, _cache(tmp_path, stems="uvw").path
    os.utime(oldest, (1, 1))
    os.utime(older, (2, 2))
    own = _cache(tmp_path, 2 * sum(PLACES)).path
    assert [path.exists() for path in (oldest, older, own)] == [False, True, True]
    assert _cache(tmp_path, sum(PLACES)).path.exists()
    assert sorted(tmp_path.iterdir()) == [own]


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("densessl.data.source_cache.shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"may grow by 0.0 GB, but its disk has 0.0 GB free; lower training.cache_gb"):
        _cache(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot write to .*choose an output folder you may write"):
        _cache(tmp_path / "cache")


def test_a_file_in_the_place_of_the_folder_or_the_reverse_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to"):
        _cache(tmp_path / "file")
    path = _cache(tmp_path / "cache").path
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"cannot open the cache .*remove it, or give another folder as"):
        _cache(tmp_path / "cache")


def test_removing_takes_the_folder_only_where_it_is_empty(tmp_path: Path) -> None:
    cache = _cache(tmp_path / "cache")
    (tmp_path / "cache" / "note").write_text("")
    cache.remove()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["note"]
    (tmp_path / "cache" / "note").unlink()
    cache.remove()
    assert not (tmp_path / "cache").exists()


def test_the_report_says_how_much_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = _cache(tmp_path, PLACES[0])
    cache.report()
    assert capsys.readouterr().err == f"1 of 3 decoded images are kept (0.00 GB) in {cache.path}\n"


def test_a_cache_with_confidence_is_another_file_and_gives_it_back(tmp_path: Path) -> None:
    keys = [source_key(stem, 0) for stem in "abc"]
    cache = SourceCache(tmp_path, list("abc"), SIZES, keys, 1e6, has_confidence=True)
    cache.prepare()
    assert cache.num_bytes == sum(20 + 5 * height * width for height, width in SIZES)
    source = _source(1)._replace(confidence=np.arange(21, dtype=np.uint8).reshape(SIZES[1]))
    cache.write(1, source)
    for again in (cache, SourceCache(tmp_path, list("abc"), SIZES, keys, 1e6, has_confidence=True)):
        assert _same(again.read(1), source)
        assert again.read(0) is None
    assert _cache(tmp_path).path != cache.path
