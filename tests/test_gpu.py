"""On a GPU the numbers are those of the processor. The other tests take the GPU by themselves where there is one."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from densessl.attention.maps import attention_maps
from densessl.models.dense_encoder import TimmSource, timm_encoder
from densessl.models.vision_encoder import open_vision_encoder
from densessl.objectives.mask_contrast import contrast_views
from densessl.objectives.settings import ObjectiveSettings
from densessl.promptable.automatic_masks import automatic_masks
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.training.devices import make_fabric

pytestmark = pytest.mark.gpu

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Multiply in fp32, which a GPU does in TF32 otherwise, and leave the choice of algorithms as it was."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.use_deterministic_algorithms(is_deterministic, warn_only=True)


@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_the_loss_and_its_gradient(resolution: str) -> None:
    generator = torch.Generator().manual_seed(0)
    settings = ObjectiveSettings(resolution=resolution, queue_length=6)  # type: ignore[arg-type]
    query, key = torch.randn(2, 3, 8, 8, 8, generator=generator)
    masks = torch.zeros(2, 3, 32, 32, dtype=torch.int64)
    masks[:, :, 6:25, 9:28] = 1
    queue = F.normalize(torch.randn(6, 8, generator=generator), dim=1)
    losses, gradients = [], []
    for device in (CPU, GPU):
        maps = query.clone().to(device).requires_grad_()
        others = (tensor.to(device) for tensor in (masks[0], key, masks[1], queue))
        term = contrast_views(maps, *others, settings)
        term.loss.backward()
        losses.append(float(term.loss.detach()))
        gradients.append(maps.grad.cpu())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_features_of_an_encoder() -> None:
    torch.manual_seed(1)
    images, found = torch.randn(2, 3, 64, 96), []
    for device in (CPU, GPU):
        torch.manual_seed(0)
        found.append(timm_encoder(TimmSource("resnet10t"), device).function(images.to(device)).cpu())
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_attention() -> None:
    torch.manual_seed(0)
    network = open_vision_encoder(TimmSource("test_vit"), CPU).transformer
    assert network is not None
    images = torch.randn(2, 3, 160, 128)
    expected = attention_maps(network, images).maps
    found = attention_maps(network.to(GPU), images.to(GPU)).maps
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-6)


def test_masks_of_a_prompt() -> None:
    torch.manual_seed(0)
    model = build_promptable_model(PromptableSettings("resnet10t", 128, dim=32, decoder_heads=2)).eval()
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    prompt = ([[40, 30], [90, 70]], [1, 0], [20, 10, 80, 70])
    on_cpu = Predictor(model, "cpu", "fp32").set_image(image).predict(*prompt)
    on_gpu = Predictor(model, "cuda", "fp32").set_image(image).predict(*prompt)
    np.testing.assert_allclose(on_gpu.low_resolution, on_cpu.low_resolution, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(on_gpu.predicted_iou, on_cpu.predicted_iou, rtol=1e-3, atol=1e-4)


def test_automatic_masks() -> None:
    torch.manual_seed(0)
    model = build_promptable_model(PromptableSettings("resnet10t", 128, dim=32, decoder_heads=2)).eval()
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    everything = AutomaticSettings(
        points_per_side=3, predicted_iou_threshold=0, stability_threshold=0, box_nms_threshold=1
    )
    on_cpu, on_gpu = (
        automatic_masks(Predictor(model, device, "fp32"), image, everything) for device in ("cpu", "cuda")
    )
    assert len(on_gpu) == len(on_cpu) > 0
    for mask in on_gpu:
        others = [other.runs.mask() for other in on_cpu if other.point == mask.point]
        assert min((mask.runs.mask() != other).mean() for other in others) < 0.01


def test_training_repeats_itself() -> None:
    """Upsampling, indexing and convolution have algorithms that do not, and torch chooses them unless told."""
    found = []
    for _ in range(2):
        fabric = make_fabric("bf16")
        torch.manual_seed(0)
        enlarge = torch.nn.Upsample(scale_factor=3, mode="bilinear")
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), enlarge)
        network = fabric.setup(network)
        rows = torch.randint(0, 48, (4096,), device=fabric.device)
        values = network(torch.randn(4, 3, 16, 16, device=fabric.device)).flatten(2).flatten(0, 1)
        loss = values.float().T[rows].square().sum() + values[:, 0].float().sum()
        fabric.backward(loss)
        found.append(network.module[0].weight.grad.clone())
    assert fabric.device.type == "cuda"
    assert torch.equal(*found)
