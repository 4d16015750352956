"""The border network: its cells, what they see, its file."""

from pathlib import Path

import pytest
import torch

from densessl.errors import InputError, MissingInputError
from densessl.models.border_network import (
    FIELD_PX,
    SIZE_PX,
    STRIDE_PX,
    BorderNetwork,
    load_border_network,
    save_border_network,
)
from densessl.models.network_file import save_network
from densessl.models.saliency_network import SaliencyNetwork, SaliencyNetworkHeader, save_saliency_network


@pytest.fixture
def network() -> BorderNetwork:
    torch.manual_seed(0)
    return BorderNetwork().eval()


@pytest.mark.parametrize(("height", "width"), [(25, 160), (107, 160), (60, 31)])
def test_as_many_cells_as_patches_fit(network: BorderNetwork, height: int, width: int) -> None:
    with torch.inference_mode():
        logits = network(torch.randn(2, 3, height, width))
    assert logits.shape == (2, (height - FIELD_PX) // STRIDE_PX + 1, (width - FIELD_PX) // STRIDE_PX + 1)


def test_a_cell_sees_its_patch_and_nothing_else(network: BorderNetwork) -> None:
    image = torch.randn(1, 3, 61, 73, requires_grad=True)
    network(image)[0, 4, 7].backward()
    assert image.grad is not None
    rows, columns = torch.nonzero(image.grad[0].abs().sum(0), as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (4 * STRIDE_PX, 4 * STRIDE_PX + FIELD_PX - 1)
    assert (int(columns.min()), int(columns.max())) == (7 * STRIDE_PX, 7 * STRIDE_PX + FIELD_PX - 1)


def test_where_a_patch_lies_does_not_change_its_logit(network: BorderNetwork) -> None:
    patch = torch.randn(1, 3, FIELD_PX, FIELD_PX)
    image = torch.zeros(1, 3, 65, 65)
    image[:, :, 16 : 16 + FIELD_PX, 40 : 40 + FIELD_PX] = patch
    with torch.inference_mode():
        torch.testing.assert_close(network(image)[0, 4, 10], network(patch)[0, 0, 0], rtol=1e-4, atol=1e-5)


def test_it_comes_back_from_its_file(network: BorderNetwork, tmp_path: Path) -> None:
    save_border_network(tmp_path / "network.safetensors", network)
    again = load_border_network(tmp_path / "network.safetensors")
    assert not again.training
    image = torch.randn(1, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(again(image), network(image))


def test_files_that_are_none(network: BorderNetwork, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no border network .* that `--method learned_border` writes"):
        load_border_network(tmp_path / "none.safetensors")
    header = SaliencyNetworkHeader("resnet18", 64, 0.5, "none")
    save_saliency_network(tmp_path / "other.safetensors", SaliencyNetwork("resnet18"), header)
    with pytest.raises(InputError, match="lacks the header border_network"):
        load_border_network(tmp_path / "other.safetensors")
    save_network(tmp_path / "size.safetensors", network.state_dict(), "border_network", {"size_px": 320})
    with pytest.raises(InputError, match=rf"trained as \{{'size_px': 320\}}; expected size_px {SIZE_PX}"):
        load_border_network(tmp_path / "size.safetensors")
    save_network(tmp_path / "less.safetensors", {}, "border_network", {"size_px": SIZE_PX})
    with pytest.raises(InputError, match="holds other tensors than a border network"):
        load_border_network(tmp_path / "less.safetensors")
