"""The projection head of DINO: cosines by hand, its start, and an independent implementation."""

import pytest
import torch
from torch.nn import functional as F

from densessl.errors import InputError
from densessl.models.projection_head import ProjectionHead, ProjectionHeadSettings, UnitLinear

SMALL = ProjectionHeadSettings(num_outputs=11, hidden_dim=9, bottleneck_dim=5)


def test_outputs_are_cosines_between_bottleneck_and_rows() -> None:
    torch.manual_seed(0)
    head, tokens = ProjectionHead(6, SMALL), torch.randn(4, 6)
    scores = head(tokens)
    bottleneck, rows = head.mlp(tokens), head.last_layer.direction
    for image in range(4):
        for output in range(11):
            expected = torch.dot(bottleneck[image], rows[output]) / (bottleneck[image].norm() * rows[output].norm())
            assert float(scores[image, output]) == pytest.approx(float(expected), abs=1e-6)


def test_layers_and_their_start() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(6, ProjectionHeadSettings(num_outputs=3, hidden_dim=400, bottleneck_dim=5))
    linear = [layer for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(6, 400), (400, 400), (400, 5)]
    assert float(linear[1].weight.std()) == pytest.approx(0.02, rel=0.02)
    assert all(not layer.bias.any() for layer in linear)
    assert isinstance(head.mlp[-1], torch.nn.Linear)  # no GELU before the unit vectors
    one = ProjectionHead(6, ProjectionHeadSettings(num_outputs=3, num_layers=1, bottleneck_dim=5))
    assert [type(layer).__name__ for layer in one.mlp] == ["Linear"]


def test_lengths_learn_only_where_they_are_free() -> None:
    fixed, free = UnitLinear(4, 3, True), UnitLinear(4, 3, False)
    assert (fixed.length.requires_grad, free.length.requires_grad) == (False, True)
    free.length.data[:] = 2
    free.direction.data[:] = fixed.direction
    vectors = torch.randn(2, 4)
    torch.testing.assert_close(free(vectors), 2 * fixed(vectors))


def test_equals_weight_norm_of_torch_with_gradients() -> None:
    torch.manual_seed(0)
    ours, vectors = UnitLinear(4, 3, False), torch.randn(5, 4)
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 3, bias=False))
    parts = theirs.parametrizations.weight
    parts.original0.data[:], parts.original1.data[:] = ours.length.detach(), ours.direction.detach()
    for layer in (ours, theirs):
        layer(vectors).square().sum().backward()
    torch.testing.assert_close(ours(vectors), theirs(vectors))
    torch.testing.assert_close(ours.direction.grad, parts.original1.grad)
    torch.testing.assert_close(ours.length.grad, parts.original0.grad)


def test_equals_lightly() -> None:
    heads = pytest.importorskip("lightly.models.modules.heads", reason="lightly is not installed")
    torch.manual_seed(0)
    ours = ProjectionHead(6, SMALL)
    theirs = heads.DINOProjectionHead(6, 9, 5, 11, norm_last_layer=True)
    linear = [layer for layer in theirs.layers if isinstance(layer, torch.nn.Linear)]
    for mine, other in zip([layer for layer in ours.mlp if hasattr(layer, "weight")], linear, strict=True):
        other.load_state_dict(mine.state_dict())
    theirs.last_layer.weight_v.data[:] = ours.last_layer.direction
    tokens = torch.randn(4, 6)
    torch.testing.assert_close(ours(tokens), theirs(tokens))
    assert not theirs.last_layer.weight_g.requires_grad


def test_settings_out_of_range() -> None:
    with pytest.raises(InputError, match=r"dino.head.num_outputs is 1; it must be at least 2"):
        ProjectionHeadSettings(num_outputs=1)


def test_gradient_is_right() -> None:
    torch.manual_seed(0)
    layer = UnitLinear(3, 2, False).double()
    vectors = F.normalize(torch.randn(2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(layer, (vectors,))
