"""Compares an exported part with the model it was made of, at several sizes."""

from dataclasses import dataclass

import torch

from densessl.errors import InputError
from densessl.promptable.model_parts import ModelPart, Sizes
from densessl.promptable.part_export import Runner

TOLERANCE = 1e-4
"""Largest difference that is let through, relative to the largest value of an output."""


@dataclass(frozen=True)
class ComparedSize:
    """How far an export is from the model at one size: the largest difference relative to the largest value."""

    sizes: Sizes
    difference: float


def compare_part(part: ModelPart, run: Runner, name: str, tolerance: float = TOLERANCE) -> tuple[ComparedSize, ...]:
    """Compute drawn inputs of every size by the part and by its export.

    name: of the export, for the error.

    Raises:
        InputError: it fails at a size, gives another shape, or differs by more than the tolerance.
    """
    compared = []
    for seed, sizes in enumerate(part.compared):
        inputs = part.draw(sizes, seed)
        with torch.no_grad():
            expected = part.module(*inputs)
            try:
                found = run(inputs)
            except Exception as error:  # of torch or onnxruntime, in any of their own ways
                raise InputError(f"{name} fails at {_told(sizes)} ({str(error).strip()[:300]}); {_remedy()}") from error
        outputs = (expected,) if isinstance(expected, torch.Tensor) else tuple(expected)
        for form, one, other in zip(part.outputs, found, outputs, strict=True):
            if one.shape != other.shape:
                raise InputError(
                    f"{name} gives {form.name} of shape {tuple(one.shape)} instead of {tuple(other.shape)} at "
                    f"{_told(sizes)}; {_remedy()}"
                )
        difference = max(relative_difference(one, other) for one, other in zip(found, outputs, strict=True))
        if not difference <= tolerance:  # also where it is not a number
            raise InputError(
                f"{name} differs from the model by {difference:.1e} of the largest value at {_told(sizes)}, more than "
                f"{tolerance:.0e}; {_remedy()}"
            )
        compared.append(ComparedSize(sizes, difference))
    return tuple(compared)


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return max |found - expected| / max |expected|."""
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def _told(sizes: Sizes) -> str:
    return ", ".join(f"{name} {length}" for name, length in sizes.items())


def _remedy() -> str:
    return "nothing was written; export it for one size (sizes square) or with another version of torch or onnxruntime"
