"""A network's file: what is written comes back; what anything else is, is said."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from densessl.errors import InputError, MissingInputError
from densessl.models.network_file import load_network, save_network


def load(path: Path) -> object:
    return load_network(path, "settings", kind="weights", origin="a file of this test")


def test_tensors_and_header_come_back(tmp_path: Path) -> None:
    path, network = tmp_path / "a.safetensors", nn.Linear(3, 2)
    save_network(path, network.state_dict(), "settings", {"sizes": [3, 2], "name": "é"})
    tensors, header = load_network(path, "settings", kind="weights", origin="a file of this test")
    assert header == {"sizes": [3, 2], "name": "é"}
    assert {name: value.tolist() for name, value in tensors.items()} == {
        name: value.tolist() for name, value in network.state_dict().items()
    }
    before = path.read_bytes()
    save_network(path, network.state_dict(), "settings", {"sizes": [3, 2], "name": "é"})
    assert path.read_bytes() == before


def test_what_is_no_such_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(MissingInputError, match=r"no weights .*a.safetensors; expected a file of this test"):
        load(path)
    path.write_bytes(b"garbage" * 10)
    with pytest.raises(InputError, match=r"a.safetensors cannot be read .* expected a file of this test"):
        load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"lacks the header settings .* expected a file of this test"):
        load(path)
    for broken in ("{", "[" * 100_000):
        save_file({"x": torch.zeros(1)}, path, metadata={"settings": broken})
        with pytest.raises(InputError, match="is no JSON"):
            load(path)
