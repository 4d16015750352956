"""Which labels touched first weights, in words: loaded, downloaded, random, or those of a run."""

import pytest

from densessl.commands.provenance import first_weights_provenance, weights_provenance
from densessl.files import write_json
from densessl.models.weights import WeightReport


@pytest.mark.parametrize("weight_format", ["densessl run", "densessl"])
def test_weights_of_a_run_are_followed_to_its_record(weight_format, tmp_path):
    run = tmp_path / "first"
    run.mkdir()
    report = WeightReport(weight_format, run / "final.safetensors", 1, (), (), (), "unknown")
    assert weights_provenance(report) == "unknown"
    write_json(run / "run.json", {"provenance": {"backbone": "none (random weights)", "masks": "fitted to none"}})
    assert weights_provenance(report) == (
        "those behind run first (first weights: none (random weights); masks: fitted to none)"
    )
    foreign = WeightReport("torchvision", run / "resnet18.pth", 1, (), (), (), "ImageNet labels")
    assert weights_provenance(foreign) == "ImageNet labels"


def test_first_weights_are_loaded_or_downloaded_or_random(tmp_path):
    loaded = WeightReport("torchvision", tmp_path / "resnet18.pth", 1, (), (), (), "ImageNet labels")
    assert first_weights_provenance("resnet18", loaded, pretrained=False) == "ImageNet labels"
    assert "published weights for resnet18" in first_weights_provenance("resnet18", None, pretrained=True)
    assert first_weights_provenance("resnet18", None, pretrained=False) == "none (random weights)"
