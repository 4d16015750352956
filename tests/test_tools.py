"""The scripts in tools/: each is its command and adds nothing."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from densessl.command_line import COMMANDS

TOOLS = Path(__file__).parents[1] / "tools"


def test_every_command_has_its_script() -> None:
    assert {path.stem for path in TOOLS.glob("*.py")} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_script_is_its_command(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"tools/{command}.py", "--help"])
    with pytest.raises(SystemExit) as exit_status:
        runpy.run_path(str(TOOLS / f"{command}.py"), run_name="__main__")
    assert exit_status.value.code == 0
    assert f"usage: python -m densessl {command} " in capsys.readouterr().out
    assert sys.argv[1:] == [command, "--help"]  # what run.json records as the command


def test_importing_a_script_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(TOOLS / "demo.py"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow  # a fresh interpreter imports torch; the test above does the same within this one
def test_as_a_program(tmp_path: Path) -> None:
    words = [sys.executable, str(TOOLS / "pretrain.py"), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--training.learning_rate" in done.stdout
