"""Time one MaskContrast pretraining step: images a second and peak memory, beside the plain published way.

    python benchmarks/pretrain_step.py --encoder resnet18 --batch 8 --size 224

`default` is what densessl does on this machine (bf16 and channels-last where they are fast, loss on the feature grid);
`plain` is the published step: fp32, NCHW, loss over every foreground pixel of embeddings upsampled to the image. Both
take the same batch and start from the same weights. Each runs in processes of its own, in turns, so that drift of the
machine's speed falls on both; medians over all steps are compared. The rows go to results/pretrain_step.jsonl.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import append_row
from densessl.models.mask_contrast_model import ModelSettings, build_model
from densessl.models.momentum_twin import update_twin
from densessl.models.precision import choose_memory_format
from densessl.objectives.mask_contrast import ObjectiveSettings
from densessl.structures import ViewBatch
from densessl.training.devices import make_fabric
from densessl.training.settings import TrainingSettings
from densessl.training.state import new_state
from densessl.training.step import training_step

VARIANTS = ("default", "plain")


def main() -> None:
    """Measure both variants in turns and append one row for each."""
    arguments = _parse()
    if arguments.variant is not None:
        print(json.dumps(measure(arguments)))
        return
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for _ in range(arguments.rounds):
        for variant in VARIANTS:
            command = [sys.executable, "-m", "benchmarks.pretrain_step", *sys.argv[1:], "--variant", variant]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[variant].append(json.loads(done.stdout.strip().splitlines()[-1]))
    seconds = {v: statistics.median(t for part in parts for t in part["seconds"]) for v, parts in found.items()}
    for variant in VARIANTS:
        row = append_row(
            arguments.results,
            {
                "benchmark": "pretrain_step",
                "variant": variant,
                "encoder": arguments.encoder,
                "output_stride": arguments.output_stride,
                "batch": arguments.batch,
                "size_px": arguments.size,
                "num_steps": arguments.steps * arguments.rounds,
                "images_per_second": round(arguments.batch / seconds[variant], 3),
                "speed_over_plain": round(seconds["plain"] / seconds[variant], 2),
                "peak_memory_gib": round(statistics.median(part["peak_memory_gib"] for part in found[variant]), 2),
                "loss_first_step": found[variant][0]["loss"],
            },
        )
        print(json.dumps(row))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the steps of one variant in this process."""
    is_plain = arguments.variant == "plain"
    training = TrainingSettings(
        precision="fp32" if is_plain else "auto", memory_format="contiguous" if is_plain else "auto"
    )
    objective = ObjectiveSettings(resolution="full" if is_plain else "grid")
    settings = ModelSettings(encoder=arguments.encoder, output_stride=arguments.output_stride)
    fabric = make_fabric(training.precision)
    torch.manual_seed(0)
    model = build_model(replace(settings, dropout=0.0))
    memory_format = choose_memory_format(training.memory_format, model)
    state = new_state(model, settings.embedding_dim, objective, training, 0)
    state.model.to(memory_format=memory_format)  # type: ignore[call-overload]
    state.twin.to(memory_format=memory_format)  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(state.model, state.optimizer)
    fabric.to_device(state.twin).train()
    fabric.to_device(state.bank)
    wrapped.train()
    batch = random_batch(arguments.batch, arguments.size)
    seconds, first_loss = [], 0.0
    for step in range(arguments.steps + 1):
        started = time.perf_counter()
        update_twin(state.twin, state.model, objective.momentum)
        result = training_step(fabric, wrapped, state.twin, state.bank.prototypes, batch, objective, "pixels")
        optimizer.zero_grad()
        fabric.backward(result.loss)
        optimizer.step()
        state.bank.enqueue(result.term.prototypes)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        if step == 0:
            first_loss = float(result.loss.detach())
        else:  # the first step also builds kernels
            seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "peak_memory_gib": _peak_memory_gib(fabric.device), "loss": first_loss}


def random_batch(num_images: int, size_px: int) -> ViewBatch:
    """Return noise images whose masks are centred rectangles of about a quarter of the image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, num_images, 3, size_px, size_px, generator=generator)
    masks = torch.zeros(num_images, size_px, size_px, dtype=torch.int64)
    masks[:, size_px // 4 : 3 * size_px // 4, size_px // 4 : 3 * size_px // 4] = 1
    return ViewBatch(images[0], masks, images[1], masks, tuple(str(index) for index in range(num_images)))


def _peak_memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kibibytes on Linux


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--output-stride", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=4, help="timed steps per process")
    parser.add_argument("--rounds", type=int, default=3, help="processes per variant")
    parser.add_argument("--variant", choices=VARIANTS, default=None, help="run this one here (used by the program)")
    parser.add_argument("--results", type=Path, default=Path("results/pretrain_step.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
