"""Checkpoint files: tensors come out, nothing in the file runs, and damage is named."""

import argparse
import pathlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from densessl.errors import InputError, MissingInputError
from densessl.models.checkpoint_file import SUFFIXES, read_checkpoint


class _WritesOnRead:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pathlib.Path.touch, (self.target,)  # type: ignore[return-value]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    path, tensors = tmp_path / f"weights{suffix}", {"a": torch.arange(6.0).reshape(2, 3)}
    if suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    assert torch.equal(read_checkpoint(path)["a"], tensors["a"])


def test_half_precision_becomes_float32_at_any_depth(tmp_path: Path) -> None:
    content = {
        "state_dict": {"a": torch.ones(2).half(), "b": torch.ones(2).bfloat16(), "c": torch.ones(2).double()},
        "list": [torch.ones(1).half()],
        "count": torch.tensor(3),
    }
    torch.save(content, tmp_path / "half.pth")
    read = read_checkpoint(tmp_path / "half.pth")
    dtypes = [value.dtype for value in read["state_dict"].values()]
    assert dtypes == [torch.float32, torch.float32, torch.float64]
    assert read["list"][0].dtype == torch.float32
    assert read["count"].dtype == torch.int64


def test_options_and_numpy_numbers_are_passed_over(tmp_path: Path) -> None:
    content = {
        "args": argparse.Namespace(lr=0.1, seed=np.int64(3)),
        "accuracy": np.float64(0.5),
        "loss": np.float32(0.25),
        "weight": torch.ones(2),
    }
    torch.save(content, tmp_path / "run.pth")
    allowed = set(map(str, torch.serialization.get_safe_globals()))
    read = read_checkpoint(tmp_path / "run.pth")
    assert torch.equal(read["weight"], torch.ones(2))
    assert not isinstance(read["args"], argparse.Namespace)
    assert set(map(str, torch.serialization.get_safe_globals())) == allowed


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "touched", tmp_path / "hostile.pth"
    torch.save({"weight": torch.ones(2), "payload": _WritesOnRead(target)}, path)
    with pytest.raises(InputError, match=r"holds a pickled Python object \(.+\).*weights_only=False.*save_file"):
        read_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()


def test_pickled_code_inside_options_is_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "touched", tmp_path / "hostile.pth"
    torch.save({"args": argparse.Namespace(payload=_WritesOnRead(target))}, path)
    with pytest.raises(InputError, match="pickled Python object"):
        read_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage garbage", b"\x80\x02}q\x00.", b"PK\x03\x04 not a zip file"])
def test_garbage_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a readable checkpoint, or it is cut off \(.+\); download"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_any_cut_file_is_named(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    tensors = {"a": torch.arange(300.0), "b": torch.ones(4)}
    if suffix == ".safetensors":
        safetensors.torch.save_file(tensors, whole)
    else:
        torch.save(tensors, whole)
    content = whole.read_bytes()
    for length in np.linspace(1, len(content) - 1, 12).astype(int):
        cut.write_bytes(content[:length])
        with pytest.raises(InputError, match="cut off"):
            read_checkpoint(cut)


def test_legacy_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(path)["a"], torch.ones(3))


@pytest.mark.filterwarnings("ignore:.*TorchScript archive:UserWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(InputError, match=r"TorchScript archive.*state_dict\(\)"):
        read_checkpoint(path)


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {"weight": torch.ones(1)}
    content["model"] = content
    torch.save(content, tmp_path / "loop.pth")
    with pytest.raises(InputError, match="nested without end"):
        read_checkpoint(tmp_path / "loop.pth")


def test_wrong_contents_and_names(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(InputError, match=r"holds a list, not a dictionary.*state_dict\(\)"):
        read_checkpoint(tmp_path / "list.pth")
    (tmp_path / "weights.npz").touch()
    with pytest.raises(InputError, match=r"ends in '.npz'; expected one of .safetensors, .pth"):
        read_checkpoint(tmp_path / "weights.npz")
    with pytest.raises(MissingInputError, match=r"no checkpoint file .*none.pth; expected a file ending in"):
        read_checkpoint(tmp_path / "none.pth")
