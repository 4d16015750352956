"""Python functions as encoders: found by name, told apart by their source."""

import functools
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.callable_encoder import callable_encoder, is_callable_name, named_encoder

CPU = torch.device("cpu")
_SOURCE = "def pooled(images):\n    return images[:, :, ::{step}, ::8]\n\n\nnumber = 3\n"


def _colours(images: torch.Tensor) -> torch.Tensor:
    return images


@pytest.mark.parametrize(
    ("text", "expected"),
    [("module:function", True), ("a.b:C.method", True), ("resnet50", False), ("a:b:c", False), ("a/b:c", False)],
)
def test_names(text: str, expected: bool) -> None:
    assert is_callable_name(text) is expected


def test_a_function_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    fingerprints = []
    for step in (8, 4):
        (tmp_path / f"encoders_{step}.py").write_text(_SOURCE.format(step=step))
        encoder = named_encoder(f"encoders_{step}:pooled", CPU)
        assert encoder.function(torch.zeros(2, 3, 16, 24)).shape == (2, 3, 16 // step, 3)
        assert encoder.description == f"Python callable encoders_{step}:pooled"
        assert encoder.supervision.startswith("unknown: a Python function does not say")
        fingerprints.append(encoder.fingerprint)
    assert None not in fingerprints
    assert len(set(fingerprints)) == 2
    with pytest.raises(InputError, match=r"encoder encoders_8:number is a int, which cannot be called"):
        named_encoder("encoders_8:number", CPU)
    with pytest.raises(InputError, match=r"has no attribute 'none'; write module:function"):
        named_encoder("encoders_8:none", CPU)
    with pytest.raises(InputError, match=r"no module 'encoders_9'; run from the folder that holds it"):
        named_encoder("encoders_9:pooled", CPU)


def test_a_network_is_told_apart_by_its_weights() -> None:
    one, same, other = nn.Conv2d(3, 4, 8), nn.Conv2d(3, 4, 8), nn.Conv2d(3, 4, 8)
    same.load_state_dict(one.state_dict())
    first, second, third = (callable_encoder(network.train(), CPU) for network in (one, same, other))
    assert not one.training
    assert first.fingerprint == second.fingerprint != third.fingerprint


def test_what_has_no_fingerprint() -> None:
    factor = 2
    for function in (functools.partial(_colours), lambda images: images * factor, math.sin):
        assert callable_encoder(function, CPU).fingerprint is None  # type: ignore[arg-type]
    assert callable_encoder(_colours, CPU).fingerprint is not None
