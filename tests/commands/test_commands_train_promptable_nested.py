"""After a small training on rendered scenes, the three masks of an ambiguous click are the nested objects under it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.promptable import match_scene
from densessl import Predictor
from densessl.commands.train_promptable import train_promptable
from densessl.data.layouts import open_data_set
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.data.synthetic_nested_set import render_nested_set
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.training.promptable_settings import InteractionSettings, PromptableTrainingSettings

MODEL = PromptableSettings(
    "test_resnet", 128, dim=64, fine_features=True, decoder_heads=4, decoder_mlp_dim=128, iou_hidden_dim=32
)
INTERACTION = InteractionSettings(
    box_share=0.0,
    num_points=0,
    num_refinements=1,
    nested_targets="all",
    target_cell_px=2,
    objects_per_image=1,
    flip=True,
)
TRAINING = PromptableTrainingSettings(
    epochs=30,
    batch_size=8,
    learning_rate=2e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup_steps=50,
    max_grad_norm=1.0,
    precision="fp32",
    num_workers=0,
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_masks_of_a_click_are_the_three_nested_objects(tmp_path: Path) -> None:
    """On scenes that were not trained on; a third of a minute-long training's scenes may miss one of them."""
    root = render_nested_set(tmp_path / "set", num_images=200, size_px=96, seed=0, val_fraction=0.1)
    masks = root / "annotations" / "instances_train.json"
    train_promptable(
        tmp_path / "run",
        data=root,
        split="train",
        masks=masks,
        objects=ObjectSettings(min_area=0.001),
        model=MODEL,
        interaction=INTERACTION,
        training=TRAINING,
    )
    val = open_data_set(root, "val").images
    objects = open_objects(root / "annotations" / "instances_val.json", val, ObjectSettings(min_area=0.0))
    predictor = Predictor.from_weights(tmp_path / "run" / "network.safetensors", precision="fp32")
    matched = np.array([match_scene(predictor, ref, objects) for ref in val])  # (scenes, levels), one mask for each
    print(matched.mean(0), (matched > 0.8).all(1).mean(), (matched > 0.6).all(1).mean())
    assert (matched.mean(0) > 0.7).all()
