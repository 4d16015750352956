"""Fixtures of the command tests: a tiny trained run and a tiny labelled tree, each made once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY, DrawnFolder, command, draw_folder

from densessl.data.synthetic import render_data_set
from densessl.evaluation import protocols
from densessl.training.run_folder import load_run_model, save_weights


@pytest.fixture(autouse=True, scope="module")
def _small_and_single_threaded() -> Iterator[None]:
    """Cluster at 96x96 and 128x128 instead of 320x320 and 512x512, and compute on one core."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "NATIVE", replace(protocols.NATIVE, image_size_px=(96, 96)))
        patch.setattr(protocols, "MASKCONTRAST", replace(protocols.MASKCONTRAST, image_size_px=(128, 128)))
        yield


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DrawnFolder:
    """Eight drawn images with masks; read only."""
    return draw_folder(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered VOC tree, 12 images to train on and 4 to validate, 7 classes; read only."""
    return render_data_set(tmp_path_factory.mktemp("tree") / "voc", num_images=16, size_px=64, seed=0)


@pytest.fixture(scope="session")
def trained(drawn: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the drawn images, whose saliency head is set so that it finds foreground; read only."""
    torch.set_num_threads(1)  # as the tests that repeat it: the number of threads decides how sums are rounded
    run = tmp_path_factory.mktemp("trained") / "run"
    outcome = command("pretrain", "--out", run, *drawn.flags(), *TINY)
    if outcome.status != 0:
        pytest.fail(outcome.err)
    model, settings = load_run_model(run)
    with torch.no_grad():
        weight = model.saliency_head.weight
        weight.copy_(torch.linspace(-100, 100, weight.numel()).reshape(weight.shape))
    save_weights(run / "final.safetensors", model.state_dict(), settings)
    return run
