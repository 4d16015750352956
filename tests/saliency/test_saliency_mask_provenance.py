"""Which labels touched masks, in words: from records of this and of earlier versions, from a folder or its parts."""

import pytest

from densessl.data.synthetic_nested_set import render_nested_set
from densessl.files import write_json
from densessl.saliency.mask_provenance import filtered_supervision, masks_provenance, recorded_supervision

FUSED = "fitted to none (estimator fused; docs/saliency.md says which labels its design saw)"


def test_records_of_earlier_versions(tmp_path):
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


def test_what_a_folder_says_of_itself_comes_first(tmp_path):
    """Masks made of others keep their origin when those are gone, or are others now."""
    settings = {"method": "file", "masks": str(tmp_path / "first")}
    assert recorded_supervision({"settings": settings, "counts": None}).startswith("made elsewhere (first)")
    write_json(tmp_path / "first/saliency.json", {"settings": {"method": "fused"}, "counts": None})
    assert recorded_supervision({"settings": settings, "counts": None}) == FUSED
    write_json(tmp_path / "saliency.json", {"settings": settings, "supervision": "theirs", "counts": None})
    assert masks_provenance(tmp_path) == "theirs"


def test_folders_that_name_each_other_are_made_elsewhere(tmp_path):
    for name, other in (("first", "second/masks"), ("second", "first"), ("alone", "alone")):
        settings = {"method": "file", "masks": str(tmp_path / other)}
        write_json(tmp_path / name / "saliency.json", {"settings": settings, "counts": None})
    (tmp_path / "second/masks").mkdir()
    for name in ("first", "second", "second/masks", "alone"):
        assert masks_provenance(tmp_path / name).startswith("made elsewhere (")


@pytest.mark.parametrize(
    ("record", "content", "expected"),
    [
        ("saliency.json", {"settings": {"method": "fused"}, "supervision": FUSED}, FUSED),
        ("saliency.json", {"settings": {"method": "fused"}}, FUSED),
        (
            *("segment.json", {"supervision": "SA-1B"}),
            "automatic masks of a promptable model (labels that trained it: SA-1B)",
        ),
    ],
)
def test_parts_of_a_folder_are_followed_to_its_record(record, content, expected, tmp_path, monkeypatch):
    write_json(tmp_path / "out" / record, content)
    for name in ("masks", "soft", "label_maps"):
        (tmp_path / "out" / name).mkdir()
    write_json(tmp_path / "out/proposals.json", {})
    for name in ("", "masks", "soft", "proposals.json"):
        assert masks_provenance(tmp_path / "out" / name) == expected
    assert masks_provenance(tmp_path / "out/label_maps").startswith("made elsewhere (label_maps)")
    monkeypatch.chdir(tmp_path / "out/masks")
    assert masks_provenance(tmp_path.joinpath(".").relative_to(tmp_path)) == expected  # given as `.`


def test_a_folder_named_masks_with_its_own_record(tmp_path):
    write_json(tmp_path / "saliency.json", {"settings": {"method": "centre"}})
    write_json(tmp_path / "masks/saliency.json", {"settings": {"method": "fused"}})
    assert masks_provenance(tmp_path / "masks") == FUSED


def test_masks_of_nested_scenes_are_the_renderers(tmp_path):
    render_nested_set(tmp_path / "scenes", num_images=2, size_px=64, seed=0, num_workers=0)
    annotations = tmp_path / "scenes/annotations/instances_val.json"
    assert masks_provenance(annotations) == "exact masks of rendered scenes (synth, nested objects)"
    edited = annotations.with_name("edited.json")
    edited.write_bytes(annotations.read_bytes())
    assert masks_provenance(edited).startswith("made elsewhere (edited.json)")


def test_labels_behind_chosen_masks_are_said_once():
    assert filtered_supervision("none", "masks: none; first weights: x") == (
        "none; chosen by a promptable model (masks: labels as above; first weights: x)"
    )
    assert filtered_supervision("none", "people") == "none; chosen by a promptable model (people)"
