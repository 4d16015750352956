"""The journal of finished images: places, several journals, lines cut short, broken lines."""

import errno

import pytest

from densessl.errors import InputError
from densessl.saliency.record_journal import ImageRecord, append_record, drop_cut_line, index_records, open_records

PART = {"area": 3, "score": 0.5}


def read_all(folder):
    places = index_records(folder)
    with open_records(list(places.values())) as records:
        return dict(zip(places, records, strict=True))


def test_records_come_back_from_several_journals(tmp_path):
    first = ImageRecord("deep/\u00e4", 3, 4, (PART, PART))
    second = ImageRecord("b", reason="plain")
    append_record(tmp_path / "records-1-of-2.jsonl", first)
    append_record(tmp_path / "records-2-of-2.jsonl", second)
    append_record(tmp_path / "records.jsonl", ImageRecord("c", 1, 1))
    assert read_all(tmp_path) == {first.stem: first, "b": second, "c": ImageRecord("c", 1, 1)}
    assert [place.is_rejected for place in index_records(tmp_path).values()] == [False, True, False]


def test_records_can_be_sliced(tmp_path):
    records = [ImageRecord(str(number), number, 1) for number in range(4)]
    for record in records:
        append_record(tmp_path / "records.jsonl", record)
    with open_records(list(index_records(tmp_path).values())) as stored:
        assert len(stored) == 4
        assert list(stored[1::2]) == records[1::2]


def test_the_last_line_of_a_journal_and_the_journal_that_could_read_win(tmp_path):
    broken = ImageRecord("a", reason="cut off", is_unreadable=True)
    append_record(tmp_path / "records-1-of-2.jsonl", ImageRecord("a", 5, 5))
    append_record(tmp_path / "records-2-of-2.jsonl", broken)
    assert read_all(tmp_path)["a"].height == 5
    append_record(tmp_path / "records-1-of-2.jsonl", ImageRecord("a", 7, 7))
    assert read_all(tmp_path)["a"].height == 7
    (tmp_path / "records-1-of-2.jsonl").unlink()
    assert read_all(tmp_path)["a"] == broken


@pytest.mark.parametrize("tail", ['{"stem": "b", "hei', "x" * 200_000])
def test_a_line_cut_short_is_passed_over_and_dropped(tail, tmp_path):
    journal = tmp_path / "records.jsonl"
    append_record(journal, ImageRecord("a", 1, 2))
    with journal.open("a") as handle:
        handle.write(tail)
    assert list(index_records(tmp_path)) == ["a"]
    drop_cut_line(journal)
    append_record(journal, ImageRecord("b", 1, 2))
    assert list(read_all(tmp_path)) == ["a", "b"]


def test_a_journal_of_nothing_but_a_cut_line(tmp_path):
    journal = tmp_path / "records.jsonl"
    drop_cut_line(journal)
    assert not journal.exists()
    journal.write_text("half")
    drop_cut_line(journal)
    assert journal.read_bytes() == b""


BROKEN = ["nonsense", "[]", "\0\0", '{"stem": "b"}', '{"stem": "b", "annotations": [], "odd": 1}']


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_passed_over_and_its_place_named(line, tmp_path, capsys):
    journal = tmp_path / "records.jsonl"
    append_record(journal, ImageRecord("a"))
    place = journal.stat().st_size
    with journal.open("a") as handle:
        handle.write(line + "\n")
    append_record(journal, ImageRecord("c"))
    assert list(index_records(tmp_path)) == ["a", "c"]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {journal} at byte {place} holds no record of an image (")
    assert warning.endswith("does images without a record again")
    index_records(tmp_path, is_quiet=True)
    assert capsys.readouterr().err == ""


def test_many_broken_lines_cost_one_line_of_warning(tmp_path, capsys):
    (tmp_path / "records.jsonl").write_text("\n".join(BROKEN) + "\n")
    assert index_records(tmp_path) == {}
    (warning,) = capsys.readouterr().err.splitlines()
    assert "at byte 0 holds" in warning
    assert warning.endswith("(and 4 more such lines)")


def test_a_record_that_breaks_after_it_was_found(tmp_path):
    journal = tmp_path / "records.jsonl"
    append_record(journal, ImageRecord("a"))
    places = list(index_records(tmp_path).values())
    journal.write_text("nonsense\n")
    with (
        open_records(places) as records,
        pytest.raises(InputError, match=r"records\.jsonl at byte 0 holds no record.*run"),
    ):
        records[0]


def test_a_full_disk_is_told_to_the_user(tmp_path, monkeypatch):
    def is_full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "open", is_full)
    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        append_record(tmp_path / "records.jsonl", ImageRecord("a"))
