"""The command `export_promptable`: its folder and record, and what it refuses or cannot do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_runs import Outcome, command

from densessl.commands import export_promptable as stage
from densessl.commands.export_promptable import parse_formats
from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.promptable import part_export

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FILES = {
    *("encoder.onnx", "decoder.onnx", "encoder.pt2", "decoder.pt2", "encoder.int8.onnx", "decoder.int8.onnx"),
    "export.json",
}
OWN = {"supervision": "none", "parts": {}, "tolerance": 1e-4}
"""What an export of this command has in its record."""


def error_of(outcome: Outcome) -> str:
    assert outcome.status == 1
    assert "Traceback" not in outcome.err
    return outcome.err


def state(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.iterdir()}


def copy_instead_of_exporting(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the files of the small export, since making them takes long."""

    def copied(name: str, path: Path) -> None:
        path.write_bytes((exported.folder / name).read_bytes())

    monkeypatch.setattr(stage, "trace_part", lambda part: None)
    monkeypatch.setattr(stage, "write_onnx", lambda program, part, path: copied(path.name, path))
    monkeypatch.setattr(stage, "write_program", lambda program, path: copied(path.name, path))


def test_every_file_is_there_and_compared(exported: Any) -> None:
    assert {path.name for path in exported.folder.iterdir()} == FILES
    record = json.loads((exported.folder / "export.json").read_text())
    assert record["files"].keys() == FILES - {"export.json"}
    for name, entry in record["files"].items():
        path = exported.folder / name
        assert (entry["bytes"], entry["sha256"]) == (path.stat().st_size, file_sha256(path))
        assert len(entry["compared"]) == (0 if "int8" in name else 4)
        assert all(one["difference"] < 1e-5 for one in entry["compared"])
    assert {name for name, sizes in exported.result.compared.items() if sizes} == {
        *("encoder.onnx", "decoder.onnx", "encoder.pt2", "decoder.pt2")
    }


def test_the_record_says_how_to_use_the_files(exported: Any) -> None:
    record = json.loads((exported.folder / "export.json").read_text())
    assert record["supervision"] == "none (drawn for a test)"
    assert record["weights_sha256"] == file_sha256(exported.weights)
    assert [record[key] for key in ("size_px", "padding", "stride", "sizes")] == [96, "square", 16, "any"]
    assert (record["mean"], record["std"]) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert record["parts"]["encoder"]["inputs"] == [
        {"name": "images", "dtype": "float32", "shape": ["batch", 3, "16*rows", "16*columns"]}
    ]
    assert record["versions_of_export"].keys() == {"onnx", "onnxscript", "onnxruntime"}


def test_onnx_files_bear_the_names_of_the_record_and_no_paths(exported: Any) -> None:
    record = json.loads((exported.folder / "export.json").read_text())
    for part in ("encoder", "decoder"):
        model = onnx.load(exported.folder / f"{part}.onnx")
        onnx.checker.check_model(model)
        for key, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            found = {
                value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
                for value in values
            }
            assert found == {form["name"]: form["shape"] for form in record["parts"][part][key]}
        for suffix in (".onnx", ".pt2"):
            assert (
                str(Path(part_export.__file__).parent).encode()
                not in (exported.folder / f"{part}{suffix}").read_bytes()
            )


def test_int8_is_measured(exported: Any) -> None:
    int8 = json.loads((exported.folder / "export.json").read_text())["int8"]
    assert [loss["quantised"] for loss in int8["losses"]] == [["encoder"], ["decoder"], ["encoder", "decoder"]]
    assert all(0.3 < loss["mean_iou"] <= 1 and loss["logit_difference"] > 0 for loss in int8["losses"])
    assert (int8["images"], int8["num_images"], int8["num_prompts"]) == ("8 rendered scenes", 8, 32)
    assert exported.result.int8.losses[2].mean_iou == int8["losses"][2]["mean_iou"]
    for text in ("encoder.onnx: ", "at 4 sizes within ", "layers in int8", "int8 encoder and decoder: mean IoU"):
        assert text in exported.printed


