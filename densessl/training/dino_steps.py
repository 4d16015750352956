"""The steps of a DINO pretraining, as the loop takes them: rates, crops, gradients, centre, teacher."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from densessl.data.multi_crop import MultiCrops, unpack_crops
from densessl.models.momentum_twin import update_twin
from densessl.objectives.self_distillation import SelfDistillation, self_distillation_loss, updated_center
from densessl.training.checkpoints import CheckpointKind
from densessl.training.devices import sum_over_processes
from densessl.training.diagnostics import peak_memory_mib
from densessl.training.dino_schedule import DinoRates, dino_rates
from densessl.training.dino_settings import DinoRun
from densessl.training.dino_state import DinoState
from densessl.training.finiteness import check_gradient, check_loss_value
from densessl.training.gradients import step_seed
from densessl.training.sampler import BatchSampler
from densessl.training.step_profile import stage

CHECKPOINT_KIND: CheckpointKind = "densessl-dino-1"


class DinoSteps:
    """A DINO pretraining as the loop takes it (`densessl.training.training_loop.SteppedTraining`).

    With several processes gradients are averaged and the centre is that of all images. What is logged is averaged too.
    """

    kind: CheckpointKind = CHECKPOINT_KIND

    def __init__(
        self,
        fabric: Fabric,
        state: DinoState,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        sampler: BatchSampler,
        run: DinoRun,
    ) -> None:
        """Take the state, and student and optimiser as Fabric wrapped them."""
        self._fabric, self._state, self._wrapped, self._optimizer = fabric, state, wrapped, optimizer
        self._sampler, self._run = sampler, run
        self._result: SelfDistillation | None = None
        self._rates = DinoRates(0.0, 0.0, 0.0, 0.0)

    @property
    def step(self) -> int:
        return self._state.step

    @property
    def seconds(self) -> float:
        return self._state.seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._state.seconds = value

    def take_step(self, batch: MultiCrops) -> float:
        """Learn from a batch of crops, count the step, and return this process's loss."""
        state, distillation = self._state, self._run.dino.distillation
        self._set_rates()
        torch.manual_seed(step_seed(self._run.seed, state.step, self._fabric.global_rank))
        crops = unpack_crops(batch, self._fabric.device)
        batch_size = crops.global_crops.shape[1]
        images = crops.global_crops.flatten(0, 1)  # (2 * batch, 3, size, size)
        with stage("teacher forward"), torch.no_grad(), self._fabric.autocast():
            targets = state.teacher(images).float()
        self._optimizer.zero_grad()
        with stage("student forward"):
            scores = self._wrapped(images, crops.local_crops.flatten(0, 1))
        with stage("distillation loss"):
            result = self_distillation_loss(
                scores.unflatten(0, (-1, batch_size)),
                targets.unflatten(0, (-1, batch_size)),
                state.center,
                distillation.student_temperature,
                self._rates.teacher_temperature,
            )
        parts = f"teacher's entropy {float(result.teacher_entropy):.4g}, KL {float(result.kl_divergence):.4g}"
        check_loss_value(self._fabric, result.loss, parts, state.step + 1, self._run)
        with stage("backward"):
            self._fabric.backward(result.loss)
        with stage("optimiser"):
            self._descend()
        with stage("update twin"):
            mean = mean_over_processes(self._fabric, targets)
            state.center = updated_center(state.center, mean, distillation.center_momentum)
            update_twin(state.teacher, state.student, self._rates.teacher_momentum)
        state.step += 1
        self._result = result
        return float(result.loss.detach())

    def describe(self, batch: MultiCrops) -> dict[str, float]:
        """Return what the log says of the step that was taken last; all processes call together."""
        if self._result is None:
            raise ValueError("no step was taken; describe the step after take_step")
        own = torch.stack([value.detach() for value in self._result])
        values = torch.as_tensor(self._fabric.all_reduce(own)).tolist()  # the mean
        memory = peak_memory_mib(self._fabric.device)
        return {
            **dict(zip(SelfDistillation._fields, values, strict=True)),
            **self._rates._asdict(),
            **({} if memory is None else {"memory_mib": memory}),
        }

    def is_judged(self) -> bool:
        """Nothing is evaluated on the way."""
        return False

    def judge(self) -> dict[str, float]:
        """Nothing is evaluated on the way."""
        return {}

    def to_checkpoint(self) -> dict[str, Any]:
        """Return all that later steps depend on."""
        return self._state.to_checkpoint()

    def _set_rates(self) -> None:
        self._rates = dino_rates(
            self._run,
            self._state.step,
            steps_per_epoch=self._sampler.steps_per_epoch,
            images_per_step=self._sampler.images_per_step,
        )
        for group in self._state.optimizer.param_groups:
            group["lr"] = self._rates.learning_rate
            group["weight_decay"] = self._rates.weight_decay if group["decays"] else 0.0

    def _descend(self) -> None:
        """Clip the gradients, leave the last layer out while it is frozen, and take the optimiser's step."""
        schedule, student = self._run.dino.schedule, self._state.student
        norm = clip_each_gradient(student.parameters(), schedule.max_grad_norm)
        check_gradient(norm, self._state.step + 1, self._run)
        if self._state.step < schedule.frozen_last_layer_epochs * self._sampler.steps_per_epoch:
            for parameter in student.head.last_layer.parameters():
                parameter.grad = None
        self._optimizer.step()


@torch.no_grad()
def clip_each_gradient(parameters: Iterable[nn.Parameter], most: float) -> torch.Tensor:
    """Scale the gradient of each tensor down to a norm of `most`, in place, 0 for none; returns the norm of all before.

    DINO's published code clips so, each tensor by itself; the paper does not say how it clips.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    if most > 0:
        factors = (most / norms.clamp_min(1e-12)).clamp_max(1.0)
        torch._foreach_mul_(gradients, list(factors))
    return norms.norm()


def mean_over_processes(fabric: Fabric, rows: torch.Tensor) -> torch.Tensor:
    """Return the mean of the rows (num, dim) of all processes, whose numbers may differ."""
    if fabric.world_size == 1:
        return rows.mean(0)
    total = sum_over_processes(torch.cat([rows.sum(0), rows.new_full((1,), len(rows))]))
    return total[:-1] / total[-1]
