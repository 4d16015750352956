"""The training state: parameter groups, learning rates, what a checkpoint holds."""

import pytest
import torch
from tiny_training import MODEL, OBJECTIVE, TRAINING, changed

from densessl.errors import InputError
from densessl.models.mask_contrast_model import build_model
from densessl.training.settings import TrainingSettings
from densessl.training.state import TrainingState, build_optimizer, new_state, set_learning_rate


def _state(seed: int = 0, training: TrainingSettings = TRAINING) -> TrainingState:
    torch.manual_seed(seed)
    return new_state(build_model(MODEL), MODEL.embedding_dim, OBJECTIVE, training, seed)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_encoder_has_a_group_of_its_own(optimizer: str) -> None:
    training = changed(training={"optimizer": optimizer, "encoder_lr_scale": 0.1, "weight_decay": 0.02}).training
    state = _state(training=training)
    encoder, rest = state.optimizer.param_groups
    assert {id(p) for p in encoder["params"]} == {id(p) for p in state.model.encoder.parameters()}
    everything = {id(p) for p in state.model.parameters()}
    assert {id(p) for p in rest["params"]} == everything - {id(p) for p in encoder["params"]}
    assert encoder["weight_decay"] == rest["weight_decay"] == 0.02
    set_learning_rate(state.optimizer, 0.5)
    assert (encoder["lr"], rest["lr"]) == (pytest.approx(0.05), 0.5)


def test_frozen_parameters_are_in_no_group() -> None:
    model = build_model(changed(model={"frozen": ("conv1", "layer1")}).model)
    grouped = {id(p) for group in build_optimizer(model, TRAINING).param_groups for p in group["params"]}
    assert grouped == {id(p) for p in model.parameters() if p.requires_grad}
    assert any(not p.requires_grad for p in model.parameters())


def test_the_first_state_follows_from_the_seed() -> None:
    first, second, other = _state(3), _state(3), _state(4)
    assert torch.equal(first.bank.prototypes, second.bank.prototypes)
    assert not torch.equal(first.bank.prototypes, other.bank.prototypes)
    assert first.bank.prototypes.shape == (OBJECTIVE.queue_length, MODEL.embedding_dim)
    assert (first.step, first.seconds, first.num_replaced) == (0, 0.0, 0)


def test_a_checkpoint_restores_everything() -> None:
    state, other = _state(0), _state(1)
    state.model(torch.randn(2, 3, 32, 32)).embedding.sum().backward()
    state.optimizer.step()
    state.bank.enqueue(torch.eye(4))
    state.num_replaced = 3
    other.load_checkpoint({"step": 7, **state.to_checkpoint()})
    assert (other.step, other.num_replaced) == (7, 3)
    for mine, theirs in ((state.model, other.model), (state.twin, other.twin), (state.bank, other.bank)):
        for value, restored in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(value, restored)
    moments = [entry["momentum_buffer"] for entry in other.optimizer.state_dict()["state"].values()]
    assert len(moments) > 0
    assert any(moment is not None and moment.abs().sum() > 0 for moment in moments)


def test_another_architecture_or_optimiser_is_refused_in_one_line() -> None:
    checkpoint = {"step": 7, **_state().to_checkpoint()}
    wider = changed(model={"decoder_channels": 24}).model
    other = new_state(build_model(wider), wider.embedding_dim, OBJECTIVE, TRAINING, 0)
    with pytest.raises(InputError, match=r"after step 7 belongs to another architecture \(.*\); resume with") as caught:
        other.load_checkpoint(checkpoint)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    del checkpoint["optimizer"]
    with pytest.raises(InputError, match=r"belongs to another architecture \('optimizer'\)"):
        _state().load_checkpoint(checkpoint)
