"""The command line: overview, help, config files, flags, and which exit status goes with which fault."""

import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from densessl import __version__, command_line
from densessl.command_line import COMMANDS, build_parser, load_yaml_strictly, main, stage_function
from densessl.commands.classes import parse_classes
from densessl.errors import InputError


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int | str | None, str, str]:
    """Call the command line; returns exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as exit_status:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return exit_status.value.code, captured.out, captured.err


def parsed(command: str, *words: object) -> Any:
    """Return the values that a command's parser makes of these words."""
    return build_parser(command, stage_function(command)).parse_args([str(word) for word in words])


def config_file(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for name, summary in COMMANDS.items():
        assert f"  {name} " in out
        assert summary in out
    assert run(capsys, "-h")[:2] == (0, out)
    assert run(capsys)[:2] == (2, out)  # no command is wrong usage


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"densessl {__version__}\n", "")


def test_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "prtrain", "--out", "x")
    assert (status, out) == (2, "")
    assert "unknown command 'prtrain'" in err
    assert all(name in err for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_every_parameter(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    stage = stage_function(command)
    status, out, err = run(capsys, command, "--help")
    assert (status, err) == (0, "")
    assert f"usage: python -m densessl {command} [--config FILE]" in out
    texts = {action.dest: action.help for action in build_parser(command, stage)._actions}
    for name in setting_names(stage):
        assert f"--{name}" in out
        assert len(texts[name] or "") > 5, f"--{name} of {command} has no help text"
    first_words = (stage.__doc__ or "").split()[:4]
    assert " ".join(first_words) in " ".join(out.split())


def setting_names(stage: Any) -> list[str]:
    """Return the names of a stage's parameters, those of settings classes as "section.name"."""
    hints, names = get_type_hints(stage), []
    for name in inspect.signature(stage).parameters:
        if is_dataclass(hints[name]):
            names += [f"{name}.{field.name}" for field in fields(hints[name])]
        else:
            names.append(name)
    return names


def test_as_a_program_without_heavy_imports() -> None:
    done = subprocess.run([sys.executable, "-m", "densessl", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pretrain" in done.stdout
    code = "import sys, densessl.command_line; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "arguments are required: out"),
        (("--out", "x", "--epochs", "3"), "--epochs"),
        (("--out", "x", "--training.epochs", "many"), "training.epochs"),
        (("--out", "x", "--training.optimizer", "adm"), "'sgd', 'adamw'"),
        (("--out", "x", "--resume", "maybe"), "resume"),
        (("--out", "x", "--config", "nowhere.yaml"), "File does not exist"),
        (("--out", "x", "--config"), "--config"),
        (("--out", "x", "stray"), "stray"),
    ],
)
def test_wrong_usage_exits_with_2(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "pretrain", *words)
    assert (status, out) == (2, "")
    assert message in err
    assert "`python -m densessl pretrain --help` lists every flag" in err
    assert "Traceback" not in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "flag", "answer"),
    [
        ("pretrain", "--trainin.epochs", "did you mean training.epochs?"),
        ("pretrain", "--encoder", "did you mean saliency.encoder or model.encoder?"),
        ("cluster", "--image-size", "did you mean image_size?"),
        ("saliency", "--metod", "did you mean method?"),
        ("saliency", "--confg", "did you mean config?"),
        ("saliency", "--zzz", "--zzz 1\n"),
    ],
)
def test_a_mistyped_flag_is_answered_with_the_setting(
    command: str, flag: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, command, flag, "1", "--out", "x")
    assert status == 2
    assert answer in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3\n", "'epochs' is not accepted; did you mean training.epochs?"),
        ("training:\n  epochz: 3\n", "'epochz'; did you mean training.epochs?"),
        ("trainings:\n  epochs: 3\n", "'trainings.epochs' is not accepted; did you mean training.epochs?"),
        ("colour: red\n", "'colour' is not accepted\n"),
        ("training:\n  epochs: three\n", "three"),
        ("training:\n  epochs: 2.5\n", "2.5"),
        ("views:\n  flip: [1]\n", "views.flip"),
        ("seed: 1\nsplit: val\nseed: 2\n", "key 'seed' is given twice (line 3); keep one"),
        ("training:\n  epochs: 1\n  seed: 0\n  epochs: 2\n", "key 'epochs' is given twice (line 4); keep one"),
        ("training: {epochs: 1}\ntraining: {epochs: 1}\n", "key 'training' is given twice (line 2); keep one"),
        ("training: [1\n", "expected ',' or ']'"),
        ("- 1\n", "Unexpected config"),
    ],
)
def test_faulty_config_files_exit_with_2(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, text)
    status, out, err = run(capsys, "pretrain", "--config", path, "--out", tmp_path / "run")
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_config_file_fills_in_settings(tmp_path: Path) -> None:
    path = config_file(tmp_path, "out: there\nmodel:\n  frozen: [conv1, layer1]\ntraining:\n  learning_rate: 5e-4\n")
    values = parsed("pretrain", "--config", path)
    assert values.training.learning_rate == 0.0005
    assert isinstance(values.training.learning_rate, float)
    assert values.model.frozen == ("conv1", "layer1")
    assert values.out == Path("there")
    assert values.training.epochs == 40  # the default


