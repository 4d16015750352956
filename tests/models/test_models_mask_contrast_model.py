"""The MaskContrast network: its heads, what is frozen, errors."""

import pytest
import torch

from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, ViewMasks, build_model


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


def test_a_hidden_layer_of_the_embedding_head() -> None:
    model = _model(embedding_hidden=5)
    assert [tuple(p.shape) for p in model.embedding_head.parameters()] == [(5, 8, 1, 1), (5,), (6, 5, 1, 1), (6,)]
    assert isinstance(model.embedding_head[1], torch.nn.ReLU)  # type: ignore[index]


def test_masks_are_embedded_as_the_head_of_their_mean_features() -> None:
    model = _model(embedding_hidden=5, embedding_of="masks").eval()
    images = torch.randn(2, 3, 48, 64)  # the grid is 3 x 4
    membership = torch.zeros(3, 48, 64, dtype=torch.bool)
    membership[0, :16, 16:48] = True  # cells (0, 1) and (0, 2)
    membership[1, 32:, :8] = True  # half of cell (2, 0)
    membership[2, 32:, :16] = membership[2, :16, :8] = True  # cell (2, 0) and half of (0, 0)
    output = model(images, ViewMasks(membership, torch.tensor([0, 0, 1])))
    features = output.decoder.detach()
    means = [
        (features[0, :, 0, 1] + features[0, :, 0, 2]) / 2,
        features[0, :, 2, 0],
        (features[1, :, 2, 0] + features[1, :, 0, 0] / 2) / 1.5,
    ]
    for mean, embedding in zip(means, output.embedding, strict=True):
        scaled = mean / mean.square().mean().sqrt()
        expected = model.embedding_head(scaled[None, :, None, None])[0, :, 0, 0]
        assert torch.allclose(embedding, expected, atol=1e-5)
    assert torch.allclose(model.embed(means[0][None]), model.embed(7 * means[0][None]), atol=1e-5)
    pixels = model(images).embedding
    assert torch.allclose(pixels[0, :, 2, 0], output.embedding[1], atol=1e-5)  # a pixel is a mask of one


def test_a_network_of_pixels_takes_no_masks() -> None:
    with pytest.raises(ValueError, match="build it with embedding_of masks"):
        _model()(torch.randn(1, 3, 32, 32), ViewMasks(torch.ones(1, 32, 32), torch.tensor([0])))


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


def test_local_images_go_through_after_the_others() -> None:
    """In evaluation mode their embedding is that of any image; in training, batch norm treats them by themselves."""
    model = _model(dropout=0.0).eval()
    images, local = torch.randn(2, 3, 48, 64), torch.randn(5, 3, 32, 32)
    both = model(images, None, local)
    assert torch.equal(both.embedding, model(images).embedding)
    assert torch.equal(both.local_embedding, model(local).embedding)
    assert model(images).local_embedding is None
    model.train()
    assert torch.equal(model(images, None, local).embedding, model(images).embedding)


def test_prototypes_are_unit_vectors_that_are_learned() -> None:
    plain, model = _model(), _model(num_prototypes=7)
    assert model.state_dict().keys() - plain.state_dict().keys() == {"prototypes.weight"}
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)  # drawn last
    with torch.no_grad():
        model.prototypes.weight.mul_(3)
    output = model(torch.randn(2, 3, 32, 32))
    assert output.prototypes.shape == (7, 6)
    assert torch.allclose(output.prototypes.norm(dim=1), torch.ones(7))
    output.prototypes[:, 0].sum().backward()
    assert torch.count_nonzero(model.prototypes.weight.grad) > 0
    model.normalise_prototypes()
    assert torch.allclose(model.prototypes.weight.norm(dim=1), torch.ones(7))
    assert plain(torch.randn(2, 3, 32, 32)).prototypes is None
