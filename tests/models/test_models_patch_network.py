"""The patch network: its cells, what they see, its file."""

from pathlib import Path

import pytest
import torch

from densessl.errors import InputError, MissingInputError
from densessl.models.network_file import save_network
from densessl.models.patch_network import (
    FIELD_PX,
    SIZE_PX,
    STRIDE_PX,
    PatchNetwork,
    PatchNetworkHeader,
    load_patch_network,
    save_patch_network,
)
from densessl.models.saliency_network import SaliencyNetwork, SaliencyNetworkHeader, save_saliency_network


@pytest.fixture
def network() -> PatchNetwork:
    torch.manual_seed(0)
    return PatchNetwork().eval()


@pytest.mark.parametrize(("height", "width"), [(25, 160), (107, 160), (60, 31)])
def test_as_many_cells_as_patches_fit(network: PatchNetwork, height: int, width: int) -> None:
    with torch.inference_mode():
        logits = network(torch.randn(2, 3, height, width))
    assert logits.shape == (2, (height - FIELD_PX) // STRIDE_PX + 1, (width - FIELD_PX) // STRIDE_PX + 1)


def test_a_cell_sees_its_patch_and_nothing_else(network: PatchNetwork) -> None:
    image = torch.randn(1, 3, 61, 73, requires_grad=True)
    network(image)[0, 4, 7].backward()
    assert image.grad is not None
    rows, columns = torch.nonzero(image.grad[0].abs().sum(0), as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (4 * STRIDE_PX, 4 * STRIDE_PX + FIELD_PX - 1)
    assert (int(columns.min()), int(columns.max())) == (7 * STRIDE_PX, 7 * STRIDE_PX + FIELD_PX - 1)


def test_where_a_patch_lies_does_not_change_its_logit(network: PatchNetwork) -> None:
    patch = torch.randn(1, 3, FIELD_PX, FIELD_PX)
    image = torch.zeros(1, 3, 65, 65)
    image[:, :, 16 : 16 + FIELD_PX, 40 : 40 + FIELD_PX] = patch
    with torch.inference_mode():
        torch.testing.assert_close(network(image)[0, 4, 10], network(patch)[0, 0, 0], rtol=1e-4, atol=1e-5)


def test_it_comes_back_from_its_file(network: PatchNetwork, tmp_path: Path) -> None:
    save_patch_network(tmp_path / "network.safetensors", network, PatchNetworkHeader(num_images=7, rounds=2))
    again, header = load_patch_network(tmp_path / "network.safetensors")
    assert header == PatchNetworkHeader(num_images=7, rounds=2)
    assert not again.training
    image = torch.randn(1, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(again(image), network(image))


def test_files_that_are_none(network: PatchNetwork, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no patch network .* that `--method learned_patches` writes"):
        load_patch_network(tmp_path / "none.safetensors")
    header = SaliencyNetworkHeader("resnet18", 64, 0.5, "none")
    save_saliency_network(tmp_path / "other.safetensors", SaliencyNetwork("resnet18"), header)
    with pytest.raises(InputError, match="lacks the header patch_network"):
        load_patch_network(tmp_path / "other.safetensors")
    content = {"size_px": 320, "num_images": 7, "rounds": 1}
    save_network(tmp_path / "size.safetensors", network.state_dict(), "patch_network", content)
    with pytest.raises(InputError, match=rf"is \"\{{'size_px': 320, .*it must give size_px {SIZE_PX}"):
        load_patch_network(tmp_path / "size.safetensors")
    save_network(tmp_path / "less.safetensors", {}, "patch_network", content | {"size_px": SIZE_PX})
    with pytest.raises(InputError, match="holds other tensors than a patch network"):
        load_patch_network(tmp_path / "less.safetensors")
