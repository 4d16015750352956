"""The stage `train_promptable` from masks of several sources to a model that a predictor loads."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as run_lengths

from densessl import Predictor
from densessl.commands.train_promptable import initial_model, train_promptable
from densessl.errors import InputError
from densessl.files import read_json, write_json
from densessl.models.encoders import build_encoder
from densessl.models.network_file import save_network
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import load_promptable_model, save_promptable_model
from densessl.saliency.proposals import SaliencySettings
from densessl.training.promptable_settings import InteractionSettings, PromptableTrainingSettings
from densessl.training.run_folder import read_config
from densessl.training.run_log import read_metrics

MODEL = PromptableSettings("test_resnet", 48, dim=16, decoder_heads=2, decoder_mlp_dim=16, iou_hidden_dim=16)
INTERACTION = InteractionSettings(num_points=1, num_refinements=0)
TRAINING = PromptableTrainingSettings(
    epochs=2, batch_size=2, warmup_steps=0, precision="fp32", num_workers=0, log_every=1
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures with a bright box each, one of them broken, and the masks of the boxes."""
    root = tmp_path_factory.mktemp("train_promptable")
    generator = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for number in range(4):
        image = generator.integers(60, 120, (40, 48, 3), dtype=np.uint8)
        mask = np.zeros((40, 48), dtype=np.uint8)
        mask[8:30, 6 : 24 + number] = 255
        image[mask > 0] = (250, 200, 40 * number)
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    (root / "images" / "broken.png").write_bytes(b"no image")
    return root


def _train(root: Path, out: Path, **arguments: object) -> Path:
    settings = {"model": MODEL, "interaction": INTERACTION, "training": TRAINING, **arguments}
    train_promptable(out, root / "images", **settings)  # type: ignore[arg-type]
    return out


def test_masks_of_a_folder_train_a_model_that_a_predictor_loads(images: Path, tmp_path: Path) -> None:
    out = _train(images, tmp_path / "run", masks=images / "masks")
    predictor = Predictor.from_weights(out / "network.safetensors", precision="fp32")
    found = predictor.set_image(images / "images/0.png").predict([[12, 15]], [1])
    assert found.masks.shape == (1, 3, 40, 48)
    _, report = load_promptable_model(out / "network.safetensors")
    assert report.supervision == (
        "masks: made elsewhere (masks); whatever labels made them are theirs; first weights: none (random weights)"
    )
    record = read_json(out / "run.json", "the record of a run")
    assert (record["num_images"], record["num_left_out"], record["num_steps"]) == (4, 1, 4)
    assert record["finished"]
    left_out = read_json(out / "left_out.json", "what was left out")
    assert [item["stem"] for item in left_out] == ["broken"]
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "tensorboard"} <= {path.name for path in out.iterdir()}


def test_a_broken_image_is_not_stored_either(images: Path, tmp_path: Path) -> None:
    training = dataclasses.replace(TRAINING, trained_encoder="neck", cache_gb=0.1)
    out = _train(images, tmp_path / "run", masks=images / "masks", training=training)
    assert read_json(out / "run.json", "the record of a run")["num_left_out"] == 1


def test_stored_features_of_other_maps_are_made_again(images: Path, tmp_path: Path) -> None:
    training = dataclasses.replace(TRAINING, trained_encoder="neck", cache_gb=0.1, cache=tmp_path / "cache")
    for is_fine in (False, True, False):
        model = dataclasses.replace(MODEL, fine_features=is_fine)
        _train(images, tmp_path / f"run-{is_fine}", masks=images / "masks", training=training, model=model, resume=True)
    assert read_json(tmp_path / "run-True/run.json", "the record of a run")["finished"]


def test_settings_of_proposals_beside_masks_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"and settings of saliency too \(method frequency_tuned\)"):
        _train(images, tmp_path / "run", masks=images / "masks", saliency=SaliencySettings("frequency_tuned"))
    assert not (tmp_path / "run").exists()
    _train(images, tmp_path / "run", masks=images / "masks", saliency=SaliencySettings(refine="colour_models"))


def test_without_masks_they_are_proposed_and_no_label_is_claimed(images: Path, tmp_path: Path) -> None:
    out = _train(images, tmp_path / "run", saliency=SaliencySettings("frequency_tuned", refine="none"))
    assert (out / "proposals/proposals.json").is_file()
    _, report = load_promptable_model(out / "network.safetensors")
    assert "fitted to none (estimator frequency_tuned" in report.supervision


def test_a_finished_run_resumes_to_itself_and_another_configuration_is_refused(images: Path, tmp_path: Path) -> None:
    out = _train(images, tmp_path / "run", masks=images / "masks")
    lines = read_metrics(out)
    with pytest.raises(InputError, match="already holds a run; add --resume true"):
        _train(images, out, masks=images / "masks")
    _train(images, out, masks=images / "masks", resume=True)
    assert read_metrics(out) == lines
    stored = dataclasses.replace(TRAINING, cache_gb=0.0, num_workers=0, log_every=7)
    _train(images, out, masks=images / "masks", resume=True, training=stored)  # change no number
    other = dataclasses.replace(TRAINING, learning_rate=1.0)
    with pytest.raises(InputError, match=r"training.learning_rate: 0.0008 in the run, 1.0 now"):
        _train(images, out, masks=images / "masks", resume=True, training=other)


def test_a_run_does_not_go_on_with_other_images(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "given")
    out = _train(tmp_path / "given", tmp_path / "run", masks=tmp_path / "given/masks")
    (tmp_path / "given/images/2.png").rename(tmp_path / "given/images/new.png")
    (tmp_path / "given/masks/2.png").rename(tmp_path / "given/masks/new.png")
    with pytest.raises(InputError, match=r"it began with 4 images .* there are 4 now, or others"):
        _train(tmp_path / "given", out, masks=tmp_path / "given/masks", resume=True)


