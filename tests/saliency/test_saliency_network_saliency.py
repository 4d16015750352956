"""Saliency by a network from a file: size, range, mirror, errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from densessl.errors import InputError, MissingInputError
from densessl.models.saliency_network import (
    SaliencyNetwork,
    SaliencyNetworkHeader,
    load_saliency_network,
    save_saliency_network,
)
from densessl.saliency import network_saliency as module
from densessl.saliency.network_saliency import (
    network_logits,
    network_record,
    network_saliency,
    network_view,
    view_with_logits,
)

HEADER = SaliencyNetworkHeader("resnet18", size_px=48, view_share=0.75, supervision="none")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "network.safetensors"
    save_saliency_network(path, SaliencyNetwork("resnet18").eval(), HEADER)
    return path


@pytest.mark.parametrize("size", [(40, 60), (200, 90), (33, 33)])
def test_map_has_the_size_of_the_image_and_turns_with_it(size, path):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    soft = network_saliency(image, path)
    assert soft.shape == size
    assert soft.dtype == np.float32
    assert 0 <= soft.min() <= soft.max() <= 1
    mirrored = network_saliency(np.ascontiguousarray(image[:, ::-1]), path)
    np.testing.assert_allclose(mirrored[:, ::-1], soft, atol=1e-3)  # resizing rounds to whole grey values


@pytest.mark.parametrize(
    ("size", "share", "seen"),
    [
        ((200, 100), 1.0, (68, 34)),  # 48**2 pixels
        ((24, 24), 0.75, (55, 55)),  # enlarged: 48**2 / 0.75 pixels
        ((10, 40), 0.25, (48, 192)),
    ],
)
def test_the_network_sees_the_scale_of_its_training_views(size, share, seen, monkeypatch):
    shapes = []

    class Flat(torch.nn.Linear):
        def forward(self, images):
            shapes.append(tuple(images.shape))
            return torch.zeros(len(images), *images.shape[-2:])

    monkeypatch.setattr(module, "_open", lambda path: (Flat(1, 1), replace(HEADER, view_share=share)))
    soft = network_saliency(np.zeros((*size, 3), np.uint8), None)
    assert shapes == [(2, 3, *seen)]
    assert soft.shape == size
    assert (soft == 0.5).all()


def test_logits_of_all_scales_are_averaged(monkeypatch):
    class Sides(torch.nn.Linear):
        def forward(self, images):
            return torch.full((len(images), *images.shape[-2:]), float(images.shape[-1]))

    header = replace(HEADER, view_share=1.0, scales=(1.0, 0.5, 2.0))
    view, logits = view_with_logits(np.zeros((96, 96, 3), np.uint8), Sides(1, 1), header)
    assert view.shape == (48, 48, 3)
    assert logits.shape == (48, 48)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, (48 + 24 + 96) / 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_in_either_number_format(precision, path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    network, header = load_saliency_network(path)
    monkeypatch.setattr(module, "choose_precision", lambda setting, device: precision)
    view = network_view(image, header)
    logits = network_logits(view, network)
    assert logits.shape == view.shape[:2] == (45, 68)
    assert logits.dtype == np.float32
    monkeypatch.setattr(module, "choose_precision", lambda setting, device: "fp32")
    exact = network_logits(view, network)
    np.testing.assert_allclose(logits, exact, atol=0.02 * np.abs(exact).max() if precision == "bf16" else 0)


def test_record_names_the_file_by_its_content(path):
    record = network_record(path)
    assert record["supervision"] == "none"
    assert len(record["weights_sha256"]) == 64


def test_without_a_file(tmp_path):
    with pytest.raises(InputError, match="needs a network; train one with"):
        network_saliency(np.zeros((8, 8, 3), np.uint8), None)
    with pytest.raises(MissingInputError, match="no saliency network"):
        network_record(tmp_path / "none.safetensors")