def test_a_later_export_replaces_the_earlier_one(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_instead_of_exporting(exported, monkeypatch)
    out = tmp_path / "out"
    out.mkdir()
    (out / "export.json").write_text(json.dumps(OWN | {"files": {"decoder.int8.onnx": {}, "../kept": {}}}))
    (out / "decoder.int8.onnx").write_bytes(b"of other weights")
    (tmp_path / "kept").write_bytes(b"")
    (out / ".unfinished-export-x").mkdir()
    outcome = command("export_promptable", "--weights", exported.weights, "--out", out, "--formats", "torch_export")
    assert outcome.status == 0, outcome.err
    assert {path.name for path in out.iterdir()} == {"encoder.pt2", "decoder.pt2", "export.json"}
    assert (tmp_path / "kept").exists()


def test_an_export_that_differs_leaves_the_folder_as_it_was(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "export.json").write_text(json.dumps(OWN | {"files": {"encoder.pt2": {}}}))
    (tmp_path / "encoder.pt2").write_bytes(b"earlier")
    before = state(tmp_path)
    monkeypatch.setattr(
        stage, "open_program", lambda path: lambda inputs: [1.1 * part_export.open_program(path)(inputs)[0]]
    )
    flags = ("--weights", exported.weights, "--out", tmp_path, "--formats", "torch_export", "--sizes", "square")
    assert "encoder.pt2 differs from the model by 1.0e-01" in error_of(command("export_promptable", *flags))
    assert state(tmp_path) == before


def test_without_onnxruntime_it_says_that_nothing_was_compared(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_instead_of_exporting(exported, monkeypatch)
    for module in (stage, part_export):
        monkeypatch.setattr(module, "is_installed", lambda name: name != "onnxruntime")
    flags = ("--weights", exported.weights, "--out", tmp_path, "--formats", "onnx")
    outcome = command("export_promptable", *flags)
    assert outcome.status == 0, outcome.err
    assert 'not compared with the model: onnxruntime is missing (pip install "densessl[export]")' in outcome.out
    assert json.loads((tmp_path / "export.json").read_text())["files"]["encoder.onnx"]["compared"] == []
    message = error_of(command("export_promptable", *flags, "--quantise", "int8"))
    assert 'need onnxruntime, not installed here: pip install "densessl[export]"' in message


def test_images_on_which_int8_is_measured(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )

    copy_instead_of_exporting(exported, monkeypatch)
    flags = ("--weights", exported.weights, "--out", tmp_path / "out", "--formats", "onnx", "--quantise", "int8")
    outcome = command("export_promptable", *flags, "--images", tmp_path, "--points_per_side", "1")
    assert outcome.status == 0, outcome.err
    assert f"2 clicks on images {tmp_path.name}" in outcome.out
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert "broken.png" in error_of(command("export_promptable", *flags, "--images", tmp_path))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--formats", "coreml"), "format 'coreml' is unknown; formats are onnx, torch_export"),
        (("--formats", "torch_export", "--quantise", "int8"), "have onnx among the formats"),
        (("--images", "."), "images .: of how int8 is measured, but quantise is not int8; leave it out"),
        (
            ("--points_per_side", "4"),
            "points_per_side 4: of how int8 is measured, but quantise is not int8; leave it out",
        ),
        (("--quantise", "int8", "--points_per_side", "0"), "points_per_side is 0"),
        (("--weights", "nowhere.pth"), "nowhere.pth"),
    ],
)
def test_settings_that_cannot_be_are_told(exported: Any, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    out = tmp_path / "out"
    assert message in error_of(command("export_promptable", "--weights", exported.weights, "--out", out, *flags))
    assert not out.exists()


@pytest.mark.parametrize(
    "files",
    [
        {"letter.txt": "dear"},
        {"export.json": '{"files": {"data.csv": {}}}', "data.csv": "1,2"},
        {"export.json": "[]"},
        {"letter.txt": "dear", ".unfinished-export-x/encoder.onnx": ""},
    ],
)
def test_a_folder_of_something_else_is_left_alone(exported: Any, tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    message = error_of(command("export_promptable", "--weights", exported.weights, "--out", tmp_path))
    assert "holds something that is no export" in message
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_formats() -> None:
    assert parse_formats("torch_export, onnx") == ("onnx", "torch_export")
    assert parse_formats(["onnx", "onnx"]) == ("onnx",)
    with pytest.raises(InputError, match="no format is named"):
        parse_formats("")