def test_training_goes_on_from_a_model_and_from_a_backbone(images: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    first = build_promptable_model(MODEL)
    save_promptable_model(tmp_path / "first.safetensors", first, "the labels of somebody")
    model, _, supervision = initial_model(
        PromptableSettings(), tmp_path / "first.safetensors", None, 0, pretrained=False
    )
    assert supervision == "the labels of somebody"
    assert model.settings == MODEL
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in model.state_dict().items())
    out = _train(
        images,
        tmp_path / "run",
        masks=images / "masks",
        weights=tmp_path / "first.safetensors",
        model=PromptableSettings(),
    )
    assert load_promptable_model(out / "network.safetensors")[1].supervision.endswith("the labels of somebody")
    assert read_config(out)["model"]["encoder"] == "test_resnet"
    torch.save(first.image_encoder.encoder.backbone.state_dict(), tmp_path / "backbone.pth")
    model, report, _ = initial_model(MODEL, None, tmp_path / "backbone.pth", 0, pretrained=False)
    assert report is not None
    backbone = model.image_encoder.encoder.backbone.state_dict()
    assert torch.equal(backbone["conv1.0.weight"], first.image_encoder.encoder.backbone.state_dict()["conv1.0.weight"])


@pytest.mark.parametrize("key", ["model_settings", "dino_encoder"])
def test_the_encoder_of_a_run_is_that_of_the_model(images: Path, tmp_path: Path, key: str) -> None:
    tensors = {f"encoder.{name}": value for name, value in build_encoder("test_resnet").state_dict().items()}
    save_network(tmp_path / "final.safetensors", tensors, key, {"encoder": "test_resnet"})
    unnamed = dataclasses.replace(MODEL, encoder=PromptableSettings().encoder)
    out = _train(
        images, tmp_path / "run", masks=images / "masks", backbone=tmp_path / "final.safetensors", model=unnamed
    )
    assert load_promptable_model(out / "network.safetensors")[0].settings == MODEL
    assert read_config(out)["model"]["encoder"] == "test_resnet"


def test_one_source_of_weights_is_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weights and backbone are given, but training begins with one of them"):
        initial_model(MODEL, tmp_path / "a", tmp_path / "b", 0, pretrained=False)
    save_promptable_model(tmp_path / "first.safetensors", build_promptable_model(MODEL), "none")
    with pytest.raises(InputError, match="bring their own model settings"):
        initial_model(dataclasses.replace(MODEL, dim=32), tmp_path / "first.safetensors", None, 0, pretrained=False)


def test_a_model_goes_on_at_another_size(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = build_promptable_model(MODEL)
    save_promptable_model(tmp_path / "first.safetensors", first, "none")
    larger = dataclasses.replace(MODEL, size_px=80)
    model, _, _ = initial_model(larger, tmp_path / "first.safetensors", None, 0, pretrained=False)
    assert model.settings == larger
    assert "images of 80 px" in capsys.readouterr().err
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in model.state_dict().items())
    run = {"masks": images / "masks", "weights": tmp_path / "first.safetensors", "model": larger}
    out = _train(images, tmp_path / "run", **run)
    assert load_promptable_model(out / "network.safetensors")[0].settings == larger
    once = load_promptable_model(out / "network.safetensors")[1].supervision
    again = _train(
        images, tmp_path / "again", masks=images / "masks", weights=out / "network.safetensors", model=larger
    )
    assert load_promptable_model(again / "network.safetensors")[1].supervision == once  # the masks are named once


def test_overlapping_objects_of_a_coco_file_are_all_learned(images: Path, tmp_path: Path) -> None:
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    for number in range(4):
        content["images"].append({"id": number, "file_name": f"{number}.jpg", "height": 40, "width": 48})
        for share in (1, 2):
            mask = np.zeros((40, 48), dtype=np.uint8, order="F")
            mask[8 : 8 + 22 // share, 6:24] = 1
            encoded = run_lengths.encode(mask)
            segmentation = {"size": [40, 48], "counts": encoded["counts"].decode()}
            content["annotations"].append(
                {"id": len(content["annotations"]) + 1, "image_id": number, "segmentation": segmentation, "iscrowd": 0}
            )
    write_json(tmp_path / "objects.json", content)
    all_answers = dataclasses.replace(INTERACTION, nested_targets="all", box_share=0.0)
    out = _train(images, tmp_path / "run", masks=tmp_path / "objects.json", interaction=all_answers)
    assert all(line["num_prompts"] == 4 for line in read_metrics(out))  # two objects in each of two images


@pytest.mark.parametrize(("name", "num_objects"), [("SegmentationObject", 2), ("SegmentationClass", 3)])
def test_maps_of_a_voc_tree_are_objects(images: Path, tmp_path: Path, name: str, num_objects: int) -> None:
    """Ids of instances are taken whole, those of classes in connected parts; void belongs to none."""
    (tmp_path / name).mkdir()
    for number in range(4):
        labels = np.zeros((40, 48), dtype=np.uint8)
        labels[4:14, 4:40] = 1
        labels[4:14, 20:24] = 255
        labels[20:34, 8:30] = 2
        Image.fromarray(labels).save(tmp_path / name / f"{number}.png")
    clicks = dataclasses.replace(INTERACTION, box_share=0.0)
    out = _train(images, tmp_path / "run", masks=tmp_path / name, interaction=clicks)
    assert all(line["num_prompts"] == 2 * num_objects for line in read_metrics(out))  # in each of two images
