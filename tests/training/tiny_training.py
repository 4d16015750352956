"""A training run of seconds: drawn images with masks, a network of timm's smallest, a few steps."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from densessl.data.image_folder import open_image_folder
from densessl.data.masks import open_mask_folder
from densessl.data.view_settings import ViewSettings
from densessl.models.mask_contrast_model import ModelSettings, build_model
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.devices import make_fabric
from densessl.training.mask_contrast_training import Evaluate
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.pretraining import PretrainResult, pretrain_model
from densessl.training.run_log import read_metrics
from densessl.training.settings import TrainingSettings

MODEL = ModelSettings(
    encoder="test_resnet", output_stride=16, decoder_channels=8, separable_decoder=True, embedding_dim=4
)
OBJECTIVE = ObjectiveSettings(queue_length=5, momentum=0.9)
TRAINING = TrainingSettings(
    epochs=3,
    batch_size=3,
    learning_rate=0.05,
    precision="fp32",
    num_workers=0,
    checkpoint_every=2,
    keep_checkpoints=3,
    log_every=1,
)
SETTINGS = PretrainSettings(model=MODEL, views=ViewSettings(size_px=32), objective=OBJECTIVE, training=TRAINING)
"""Six steps on the six images of `draw_images`."""

UNREPEATABLE = {"images_per_second", "data_wait", "memory_mib"}


def changed(settings: PretrainSettings = SETTINGS, **sections: dict[str, Any]) -> PretrainSettings:
    """Return the settings with values of their sections replaced: `changed(training={"epochs": 1})`."""
    replaced = {name: dataclasses.replace(getattr(settings, name), **values) for name, values in sections.items()}
    return dataclasses.replace(settings, **replaced)


def draw_images(root: Path, num: int = 6) -> Path:
    """Write `root/images` and `root/masks`: noisy pictures, each with a box of its own colour that is its mask."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    generator = np.random.default_rng(0)
    for index in range(num):
        image = generator.integers(60, 120, (36, 44, 3), dtype=np.uint8)
        mask = np.zeros((36, 44), dtype=np.uint8)
        mask[6 + index % 3 : 28, 8 : 30 + index % 4] = 255
        image[mask > 0] = (250 - 60 * (index % 3), 40 * (index % 5), 200)
        Image.fromarray(image).save(root / "images" / f"{index:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{index:02}.png")
    return root


def train(
    root: Path,
    run: Path,
    settings: PretrainSettings = SETTINGS,
    *,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    profile: bool = False,
) -> PretrainResult:
    """Pretrain on the images of `draw_images`, on one thread."""
    images = open_image_folder(root / "images").images
    masks = open_mask_folder(root / "masks", images)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(settings.seed)
        model = build_model(settings.model)
        run.mkdir(parents=True, exist_ok=True)
        fabric = make_fabric(settings.training.precision, settings.training.strategy)
        return pretrain_model(
            fabric, model, images, masks, run, settings, evaluate=evaluate, resume=resume, profile=profile
        )
    finally:
        torch.set_num_threads(num_threads)


def numbers(run: Path) -> list[dict[str, float]]:
    """Return the log lines without what depends on the clock and the machine."""
    return [{key: value for key, value in line.items() if key not in UNREPEATABLE} for line in read_metrics(run)]
