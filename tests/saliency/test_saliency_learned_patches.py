"""The default's evidence and a patch network's: the sum by hand, sizes, what a cell stands for, errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from densessl.errors import InputError, MissingInputError
from densessl.files import file_sha256
from densessl.models.patch_network import PatchNetwork, PatchNetworkHeader, save_patch_network
from densessl.saliency import learned_patches as module
from densessl.saliency.fused import fused
from densessl.saliency.learned_patches import learned_patches, patch_logits, patch_network_record


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "network.safetensors"
    save_patch_network(path, PatchNetwork(), PatchNetworkHeader(num_images=7, rounds=2))
    return path


@pytest.fixture
def image() -> np.ndarray:
    scene = np.random.default_rng(0).integers(0, 60, (120, 160, 3), dtype=np.uint8)
    scene[30:90, 50:110, 0] += 150
    return scene


def test_the_evidence_is_added_up(path: Path, image: np.ndarray) -> None:
    default = np.clip(fused(image).astype(np.float64), 0.01, 0.99)
    logits = patch_logits(image, module.load_patch_network(path)[0])  # the image has the size of the copy
    smooth = cv2.GaussianBlur(logits, (0, 0), 2.5).astype(np.float64)
    expected = 1 / (1 + (1 - default) / default * np.exp(-0.5 * smooth))
    np.testing.assert_allclose(learned_patches(image, path), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 60), (300, 200), (1, 1), (3, 200)])
def test_map_has_the_size_of_the_image(size: tuple[int, int], path: Path) -> None:
    soft = learned_patches(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8), path)
    assert soft.shape == size
    assert soft.dtype == np.float32
    assert 0 <= soft.min() <= soft.max() <= 1


def test_logits_lie_where_their_patches_are() -> None:
    """A network that answers with the mean brightness of its patch finds a bright square in its place."""

    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 25, stride=4)[:, 0]

    view = np.zeros((90, 131, 3), dtype=np.uint8)
    view[30:60, 50:90] = 255
    logits = patch_logits(view, Brightness())  # type: ignore[arg-type]
    assert logits.shape == (90, 131)
    weights = logits - logits.min()
    rows, columns = np.indices(weights.shape)
    assert (rows * weights).sum() / weights.sum() == pytest.approx(44.5, abs=0.6)
    assert (columns * weights).sum() / weights.sum() == pytest.approx(69.5, abs=0.6)


def test_the_record_names_the_file_by_its_content(path: Path) -> None:
    assert patch_network_record(path) == {"weights_sha256": file_sha256(path), "num_images": 7, "rounds": 2}


def test_no_network(image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="learned_patches needs a network; train one with `densessl saliency --method"):
        learned_patches(image, None)
    with pytest.raises(MissingInputError, match="no patch network"):
        learned_patches(image, tmp_path / "none.safetensors")
