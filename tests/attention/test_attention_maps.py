"""Attention maps: what is computed, what is not computed twice, sizes, and refusals."""

import pytest
import torch

from densessl.attention.maps import Attention, attention_maps, to_pixels
from densessl.attention.rollout import rollout
from densessl.errors import InputError
from densessl.models.encoders import build_encoder
from densessl.models.vision_transformer import VisionTransformer


@pytest.fixture
def model() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(build_encoder("test_vit").backbone.eval())


IMAGES = torch.randn(2, 3, 40, 70, generator=torch.Generator().manual_seed(1))


def test_layers_come_in_the_order_asked_for(model: VisionTransformer) -> None:
    every = attention_maps(model, IMAGES, tuple(range(model.num_layers)))
    some = attention_maps(model, IMAGES, (-1, 0))
    assert some.layers == (model.num_layers - 1, 0)
    assert some.maps.shape == (2, 2, model.num_heads, 3, 5)
    torch.testing.assert_close(some.maps, every.maps[:, [-1, 0]])
    assert some.features is None
    assert some.queries == ()
    assert ((some.maps.sum((-2, -1)) < 1) & (some.maps > 0).all((-2, -1))).all()  # the rest is for [CLS]


def test_images_of_a_batch_do_not_touch(model: VisionTransformer) -> None:
    both, alone = (attention_maps(model, images, for_rollout=True) for images in (IMAGES, IMAGES[1:]))
    torch.testing.assert_close(both.maps[1:], alone.maps, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rollout(both)[1:], rollout(alone), atol=1e-6, rtol=1e-5)


def test_layers_after_the_last_one_asked_for_do_not_run(model: VisionTransformer) -> None:
    ran = []
    for number, block in enumerate(model.backbone.blocks):
        block.register_forward_hook(lambda module, given, output, number=number: ran.append(number))
    attention_maps(model, IMAGES, (1,))
    assert ran == [0, 1]
    ran.clear()
    attention_maps(model, IMAGES, (1,), with_features=True)
    assert ran == list(range(model.num_layers))


def test_attention_stays_fused_and_is_computed_once(model: VisionTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = torch.nn.functional.scaled_dot_product_attention
    calls = []

    def counted(*arguments, **options):
        calls.append(1)
        return fused(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    projected = []
    for block in model.backbone.blocks:
        block.attn.qkv.register_forward_hook(lambda module, given, output: projected.append(1))
    attention_maps(model, IMAGES, (0, -1), for_rollout=True, with_features=True)
    assert len(calls) == len(projected) == model.num_layers


def test_features_are_those_without_watching(model: VisionTransformer) -> None:
    features = attention_maps(model, IMAGES, with_features=True).features
    with torch.no_grad():
        assert torch.equal(features, model.to_grid(model(IMAGES), (40, 70)))
    hooks = [norm._forward_hooks for block in model.backbone.blocks for norm in (block.attn.q_norm, block.attn.k_norm)]
    assert not any(hooks)


def test_maps_at_the_size_of_the_image() -> None:
    maps = torch.arange(6.0).reshape(1, 2, 3)
    pixels = to_pixels(maps, (7, 10), 4)
    assert pixels.shape == (1, 7, 10)
    for row in range(7):
        for column in range(10):
            assert pixels[0, row, column] == maps[0, row // 4, column // 4]
    smooth = to_pixels(maps, (8, 12), 4, mode="bilinear")
    assert smooth[0, 0, 0] == 0
    assert smooth[0, 2, 6] > smooth[0, 2, 5]


def test_rollout_needs_queries_and_keys(model: VisionTransformer) -> None:
    with pytest.raises(InputError, match=r"no queries and keys.*for_rollout=True"):
        rollout(attention_maps(model, IMAGES))


def test_rollout_by_hand() -> None:
    """Two tokens, one head: [CLS] gives the patch a, the patch gives [CLS] b; two layers."""
    shares = ((0.3, 0.4), (0.2, 0.1))
    queries = keys = ()
    for a, b in shares:  # logits of [CLS] and of the patch, as products with keys (1, 0) and (0, 1)
        logits = torch.tensor([[1 - a, a], [b, 1 - b]]).log()
        queries += (logits[None, None],)
        keys += (torch.eye(2)[None, None],)
    attention = Attention(torch.zeros(1, 1, 1, 1, 1), (1,), (1, 1), 1, 1, queries, keys)
    first, second = (0.5 * torch.tensor([[1 - a, a], [b, 1 - b]]) + 0.5 * torch.eye(2) for a, b in shares)
    torch.testing.assert_close(rollout(attention)[0, 0, 0], (second @ first)[0, 1])


def test_refusals(model: VisionTransformer) -> None:
    with pytest.raises(
        InputError,
        match=r"model is a densessl\.models\.encoders\.Encoder; give the transf",
    ):
        attention_maps(build_encoder("test_resnet"), IMAGES)
    with pytest.raises(InputError, match=rf"layer 99 does not exist; the network has {model.num_layers}: 0 to"):
        attention_maps(model, IMAGES, (99,))
    with pytest.raises(InputError, match="no layer is asked for"):
        attention_maps(model, IMAGES, ())
    with pytest.raises(InputError, match=r"shape \(3, 40, 70\)"):
        attention_maps(model, IMAGES[0])
