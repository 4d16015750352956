"""Where masks came from, in words: estimators without weights, estimators on features, masks made elsewhere."""

import pytest

from densessl.commands.provenance import first_weights_provenance, masks_provenance, weights_provenance
from densessl.files import write_json
from densessl.models.weights import WeightReport


def test_masks_say_which_labels_touched_them(tmp_path):
    assert "made elsewhere" in masks_provenance(tmp_path)
    settings = {"method": "fused", "encoder": "vit_small_patch16_224.dino", "weights": None}
    write_json(tmp_path / "saliency.json", {"settings": settings, "counts": None})
    assert masks_provenance(tmp_path).startswith("fitted to none (estimator fused;")
    settings = {"method": "lost", "encoder": "mobilenetv2_100", "weights": "there/v2.safetensors"}
    features = {"weights_sha256": "0" * 64, "supervision": "ImageNet labels"}
    write_json(tmp_path / "saliency.json", {"settings": settings, "features": features, "counts": None})
    assert masks_provenance(tmp_path) == (
        "fitted to none (estimator lost); labels that trained its features (mobilenetv2_100, weights v2.safetensors): "
        "ImageNet labels"
    )
    settings["weights"] = None
    write_json(tmp_path / "saliency.json", {"settings": settings, "features": features, "counts": None})
    assert "(mobilenetv2_100): ImageNet labels" in masks_provenance(tmp_path)


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