@pytest.mark.parametrize("value", ["5e-4", "5E-4", "0.0005", ".0005"])
def test_numbers_in_any_notation(value: str, tmp_path: Path) -> None:
    path = config_file(tmp_path, f"training:\n  learning_rate: {value}\n")
    assert parsed("pretrain", "--out", "x", "--config", path).training.learning_rate == 0.0005
    assert parsed("pretrain", "--out", "x", "--training.learning_rate", value).training.learning_rate == 0.0005


@pytest.mark.parametrize("is_config_first", [True, False])
def test_flags_override_the_file_wherever_they_stand(
    is_config_first: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, "seed: 5\ntraining:\n  epochs: 3\n  batch_size: 7\n")
    config, flags = ["--config", path], ["--training.epochs", "9", "--out", "x"]
    words = config + flags if is_config_first else flags + config
    status, out, _ = run(capsys, "pretrain", *words, "--print_config")
    assert status == 0
    printed = load_yaml_strictly(out)
    assert printed["training"]["epochs"] == 9
    assert printed["training"]["batch_size"] == 7
    assert printed["seed"] == 5
    status, out, _ = run(capsys, "pretrain", *flags, f"--config={path}", "--print_config")
    assert load_yaml_strictly(out) == printed


def test_of_two_config_files_the_later_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = config_file(tmp_path, "seed: 1\nsplit: val\n"), tmp_path / "second.yaml"
    second.write_text("seed: 2\n")
    words = ["--config", first, "--seed", "3", "--config", second, "--print_config"]
    _, out, _ = run(capsys, "pretrain", "--out", "x", *words)
    assert (load_yaml_strictly(out)["seed"], load_yaml_strictly(out)["split"]) == (3, "val")
    _, out, _ = run(capsys, "pretrain", "--out", "x", *words[:2], *words[4:])
    assert (load_yaml_strictly(out)["seed"], load_yaml_strictly(out)["split"]) == (2, "val")


@pytest.mark.parametrize("words", [("--classes", "0,8,10"), ("--classes", "[0, 8, 10]"), ("--classes=0, 8, 10",)])
def test_class_list_on_the_command_line(words: tuple[str, ...]) -> None:
    assert parse_classes(parsed("cluster", "--run", "r", "--out", "o", *words).classes) == (0, 8, 10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("classes: [0, 8]", (0, 8)), ("classes: 0,8", (0, 8)), ("classes: 8", (8,)), ("classes: null", None)],
)
def test_class_list_in_a_file(text: str, expected: tuple[int, ...] | None, tmp_path: Path) -> None:
    values = parsed("cluster", "--run", "r", "--out", "o", "--config", config_file(tmp_path, text))
    assert parse_classes(values.classes) == expected


