"""The loss of DINO against its equation written as a loop, an independent implementation, and values by hand."""

import math

import pytest
import torch

from densessl.errors import InputError
from densessl.objectives.self_distillation import (
    SelfDistillationSettings,
    self_distillation_loss,
    updated_center,
)


def _scores(num_crops: int, num_global: int, batch: int = 3, dim: int = 7) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(num_crops)
    shapes = ((num_crops, batch, dim), (num_global, batch, dim), (dim,))
    student, teacher, center = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return student.requires_grad_(), teacher, center


def _loop(student: torch.Tensor, teacher: torch.Tensor, center: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Equations 1 to 3, an element at a time; returns the loss and the teacher's mean entropy."""
    total, num_terms, entropies = torch.zeros((), dtype=torch.float64), 0, []
    for view, scores in enumerate(teacher):
        for image in range(student.shape[1]):
            target = torch.exp((scores[image] - center) / 0.04)
            target = target / target.sum()
            entropies.append(-float((target * target.log()).sum()))
            for crop in range(len(student)):
                if crop == view:
                    continue
                predicted = torch.exp(student[crop, image] / 0.1)
                predicted = predicted / predicted.sum()
                for k in range(len(center)):
                    total = total - target[k] * predicted[k].log()
                num_terms += 1
    return total / num_terms, sum(entropies) / len(entropies)


@pytest.mark.parametrize(("num_crops", "num_global"), [(2, 2), (5, 2), (2, 1), (4, 3)])
def test_equals_the_equation_with_gradients(num_crops: int, num_global: int) -> None:
    student, teacher, center = _scores(num_crops, num_global)
    found = self_distillation_loss(student, teacher, center, 0.1, 0.04)
    expected, entropy = _loop(student, teacher, center)
    divergence = float(expected.detach()) - entropy
    torch.testing.assert_close(found.loss.double(), expected, rtol=1e-5, atol=1e-5)
    assert float(found.teacher_entropy) == pytest.approx(entropy, rel=1e-4)
    assert float(found.kl_divergence) == pytest.approx(divergence, rel=1e-4)
    (ours,) = torch.autograd.grad(found.loss, student)
    (theirs,) = torch.autograd.grad(expected, student)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher, center = _scores(4, 2)
    teacher.requires_grad_()
    self_distillation_loss(student, teacher, center, 0.1, 0.04).loss.backward()
    assert teacher.grad is None


def test_the_same_even_output_of_all_crops_has_no_divergence() -> None:
    found = self_distillation_loss(torch.zeros(4, 2, 8), torch.zeros(2, 2, 8), torch.zeros(8), 0.1, 0.04)
    assert float(found.loss) == pytest.approx(math.log(8))
    assert float(found.teacher_entropy) == pytest.approx(math.log(8))
    assert float(found.kl_divergence) == pytest.approx(0, abs=1e-6)


def test_a_crop_is_not_compared_with_itself() -> None:
    """With one crop of each, only the pairs across count: the student is right about these and wrong about itself."""
    teacher = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])
    crossed = self_distillation_loss(teacher.flip(0), teacher, torch.zeros(2), 0.1, 0.1)
    straight = self_distillation_loss(teacher, teacher, torch.zeros(2), 0.1, 0.1)
    assert float(crossed.loss) == pytest.approx(0, abs=1e-6)
    assert float(straight.loss) == pytest.approx(90)


def test_no_pair_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 crops, 1 of them of the teacher, give no pair"):
        self_distillation_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(3), 0.1, 0.04)


def test_center_moves_towards_the_mean() -> None:
    center = updated_center(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), 0.9)
    torch.testing.assert_close(center, torch.tensor([0.9, 0.2]))


def test_equals_lightly() -> None:
    dino_loss = pytest.importorskip("lightly.loss.dino_loss", reason="lightly is not installed")
    student, teacher, center = (tensor.float() for tensor in _scores(6, 2))
    theirs = dino_loss.DINOLoss(output_dim=7, student_temp=0.1, center_momentum=0.9)
    theirs.center.copy_(center.detach().view(1, 1, -1))
    expected = theirs(list(teacher), list(student), teacher_temp=0.05)
    found = self_distillation_loss(student, teacher, center, 0.1, 0.05)
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(updated_center(center, teacher.mean((0, 1)), 0.9), theirs.center.view(-1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"student_temperature": 0.0}, "dino.distillation.student_temperature is 0.0; it must be positive"),
        ({"teacher_warmup_epochs": -1}, "teacher_warmup_epochs is -1"),
        ({"teacher_momentum": 1.5}, r"teacher_momentum is 1.5; it must lie in \[0, 1\]"),
    ],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SelfDistillationSettings(**values)  # type: ignore[arg-type]
