"""Arguments from Python: which text is made a path, and which words are refused."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from densessl.command_line import COMMANDS, stage_function
from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.saliency_metrics import saliency_metrics
from densessl.errors import InputError, MissingInputError
from densessl.promptable.mask_map import MapSettings


@checked_arguments
def echo(out: Path, images: Path | None = None, name: str = "a", *, file: Path | None = None) -> list[object]:
    return [out, images, name, file]


def test_text_becomes_a_path() -> None:
    assert echo("out", "in", "name", file="f") == [Path("out"), Path("in"), "name", Path("f")]  # type: ignore[arg-type]
    assert echo(Path("out")) == [Path("out"), None, "a", None]
    assert list(inspect.signature(echo).parameters) == ["out", "images", "name", "file"]


@checked_arguments
def choose(kind: Literal["ids", "auto"] = "auto", stride: Literal[8, 16] | None = None) -> tuple[object, object]:
    return kind, stride


def test_a_word_that_a_setting_does_not_know_is_refused() -> None:
    assert choose() == ("auto", None)
    assert choose("ids", stride=16) == ("ids", 16)
    assert choose(stride=None) == ("auto", None)
    with pytest.raises(InputError, match="kind is 'id'; it must be one of ids, auto"):
        choose("id")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="stride is 12; it must be one of 8, 16"):
        choose(stride=12)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Drawing:
    map: MapSettings | None = MapSettings()


@checked_arguments
def map_masks(settings: MapSettings = MapSettings(), drawing: Drawing = Drawing()) -> str:
    return settings.overlap


def test_so_is_one_in_a_group_of_settings() -> None:
    assert map_masks() == "whole"
    assert map_masks(MapSettings("part"), drawing=Drawing(None)) == "part"
    with pytest.raises(InputError, match=r"settings\.overlap is 'largest'; it must be one of whole, part"):
        map_masks(MapSettings("largest"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"drawing\.map\.overlap is 'smallest'"):
        map_masks(drawing=Drawing(MapSettings("smallest")))  # type: ignore[arg-type]


def test_wrong_arguments_are_told_as_usual() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'out'"):
        echo()  # type: ignore[call-arg]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_text(command: str) -> None:
    assert stage_function(command).__wrapped__.__module__ == f"densessl.commands.{command}"  # type: ignore[attr-defined]


def test_a_missing_folder_is_told_by_name() -> None:
    with pytest.raises(MissingInputError, match="nor_such"):
        saliency_metrics("no_such", labels="nor_such")  # type: ignore[arg-type]