def test_input_errors_exit_with_1_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "saliency", "--out", tmp_path / "out", "--images", tmp_path / "none")
    assert (status, out) == (1, "")
    assert err == f"densessl saliency: no image folder {tmp_path / 'none'}; give a folder that holds images\n"


def test_settings_out_of_range_exit_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "pretrain", "--out", tmp_path / "run", "--training.epochs", "-1")
    assert (status, err) == (1, "densessl pretrain: training.epochs is -1; it must be at least 0\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_which_commands_start_in_several_processes(
    variable: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "2")
    status, _, err = run(capsys, "synth", "--out", tmp_path / "out")
    assert status == 1
    assert f"synth works in one process, but {variable} is 2; start it once, without torchrun or srun" in err
    assert not (tmp_path / "out").exists()
    command_line.check_processes("pretrain")
    command_line.check_processes("saliency")
    command_line.check_processes("evaluate")
    monkeypatch.setenv(variable, "1")
    command_line.check_processes("synth")


@pytest.mark.parametrize(("result", "status"), [(0, 0), (1, 1), (None, 0), (Path("page.html"), 0)])
def test_exit_status_of_a_stage(
    result: Any, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage() -> Any:
        """Return what the test wants."""
        return result

    monkeypatch.setattr(command_line, "stage_function", lambda _: stage)
    assert run(capsys, "demo")[0] == status


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; what is finished stays on disk"),
        (InputError("b is 3; it must be 2"), 1, "b is 3; it must be 2"),
    ],
)
def test_interrupted_and_failed_stages(
    error: BaseException,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stage() -> None:
        """Fail."""
        raise error

    monkeypatch.setattr(command_line, "stage_function", lambda _: stage)
    assert run(capsys, "demo") == (status, "", f"densessl demo: {message}\n")


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stage() -> None:
        """Fail in a way that the user cannot mend."""
        raise ZeroDivisionError

    monkeypatch.setattr(command_line, "stage_function", lambda _: stage)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


@pytest.mark.parametrize("command", ["evaluate", "cluster", "run"])
def test_classes_are_a_list_with_commas(command: str) -> None:
    needed = {
        "evaluate": ("--predictions", "p", "--labels", "l", "--num_classes", "21"),
        "cluster": ("--run", "r", "--out", "o"),
        "run": ("--out", "o"),
    }[command]
    assert parse_classes(parsed(command, *needed, "--classes", "0,8,10").classes) == (0, 8, 10)


@pytest.mark.parametrize(
    "words",
    [("--objective", "dino"), ("--objective=dino",), ("--objective.method", "dino"), ("--objective.method=dino",)],
)
def test_a_method_may_stand_for_its_group(words: tuple[str, ...]) -> None:
    spelt = command_line._methods_spelt_out([*words, "--objective.momentum", "0.9"])
    assert parsed("pretrain", *spelt, "--out", "RUN").objective.method == "dino"
    assert command_line._methods_spelt_out(["--objective", "settings.yaml"]) == ["--objective", "settings.yaml"]
    assert command_line._methods_spelt_out(["--objective"]) == ["--objective"]


@pytest.mark.parametrize(
    ("words", "expected"), [((), None), (("--num_segments", "4"), 4), (("--num_segments", "auto"), "auto")]
)
def test_a_number_of_segments_or_auto(words: tuple[str, ...], expected: int | str | None) -> None:
    assert parsed("saliency", "--out", "o", *words).num_segments == expected


BARE_FLAGS = [
    ((), ()),
    (("--everything",), ("--everything", "true")),
    (("--everything", "--out", "o"), ("--everything", "true", "--out", "o")),
    (("--out", "o", "--everything", "--pretrained"), ("--out", "o", "--everything", "true", "--pretrained", "true")),
    (("--everything", "true", "--pretrained", "false"), ("--everything", "true", "--pretrained", "false")),
    (("--everything=false", "--out"), ("--everything=false", "--out")),  # of another type: still wrong usage
    (("--everything", "photo.jpg"), ("--everything", "photo.jpg")),
    (("--everything", "-h"), ("--everything", "true", "-h")),
]


@pytest.mark.parametrize(("words", "spelt"), BARE_FLAGS)
def test_a_bare_flag_of_type_bool_means_true(words: tuple[str, ...], spelt: tuple[str, ...]) -> None:
    assert command_line._bare_flags_spelt_out(list(words), {"--everything", "--pretrained"}) == list(spelt)


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (("--box", "-5,10,90,80", "--out", "o"), ("--box=-5,10,90,80", "--out", "o")),
        (("--points", "-.5,3,1"), ("--points=-.5,3,1",)),
        (("--seed=1", "-2"), ("--seed=1", "-2")),
        (("-h", "-2"), ("-h", "-2")),
        (("--everything", "-h", "--out"), ("--everything", "-h", "--out")),
    ],
)
def test_a_value_may_begin_with_a_minus(words: tuple[str, ...], joined: tuple[str, ...]) -> None:
    assert command_line._negative_values_joined(list(words)) == list(joined)


