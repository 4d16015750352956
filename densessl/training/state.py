"""Everything that training changes: network, momentum twin, memory bank, optimiser."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.models.momentum_twin import make_twin
from densessl.objectives.memory_bank import MemoryBank
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.settings import TrainingSettings
from densessl.training.sharding import held_as, whole


@dataclass
class TrainingState:
    """The mutable state of a run.

    Anything random in a step follows from (seed, step), so no generator is part of it.
    """

    model: MaskContrastModel
    twin: torch.nn.Module
    bank: MemoryBank
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    num_replaced: int = 0

    def to_checkpoint(self) -> dict[str, Any]:
        """Return the state as tensors, numbers and dictionaries, the same however it is spread over processes.

        Where parameters are sharded they are gathered on rank 0, so all processes call together.
        """
        return {
            "model": whole(self.model.state_dict()),
            "twin": whole(self.twin.state_dict()),
            "bank": self.bank.state_dict(),
            "optimizer": whole(self.optimizer.state_dict()),
            "seconds": self.seconds,
            "num_replaced": self.num_replaced,
        }

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over a checkpoint's content; raises `InputError` where it belongs to another architecture."""
        with same_architecture(checkpoint):
            for network, name in ((self.model, "model"), (self.twin, "twin")):
                own = network.state_dict()
                parts = {key: held_as(value, own.get(key, value)) for key, value in checkpoint[name].items()}
                network.load_state_dict(parts)
            self.bank.load_state_dict(checkpoint["bank"])
            load_optimizer(self.optimizer, checkpoint["optimizer"])
        self.step = int(checkpoint["step"])
        self.seconds = float(checkpoint["seconds"])
        self.num_replaced = int(checkpoint["num_replaced"])


@contextmanager
def same_architecture(checkpoint: Mapping[str, Any]) -> Iterator[None]:
    """While a checkpoint is taken over: raise `InputError` where its parts do not fit the network or optimiser."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError) as error:
        difference = " ".join(str(error).split())[:300]
        raise InputError(
            f"the checkpoint after step {checkpoint.get('step')} belongs to another architecture ({difference}); "
            "resume with the configuration it was written with, or start a new run in another folder"
        ) from error


def new_state(
    model: MaskContrastModel,
    embedding_dim: int,
    objective: ObjectiveSettings,
    training: TrainingSettings,
    seed: int,
) -> TrainingState:
    """Assemble the state before the first step."""
    bank = MemoryBank(objective.queue_length, embedding_dim, torch.Generator().manual_seed(seed))
    return TrainingState(model, make_twin(model), bank, build_optimizer(model, training))


def build_optimizer(
    model: MaskContrastModel, training: TrainingSettings, *, is_fused: bool = True
) -> torch.optim.Optimizer:
    """Build the optimiser over the trainable parameters, the encoder's in a group of its own.

    Each group carries `lr_scale`, by which the schedule's learning rate is multiplied. Fused: one pass over memory in
    place of several; PyTorch does not offer it for sharded parameters.
    """
    encoder = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    inside = {id(parameter) for parameter in model.encoder.parameters()}
    rest = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in inside]
    groups = [
        {"params": encoder, "lr_scale": training.encoder_lr_scale},
        {"params": rest, "lr_scale": 1.0},
    ]
    kind: Literal["sgd", "adamw"] = training.optimizer
    match kind:
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=training.learning_rate,
                momentum=training.momentum,
                weight_decay=training.weight_decay,
                fused=is_fused,
            )
        case "adamw":
            return torch.optim.AdamW(
                groups, lr=training.learning_rate, weight_decay=training.weight_decay, fused=is_fused
            )


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Restore an optimiser's moments and rates; whether it is fused or sharded stays as it is here."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    is_fused = [group["fused"] for group in optimizer.param_groups]
    parts = {
        number: {name: held_as(value, parameters[number]) for name, value in moments.items()}
        for number, moments in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": parts})
    for group, value in zip(optimizer.param_groups, is_fused, strict=True):
        group["fused"] = value


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group the learning rate times its own `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
