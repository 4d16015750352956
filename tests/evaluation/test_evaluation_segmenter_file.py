"""Fitted clusters on disk: what is read assigns as what was written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from densessl.errors import InputError, MissingInputError
from densessl.evaluation.clustering import Clustering, assign, cluster_prototypes
from densessl.evaluation.protocols import MASKCONTRAST, NATIVE, ClusterProtocol
from densessl.evaluation.segmenter_file import ProposedMasks, SegmenterHeader, load_segmenter, save_segmenter
from densessl.models.network_file import load_network, save_network
from densessl.structures import Provenance

HEADER = SegmenterHeader(
    run="../run",
    weights="final.safetensors",
    weights_sha256="0" * 64,
    features="embedding",
    foreground="masks",
    proposals=ProposedMasks({"method": "self_trained", "threshold": 0.5}, "../masks/network.safetensors", "1" * 64),
    provenance=Provenance(masks="fitted to none", notes=("one", "two")),
)


SPECTRAL = replace(NATIVE, algorithm="spectral")


def clustering(protocol: ClusterProtocol) -> tuple[np.ndarray, Clustering]:
    vectors = np.random.default_rng(0).normal(size=(60, 24)).astype(np.float32)
    return vectors, cluster_prototypes(vectors, 5, protocol, seed=3)


@pytest.mark.parametrize(
    "protocol", [NATIVE, MASKCONTRAST, replace(NATIVE, pca_dim=None), SPECTRAL], ids=["n", "m", "no_pca", "spectral"]
)
def test_round_trip(protocol: ClusterProtocol, tmp_path: Path) -> None:
    vectors, found = clustering(protocol)
    save_segmenter(tmp_path / "segmenter.safetensors", HEADER, found)
    header, loaded = load_segmenter(tmp_path / "segmenter.safetensors")
    assert header == HEADER
    assert loaded.protocol == protocol
    assert (loaded.seed, loaded.inertia, loaded.notes) == (found.seed, found.inertia, found.notes)
    np.testing.assert_array_equal(loaded.centroids, found.centroids)
    np.testing.assert_array_equal(assign(vectors, loaded), found.assignments)
    assert (loaded.groups is None) == (protocol.algorithm != "spectral")
    assert loaded.num_clusters == 5
    assert (loaded.projection.components is None) == (protocol.pca_dim is None)
    assert (loaded.projection.scale is None) == (not protocol.is_whitened)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("centroids", torch.zeros(0, 16), "not \\(clusters, dim\\)"),
        ("centroids", torch.full((5, 16), torch.nan), "not finite"),
        ("mean", torch.zeros(24, dtype=torch.float64), "torch.float64"),
        ("mean", None, "a PCA has mean and components"),
        ("components", torch.zeros(16, 23), "fit neither mean"),
        ("groups", torch.zeros(4, dtype=torch.int64), "do not fit 5 centroids"),
        ("groups", torch.tensor([0, 2, 0, 2, 0]), "without a gap"),
        ("scale", torch.ones(3), "does not fit centroids of 16 dimensions"),
    ],
)
def test_arrays_that_do_not_belong_together(
    name: str, values: torch.Tensor | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "segmenter.safetensors"
    save_segmenter(path, HEADER, clustering(NATIVE)[1])
    tensors, header = load_network(path, "segmenter", kind="segmenter", origin="")
    changed = {key: value for key, value in {**tensors, name: values}.items() if value is not None}
    save_network(path, changed, "segmenter", header)
    with pytest.raises(InputError, match=message):
        load_segmenter(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no segmenter"):
        load_segmenter(tmp_path / "segmenter.safetensors")