def test_negative_coordinates_reach_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    needed = ("--image", "photo.jpg", "--weights", "w", "--out", "o")
    status, out, _ = run(capsys, "segment", "--box", "-5,10,90,80", *needed, "--print_config")
    assert (status, load_yaml_strictly(out)["box"]) == (0, "-5,10,90,80")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--points", "1,2,1", "--points=3,4,0"), "--points is given 2 times; write all points in one"),
        (("--box=1,2,3,4", "--box", "5,6,7,8"), "--box is given 2 times; a call takes one box"),
    ],
)
def test_prompts_that_would_be_lost_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "segment", "--image", "photo.jpg", "--weights", "w", "--out", "o", *words)
    assert status == 2
    assert message in err


def test_which_flags_may_stand_bare() -> None:
    parsers = {name: build_parser(name, stage_function(name)) for name in ("segment", "linear")}
    flags = {name: command_line._flags_of(parser, bool) for name, parser in parsers.items()}
    assert flags["segment"] == {"--multimask", "--mirrored", "--everything", "--pretrained"}
    assert flags["linear"] == {"--pretrained", "--trust_file", "--linear.augmentation"}


@pytest.mark.parametrize(
    ("words", "augmentation", "pretrained"),
    [
        (("--linear.augmentation", "--pretrained"), True, True),
        (("--pretrained", "--linear.augmentation", "false"), False, True),
        (("--linear.augmentation=false", "--pretrained", "false"), False, False),
    ],
)
def test_bare_flags_reach_the_stage(
    words: tuple[str, ...], augmentation: bool, pretrained: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = ("--encoder", "resnet18", "--data", "d", "--out", "o")
    status, out, _ = run(capsys, "linear", *words, *needed, "--print_config")
    printed = load_yaml_strictly(out)
    assert (status, printed["linear"]["augmentation"], printed["pretrained"]) == (0, augmentation, pretrained)


@pytest.mark.parametrize(
    ("words", "teachers"),
    [
        (("--self_training.teachers", "fused"), ["fused"]),
        (("--self_training.teachers=fused,file",), ["fused", "file"]),
        (("--self_training.teachers", "[fused,file]"), ["fused", "file"]),
    ],
)
def test_a_list_of_names_needs_no_brackets(
    words: tuple[str, ...], teachers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "saliency", *words, "--images", "d", "--out", "o", "--print_config")
    assert (status, load_yaml_strictly(out)["self_training"]["teachers"]) == (0, teachers)


def test_a_list_that_is_left_out_stays_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "saliency", "--self_training.teachers", "--images", "d", "--out", "o")
    assert (status, "expected one argument" in err) == (2, True)
