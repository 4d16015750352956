"""The network of DINO: crops of several sizes in order, stochastic depth, and encoders that do not fit."""

import pytest
import timm
import torch

from densessl.errors import InputError
from densessl.models.projection_head import ProjectionHeadSettings
from densessl.models.self_distillation_network import SelfDistillationNetwork, build_self_distillation_network

HEAD = ProjectionHeadSettings(num_outputs=7, hidden_dim=8, bottleneck_dim=4)


def _network(drop_path: float = 0.0) -> SelfDistillationNetwork:
    torch.manual_seed(0)
    return build_self_distillation_network("test_vit", HEAD, size_px=48, drop_path=drop_path)


def test_scores_are_those_of_each_crop_in_order() -> None:
    network, large, small = _network().eval(), torch.randn(2, 3, 48, 48), torch.randn(4, 3, 32, 32)
    scores = network(large, small)
    assert scores.shape == (6, 7)
    alone = torch.cat([network(image[None]) for image in (*large, *small)])
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(large, small[:0]), scores[:2], rtol=1e-4, atol=1e-5)


def test_the_encoder_is_timms_network_at_its_own_size() -> None:
    network, images = _network().eval(), torch.randn(2, 3, 48, 48)
    tokens = network.encoder.backbone.forward_features(images)
    torch.testing.assert_close(network(images), network.head(tokens[:, 0]), rtol=1e-4, atol=1e-5)
    assert network.encoder.backbone.patch_embed.grid_size == (3, 3)


def test_branches_are_left_out_in_training_alone() -> None:
    network, images = _network(0.5), torch.randn(8, 3, 48, 48)
    rates = [float(getattr(block.drop_path1, "drop_prob", 0.0)) for block in network.encoder.backbone.blocks]
    assert rates == pytest.approx([0.5 * number / (len(rates) - 1) for number in range(len(rates))])
    assert not torch.equal(network.train()(images), network(images))
    assert torch.equal(network.eval()(images), network(images))


def test_tensors_of_the_encoder_fit_timms_network() -> None:
    tensors = _network().encoder_tensors()
    plain = timm.create_model("test_vit", num_classes=0, img_size=48)
    found = plain.load_state_dict({name.removeprefix("encoder.backbone."): value for name, value in tensors.items()})
    assert not found.missing_keys
    assert not found.unexpected_keys


@pytest.mark.parametrize("encoder", ["test_resnet", "resnet18", "test_vit2"])
def test_networks_without_class_token_are_refused(encoder: str) -> None:
    message = rf"model.encoder is {encoder}, but objective.method dino trains the \[CLS\] token"
    with pytest.raises(InputError, match=message):
        build_self_distillation_network(encoder, HEAD, size_px=48)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="is not a timm model name"):
        build_self_distillation_network("vit_nothing", HEAD, size_px=48)
