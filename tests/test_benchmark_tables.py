"""Tables rendered from rows: nothing that was measured is lost, and long texts stand once."""

from typing import Any

from benchmarks.promptable_tables import objects_table
from benchmarks.rows import Footnotes


def test_rows_that_differ_in_one_choice_alone_all_stay() -> None:
    choices: list[dict[str, Any]] = [
        {},
        {"select": "fitting"},
        {"mirrored": True},
        {"first_click": "anywhere"},
        {"refine": "grabcut"},
    ]
    table = objects_table([_row(click_1=0.5 + place / 100, **choice) for place, choice in enumerate(choices)])
    assert [float(line.split(" | ")[2].split(" ± ")[0]) for line in _lines(table)] == [0.54, 0.53, 0.52, 0.51, 0.5]
    assert _lines(table)[2].split(" | ")[1] == "a model; mirrored"


def test_the_newer_of_two_rows_of_one_choice_stays() -> None:
    table = objects_table([_row(click_1=0.9), _row(click_1=0.4)])
    assert len(_lines(table)) == 1
    assert "0.400 ± 0.010" in table
    assert "0.900" not in table


def test_rows_stand_by_data_and_then_by_the_first_click() -> None:
    rows = [_row(data="b", click_1=0.3), _row(data="a", click_1=0.1), _row(data="b", click_1=0.6, mirrored=True)]
    assert [line.split(" | ")[0] for line in _lines(objects_table(rows))] == ["| a val", "| b val", "| b val"]
    assert "0.600" in _lines(objects_table(rows))[1]


def test_labels_stand_once_below_the_table() -> None:
    rows = [_row(), _row(mirrored=True), _row(method="another", supervision="drawn by people")]
    table = objects_table(rows)
    assert table.count("a long history") == 1
    assert [line.split(" | ")[-2] for line in _lines(table)] == ["a", "a", "b"]
    assert "- a: a long history\n- b: drawn by people\n" in table


def test_footnotes_go_on_after_z() -> None:
    notes = Footnotes()
    marks = [notes.mark(str(number)) for number in range(54)]
    assert marks[:2] + marks[25:28] + marks[51:] == ["a", "b", "z", "aa", "ab", "az", "ba", "bb"]
    assert notes.mark("0") == "a"


def _row(click_1: float = 0.5, **changed: Any) -> dict[str, Any]:
    row = {"data": "voc_animals", "split": "val", "method": "a model", "supervision": "a long history"}
    scores = {"click_1": click_1, "click_3": 0.6, "click_5": 0.7, "box": 0.7}
    environment = {"hardware": {"device": "a machine", "cores": 2}, "date": "2026-01-01"}
    return {**row, **scores, **{f"{name}_error": 0.01 for name in scores}, "num_objects": 4, **environment, **changed}


def _lines(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("| ")][1:]
