"""The stage `demo`: the whole pipeline on rendered images, nothing downloaded."""

from pathlib import Path

from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.run import run
from densessl.commands.synth import synth
from densessl.data.view_settings import ViewSettings
from densessl.models.mask_contrast_model import ModelSettings
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.settings import TrainingSettings

WANTED_GAIN = 0.20
"""Pretraining must raise the mIoU by at least this much for the demo to count as passed."""

NUM_IMAGES = 600
SIZE_PX = 128

MODEL = ModelSettings(encoder="resnet10t", output_stride=16, decoder="none")
VIEWS = ViewSettings(size_px=64, min_scale=0.3, symmetries=True, jitter_strength=0.7, grayscale=0.5)
OBJECTIVE = ObjectiveSettings(temperature=0.3, queue_length=64, momentum=0.9)
TRAINING = TrainingSettings(
    epochs=20,
    batch_size=16,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=1e-2,
    schedule="cosine",
    warmup_steps=10,
    log_every=20,
)
CLUSTER_SIZE_PX = 96
"""Images are clustered at about the scale at which the network saw them in training."""


@checked_arguments
def demo(out: Path, seed: int = 0, resume: bool = False) -> int:
    """Render a small data set and run the whole pipeline on it, from random weights, with nothing downloaded.

    Prints the mIoU before and after pretraining under the same clustering, and writes OUT/report/index.html.

    Args:
        out: the run folder; the rendered data set goes to OUT/data.
        seed: of the data set, the weights and the training.
        resume: go on with an interrupted demo.

    Returns:
        0, or 1 where pretraining did not raise the mIoU by at least 20 points.
    """
    synth(out / "data", NUM_IMAGES, SIZE_PX, seed)
    result = run(
        out,
        data=out / "data",
        split="train",
        eval_split="val",
        image_size=CLUSTER_SIZE_PX,
        resume=resume,
        seed=seed,
        model=MODEL,
        views=VIEWS,
        objective=OBJECTIVE,
        training=TRAINING,
    )
    if result.initial_clusters is None or result.initial_clusters.scores is None or result.clusters.scores is None:
        Console(stderr=True).print("demo failed: there are no scores to compare")
        return 1
    gain = result.clusters.scores.miou - result.initial_clusters.scores.miou
    console = Console()
    if gain < WANTED_GAIN:
        console.print(
            f"demo failed: pretraining changed the mIoU by {100 * gain:+.1f} points; {100 * WANTED_GAIN:.0f} "
            "were expected"
        )
        return 1
    console.print(f"demo passed: pretraining raised the mIoU by {100 * gain:.1f} points", highlight=False)
    return 0
