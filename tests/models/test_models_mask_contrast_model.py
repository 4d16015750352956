"""The MaskContrast network: its heads, what is frozen, errors."""

import pytest
import torch

from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, build_model


def _model(**values: object) -> MaskContrastModel:
    torch.manual_seed(0)
    settings = {"encoder": "test_resnet", "output_stride": 16, "decoder_channels": 8, "separable_decoder": True}
    return build_model(ModelSettings(**{**settings, "embedding_dim": 6, **values}))  # type: ignore[arg-type]


@pytest.mark.parametrize("decoder", ["deeplabv3", "none"])
def test_outputs_lie_on_one_grid(decoder: str) -> None:
    model = _model(decoder=decoder)
    output = model(torch.randn(1, 3, 32, 50))  # in training mode, a batch of one
    channels = 8 if decoder != "none" else model.encoder.num_channels
    assert output.encoder.shape == (1, model.encoder.num_channels, 2, 4)
    assert output.decoder.shape == (1, channels, 2, 4)
    assert output.embedding.shape == (1, 6, 2, 4)
    assert output.saliency.shape == (1, 1, 2, 4)
    assert model.embedding_head.bias is not None
    assert model.saliency_head.bias is None


def test_frozen_parts_take_no_gradient_and_keep_their_statistics() -> None:
    model = _model(frozen=("conv1", "bn1", "layer1")).train()
    before = {name: value.clone() for name, value in model.encoder.backbone.state_dict().items()}
    model(torch.randn(2, 3, 32, 32)).embedding.sum().backward()
    parts = ("conv1.", "bn1.", "layer1.")
    for name, parameter in model.encoder.backbone.named_parameters():
        assert (parameter.grad is None) == name.startswith(parts)
    moved = {
        name for name, value in model.encoder.backbone.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved
    assert not any(name.startswith(parts) for name in moved)
    assert not model.encoder.backbone.layer1.training  # type: ignore[union-attr]
    assert model.encoder.backbone.layer2.training  # type: ignore[union-attr]
    assert model.decoder.training


def test_a_frozen_name_is_a_whole_name() -> None:
    model = _model(frozen=("layer1.0",))
    frozen = {name.split(".conv")[0] for name, p in model.encoder.backbone.named_parameters() if not p.requires_grad}
    assert {name.split(".bn")[0] for name in frozen} == {"layer1.0"}


def test_frozen_batch_norm_keeps_the_encoders_statistics_but_trains_its_weights() -> None:
    model = _model(batch_norm="frozen").train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(2, 3, 32, 32)).embedding.sum().backward()
    moved = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert not any(name.startswith("encoder.") for name in moved)
    assert any(name.startswith("decoder.") for name in moved)
    assert model.encoder.backbone.bn1.weight.grad is not None  # type: ignore[union-attr]
    assert not model.eval().decoder.training


def test_unfrozen_batch_norm_moves() -> None:
    model = _model().train()
    before = model.encoder.backbone.bn1.running_mean.clone()  # type: ignore[union-attr,operator]
    model(torch.randn(2, 3, 32, 32))
    assert not torch.equal(before, model.encoder.backbone.bn1.running_mean)  # type: ignore[union-attr]


def test_a_frozen_part_that_names_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"model.frozen names 'layer9', which test_resnet does not have; it has \["):
        _model(frozen=("conv1", "layer9"))
    with pytest.raises(InputError, match=r"model.frozen names 'layer'"):  # a prefix of names, but no part
        _model(frozen=("layer",))


def test_no_embedding_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="embedding_dim is 0; it must be at least 1"):
        _model(embedding_dim=0)


def test_the_published_network() -> None:
    settings = ModelSettings()
    assert (settings.output_stride, settings.decoder_channels, settings.embedding_dim) == (8, 256, 32)
    assert (settings.decoder, settings.dropout, settings.separable_decoder) == ("deeplabv3", 0.5, False)
