"""The step against the published one written out plainly, in fp32, from the same weights."""

import pytest
import torch
from lightning_fabric import Fabric

from benchmarks.plain_step import PlainNetwork, PlainTrainer
from densessl.models.mask_contrast_model import ModelSettings, build_model
from densessl.models.momentum_twin import update_twin
from densessl.objectives.settings import ObjectiveSettings
from densessl.structures import ViewBatch
from densessl.training.settings import TrainingSettings
from densessl.training.state import new_state
from densessl.training.step import training_step


def _batch(seed: int) -> ViewBatch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 4, 3, 64, 64, generator=generator)
    masks = torch.zeros(2, 4, 64, 64, dtype=torch.int64)
    for view in range(2):
        for number in range(4):
            masks[view, number, 5 + 3 * number : 50, 9 + view : 40 + 5 * number] = 1
    return ViewBatch(images[0], masks[0], images[1], masks[1], tuple("abcd"))


def test_the_published_step_at_full_resolution() -> None:
    """The same losses, step after step, so gradients, twin and memory bank agree as well."""
    torch.manual_seed(0)
    settings = ModelSettings(encoder="test_resnet", output_stride=16, dropout=0.0)
    objective = ObjectiveSettings(resolution="full", queue_length=9)
    training = TrainingSettings(learning_rate=0.01, precision="fp32")
    model = build_model(settings)
    plain = PlainNetwork("test_resnet", 16)
    plain.load_ours(model.state_dict())
    state = new_state(model, settings.embedding_dim, objective, training, 0)
    trainer = PlainTrainer(plain, state.bank.prototypes, learning_rate=0.01)
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped, optimizer = fabric.setup(state.model, state.optimizer)
    wrapped.train()
    state.twin.train()
    for step in range(3):
        batch = _batch(step)
        update_twin(state.twin, state.model, objective.momentum)
        optimizer.zero_grad()
        result = training_step(fabric, wrapped, state.twin, state.bank.prototypes, batch, objective, "pixels")
        fabric.backward(result.loss)
        optimizer.step()
        state.bank.enqueue(result.term.prototypes)
        assert float(result.loss.detach()) == pytest.approx(trainer.step(batch), rel=1e-4)
    torch.testing.assert_close(state.bank.prototypes, trainer.queue, rtol=1e-3, atol=1e-3)
