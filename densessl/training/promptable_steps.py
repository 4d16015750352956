"""The steps of promptable training, as the loop takes them: learning rate, encoding, interaction, gradients."""

from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn

from densessl.promptable.object_views import ObjectBatch
from densessl.promptable.promptable_model import PromptableModel
from densessl.training.checkpoints import CheckpointKind
from densessl.training.diagnostics import peak_memory_mib
from densessl.training.finiteness import check_gradient, check_loss_value
from densessl.training.gradients import step_seed
from densessl.training.interaction import InteractionResult
from densessl.training.promptable_settings import PromptableTrainingSettings
from densessl.training.sampler import BatchSampler
from densessl.training.schedule import learning_rate_factor
from densessl.training.state import set_learning_rate
from densessl.training.step_profile import stage
from densessl.training.stored_features import Encode, encode_once


class PromptableSteps:
    """A promptable training as the loop takes it (`densessl.training.training_loop.SteppedTraining`).

    Everything random in a step follows from (seed, step, rank), so no generator is part of a checkpoint.
    """

    kind: CheckpointKind = "densessl-promptable-1"

    def __init__(
        self,
        fabric: Fabric,
        model: PromptableModel,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        frozen: Encode | None,
        sampler: BatchSampler,
        training: PromptableTrainingSettings,
        seed: int,
    ) -> None:
        """Take the model, `Interaction` and optimiser as Fabric wrapped them, and the untrained part of the encoder."""
        self.step, self.seconds = 0, 0.0
        self._fabric, self._model, self._wrapped, self._optimizer = fabric, model, wrapped, optimizer
        self._frozen, self._sampler, self._training, self._seed = frozen, sampler, training, seed
        self._result: InteractionResult | None = None
        self._learning_rate = 0.0

    def take_step(self, batch: ObjectBatch) -> float:
        """Learn from a batch, count the step, and return its loss."""
        self._set_learning_rate()
        seed = step_seed(self._seed, self.step, self._fabric.global_rank)
        torch.manual_seed(seed)
        batch = ObjectBatch(*(self._to_device(part) for part in batch))
        with stage("query forward"):
            encoded = self._encode(batch)
            result: InteractionResult = self._wrapped(encoded, batch, torch.Generator().manual_seed(seed))
        parts = f"masks {float(result.first_mask_loss):.4g} and {float(result.later_mask_loss):.4g}"
        iou = f"predicted IoU {float(result.iou_loss):.4g}"
        check_loss_value(self._fabric, result.loss, f"{parts}, {iou}", self.step + 1, self._training)
        self._optimizer.zero_grad()
        with stage("backward"):
            self._fabric.backward(result.loss)
        with stage("optimiser"):
            self._clip()
            self._optimizer.step()
        self.step += 1
        self._result = result
        return float(result.loss.detach())

    def describe(self, batch: ObjectBatch) -> dict[str, float]:
        """Return what the log says of the step that was taken last."""
        if self._result is None:
            raise ValueError("no step was taken; describe the step after take_step")
        memory = peak_memory_mib(self._fabric.device)
        return {
            **{name: float(value.detach()) for name, value in self._result._asdict().items()},
            "num_prompts": len(batch.targets),
            "learning_rate": self._learning_rate,
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
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "seconds": self.seconds,
        }

    def _encode(self, batch: ObjectBatch) -> tuple[torch.Tensor, ...]:
        """Return the images, or what the untrained part of the encoder makes of them, stored or not, in order."""
        images = batch.images
        if len(batch.image_places):
            images = images.contiguous(memory_format=torch.channels_last)
        if self._frozen is None:
            return (images,)
        if not len(batch.image_places):
            return batch.features
        new = encode_once(self._fabric, self._frozen, images)
        if not len(batch.stored_places):
            return new
        order = torch.cat([batch.stored_places, batch.image_places]).argsort()
        return tuple(torch.cat(both)[order] for both in zip(batch.features, new, strict=True))

    def _set_learning_rate(self) -> None:
        self._learning_rate = self._training.learning_rate * learning_rate_factor(
            self._training.schedule,
            self.step,
            steps_per_epoch=self._sampler.steps_per_epoch,
            epochs=self._training.epochs,
            warmup_steps=self._training.warmup_steps,
        )
        set_learning_rate(self._optimizer, self._learning_rate)

    def _clip(self) -> None:
        most = self._training.max_grad_norm
        if most > 0:
            norm = self._fabric.clip_gradients(self._wrapped, self._optimizer, max_norm=most, error_if_nonfinite=False)
            check_gradient(cast(torch.Tensor, norm), self.step + 1, self._training)

    def _to_device(self, part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(self._fabric.to_device(one) for one in part)
        return self._fabric.to_device(part)
