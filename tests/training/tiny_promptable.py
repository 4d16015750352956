"""A promptable training of seconds: the images of `tiny_training.draw_images`, timm's smallest network, a few steps."""

import dataclasses
from pathlib import Path

import torch

from densessl.data.image_folder import open_image_folder
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.promptable.promptable_model import PromptableModel, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.training.devices import make_fabric
from densessl.training.promptable_settings import InteractionSettings, PromptableTrainingSettings
from densessl.training.promptable_training import PromptableResult, train_promptable_model

MODEL = PromptableSettings(
    "test_resnet", 48, dim=16, mask_channels=4, decoder_heads=2, decoder_mlp_dim=16, iou_hidden_dim=16
)
INTERACTION = InteractionSettings(middle_share=0.5, num_points=1, num_refinements=1, prompts_per_object=2)
TRAINING = PromptableTrainingSettings(
    epochs=3,
    batch_size=3,
    learning_rate=0.003,
    warmup_steps=2,
    precision="fp32",
    num_workers=0,
    checkpoint_every=2,
    log_every=1,
)
"""Six steps on six images."""


def build(settings: PromptableSettings = MODEL) -> PromptableModel:
    """Return the model with its first weights, the same each time."""
    torch.manual_seed(0)
    return build_promptable_model(settings)


def train(
    root: Path,
    run: Path,
    training: PromptableTrainingSettings = TRAINING,
    interaction: InteractionSettings = INTERACTION,
    model: PromptableModel | None = None,
    resume: bool = False,
) -> tuple[PromptableResult, PromptableModel]:
    """Train on the images and masks of `draw_images`, on one thread; returns the trained model too, on the CPU."""
    images = open_image_folder(root / "images").images
    objects = open_objects(root / "masks", images, ObjectSettings())
    model = build() if model is None else model
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fabric = make_fabric(training.precision)
        result = train_promptable_model(
            fabric, model, images, objects, run, interaction, training, 0, has_weights=False, resume=resume
        )
    finally:
        torch.set_num_threads(num_threads)
    return result, model.cpu()


def train_part(root: Path, run: Path, epochs: int, resume: bool = False) -> dict[str, torch.Tensor]:
    """Train in one of several processes; returns the weights."""
    training = dataclasses.replace(TRAINING, epochs=epochs, batch_size=4)
    return train(root, run, training, resume=resume)[1].state_dict()
