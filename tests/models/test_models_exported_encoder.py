"""TorchScript and torch.export files: opened only where they are trusted, called with the sizes that they take."""

import json
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from densessl.errors import InputError, MissingInputError
from densessl.models.exported_encoder import exported_encoder, torchscript_encoder

CPU = torch.device("cpu")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 5, 8, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)


def _images(num: int = 3, size: tuple[int, int] = (16, 24)) -> torch.Tensor:
    return torch.randn(num, 3, *size, generator=torch.Generator().manual_seed(0))


def _export(path: Path, num: int, *, is_dynamic: bool = False) -> Path:
    shapes = {0: torch.export.Dim("batch")} if is_dynamic else None
    program = torch.export.export(Network().eval(), (_images(num),), dynamic_shapes=(shapes,))
    torch.export.save(program, path)
    return path


def _script(path: Path, module: nn.Module, example: torch.Tensor | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(module) if example is None else torch.jit.trace(module, example)
        torch.jit.save(made, path)
    return path


@pytest.mark.parametrize("is_traced", [False, True])
def test_torchscript(is_traced: bool, tmp_path: Path) -> None:
    path = _script(tmp_path / "net.pt", Network().eval(), _images(1) if is_traced else None)
    encoder = torchscript_encoder(path, CPU, is_trusted=True)
    with torch.no_grad():
        assert torch.allclose(encoder.function(_images()), Network()(_images()), atol=1e-6)
    assert encoder.description == "TorchScript net.pt"
    assert encoder.fingerprint is not None
    assert len(encoder.fingerprint) == 64
    assert encoder.supervision == "unknown: the file does not say"


@pytest.mark.parametrize(("num", "is_dynamic"), [(2, True), (1, False), (2, False), (4, False)])
def test_exported_for_any_number_of_images(num: int, is_dynamic: bool, tmp_path: Path) -> None:
    """Three images go through programs that were exported for one, two, four, or any."""
    encoder = exported_encoder(_export(tmp_path / "net.pt2", num, is_dynamic=is_dynamic), CPU, is_trusted=True)
    with torch.no_grad():
        assert torch.allclose(encoder.function(_images()), Network()(_images()), atol=1e-6)


def test_the_size_that_an_exported_encoder_wants(tmp_path: Path) -> None:
    encoder = exported_encoder(_export(tmp_path / "net.pt2", 1), CPU, is_trusted=True)
    with pytest.raises(InputError, match=r"net.pt2 was exported for images of 3 x 16 x 24 .*, got 3 x 32 x 24; give"):
        encoder.function(_images(2, (32, 24)))


def test_a_traced_size_that_does_not_fit(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images + torch.zeros(1, 3, 16, 24)

    encoder = torchscript_encoder(_script(tmp_path / "net.ts", Fixed(), _images(1)), CPU, is_trusted=True)
    with pytest.raises(InputError, match=r"encoder net.ts fails on images \(2, 3, 32, 24\) .*; give the image size"):
        encoder.function(_images(2, (32, 24)))


class _Gadget:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.path, "harm")


def _poison(source: Path, target: Path, gadget: _Gadget) -> None:
    """Mark the first weight of an exported program as pickled, and put a gadget in its place."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as changed:
        config = next(name for name in archive.namelist() if name.endswith("weights_config.json"))
        content = json.loads(archive.read(config))
        first = next(iter(content["config"].values()))
        first["use_pickle"] = True
        for name in archive.namelist():
            data = archive.read(name)
            if name == config:
                data = json.dumps(content).encode()
            elif name.endswith("/" + first["path_name"]):
                torch.save(gadget, target.with_suffix(".pickle"))
                data = target.with_suffix(".pickle").read_bytes()
            changed.writestr(name, data)


def test_a_malicious_program_is_not_touched_without_trust(tmp_path: Path) -> None:
    harm, path = tmp_path / "harm", tmp_path / "evil.pt2"
    _poison(_export(tmp_path / "net.pt2", 1), path, _Gadget(harm))
    with pytest.raises(InputError, match=r"evil.pt2 is a torch.export file, which is a program: .*\(trust_file true\)"):
        exported_encoder(path, CPU, is_trusted=False)
    assert not harm.exists()
    with pytest.raises(InputError, match=r"evil.pt2 cannot be loaded"):
        exported_encoder(path, CPU, is_trusted=True)
    if not harm.exists():
        pytest.skip("this torch does not run the gadget any more; the refusal may be reconsidered")


def test_a_scripted_module_is_not_touched_without_trust(tmp_path: Path) -> None:
    path = _script(tmp_path / "net.pt", Network())
    with pytest.raises(InputError, match=r"net.pt is a TorchScript file, which is a program"):
        torchscript_encoder(path, CPU, is_trusted=False)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no encoder file .*; expected one of TorchScript"):
        torchscript_encoder(tmp_path / "none.pt", CPU, is_trusted=True)
    weights = tmp_path / "weights.pt"
    torch.save(Network().state_dict(), weights)
    with pytest.raises(
        InputError, match=r"weights.pt holds no TorchScript; a checkpoint of weights is given as weights"
    ):
        torchscript_encoder(weights, CPU, is_trusted=True)
    weights.write_bytes(pickle.dumps(_Gadget(tmp_path / "harm")))
    with pytest.raises(InputError, match=r"holds no TorchScript"):
        torchscript_encoder(weights, CPU, is_trusted=True)
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"broken.pt2 cannot be loaded .*; export it again with torch"):
        exported_encoder(broken, CPU, is_trusted=True)
    assert not (tmp_path / "harm").exists()


def test_a_program_of_two_inputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return one + other

    path = tmp_path / "two.pt2"
    torch.export.save(torch.export.export(Two(), (_images(), _images())), path)
    with pytest.raises(InputError, match=r"two.pt2 takes 2 inputs .*; an encoder takes one"):
        exported_encoder(path, CPU, is_trusted=True)
