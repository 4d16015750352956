"""Where masks came from, in words: estimators without weights, estimators on features, masks made elsewhere."""

from densessl.commands.provenance import masks_provenance
from densessl.files import write_json


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
