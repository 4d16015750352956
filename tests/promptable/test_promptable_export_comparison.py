"""The comparison of an export with its model: what passes, and what each difference is called."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from densessl.errors import InputError
from densessl.promptable.export_comparison import compare_part, relative_difference
from densessl.promptable.model_parts import Axis, ModelPart, TensorForm


class Doubling(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * images


FORM = TensorForm("images", "float32", (Axis("batch"), 3))
PART = ModelPart("encoder", Doubling(), (FORM,), (FORM,), {"batch": 2}, ({"batch": 1}, {"batch": 4}))


def test_differences_are_relative_to_the_largest_value() -> None:
    assert relative_difference(torch.tensor([1.0, -8.5]), torch.tensor([1.0, -8.0])) == pytest.approx(0.5 / 8)
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0


def test_every_size_is_compared() -> None:
    def run(inputs: tuple[torch.Tensor, ...]) -> Sequence[torch.Tensor]:
        return [2.00001 * inputs[0]]

    found = compare_part(PART, run, "encoder.onnx")
    assert [one.sizes for one in found] == [{"batch": 1}, {"batch": 4}]
    assert all(one.difference == pytest.approx(5e-6, rel=0.1) for one in found)


def failing(inputs: tuple[torch.Tensor, ...]) -> Sequence[torch.Tensor]:
    raise RuntimeError("no kernel")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda inputs: [2.001 * inputs[0]], "encoder.onnx differs from the model by 5.0e-04 .* at batch 1, more than"),
        (lambda inputs: [float("nan") * inputs[0]], "differs from the model by nan"),
        (lambda inputs: [2 * inputs[0][:, :2]], r"of shape \(1, 2\) instead of \(1, 3\) at batch 1"),
        (failing, r"encoder.onnx fails at batch 1 \(no kernel\); nothing was written"),
    ],
    ids=["value", "nan", "shape", "failure"],
)
def test_an_export_that_differs_is_refused(run: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_part(PART, run, "encoder.onnx")  # type: ignore[arg-type]
