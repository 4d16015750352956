"""Time one MaskContrast pretraining step: images a second and peak memory, beside the plain published way.

    python -m benchmarks.pretrain_step --encoder resnet18 --batch 8 --size 224

Three variants take the same batch and start from the same weights:

- `default` is what densessl does on this machine (bf16 and channels-last where fast, loss on the feature grid);
- `full` is the same with the loss over every foreground pixel of embeddings upsampled to the image, as published, so
  that its loss can be compared with that of
- `plain`, the published step written out plainly (`benchmarks.plain_step`): fp32, NCHW.

Each runs in processes of its own, in turns, so that drift of the machine's speed falls on all; medians over all steps
are compared. Peak memory is that of the process; `peak_above_imports_gib` leaves out what it held once all packages
were imported. `floor_images_per_second` is what the arithmetic and the bytes of the step allow at the rates measured in
the same process (`benchmarks.step_arithmetic`). The rows go to results/pretrain_step.jsonl.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.plain_step import PlainNetwork, PlainTrainer
from benchmarks.rows import append_row
from benchmarks.step_arithmetic import floor_seconds, measure_rates, step_work
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, build_model
from densessl.models.momentum_twin import update_twin
from densessl.models.precision import choose_memory_format
from densessl.objectives.settings import ObjectiveSettings
from densessl.structures import ViewBatch
from densessl.training.devices import make_fabric
from densessl.training.settings import TrainingSettings
from densessl.training.state import new_state
from densessl.training.step import training_step

VARIANTS = ("default", "full", "plain")
_IMPORTED_GIB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kibibytes on Linux


def main() -> None:
    """Measure all variants in turns and append one row for each."""
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
    plain_loss = found["plain"][0]["loss"]
    for variant in VARIANTS:
        parts = found[variant]
        rate = arguments.batch / seconds[variant]
        floor_rate = statistics.median(part["floor_images_per_second"] for part in parts)
        row = append_row(
            arguments.results,
            {
                "benchmark": "pretrain_step",
                "variant": variant,
                "encoder": arguments.encoder,
                "output_stride": arguments.output_stride,
                "batch": arguments.batch,
                "size_px": arguments.size,
                "device": parts[0]["device"],
                "precision": parts[0]["precision"],
                "num_steps": arguments.steps * arguments.rounds,
                "images_per_second": round(rate, 3),
                "speed_over_plain": round(seconds["plain"] / seconds[variant], 2),
                "peak_memory_gib": round(statistics.median(part["peak_memory_gib"] for part in parts), 2),
                "peak_above_imports_gib": round(statistics.median(part["peak_above_imports_gib"] for part in parts), 2),
                "loss_first_step": parts[0]["loss"],
                "loss_over_plain": round(parts[0]["loss"] / plain_loss - 1, 6),
                "gflop_per_image": round(parts[0]["gflop_per_image"], 1),
                "matrix_gflop_per_second": round(statistics.median(p["matrix_gflop_per_second"] for p in parts)),
                "memory_gb_per_second": round(statistics.median(p["memory_gb_per_second"] for p in parts), 1),
                "floor_images_per_second": round(floor_rate, 3),
                "share_of_floor": round(rate / floor_rate, 3),
            },
        )
        print(json.dumps(row))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the steps of one variant in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    settings = ModelSettings(encoder=arguments.encoder, output_stride=arguments.output_stride, dropout=0.0)
    torch.manual_seed(0)
    model = build_model(settings)
    is_half, run_step = (
        (False, _plain(model, arguments, device))
        if arguments.variant == "plain"
        else _densessl(model, settings, arguments)
    )
    batch = random_batch(arguments.batch, arguments.size)
    seconds, first_loss = [], 0.0
    for step in range(arguments.steps + 1):
        started = time.perf_counter()
        loss = run_step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if step == 0:
            first_loss = loss
        else:  # the first step also builds kernels
            seconds.append(time.perf_counter() - started)
    peak = _peak_memory_gib(device)
    rates = measure_rates(device, torch.bfloat16 if is_half else torch.float32)
    layers = step_work(build_model(settings), arguments.size, 2 if is_half else 4)
    return {
        "device": device.type,
        "precision": "bf16" if is_half else "tf32" if device.type == "cuda" else "fp32",
        "seconds": seconds,
        "peak_memory_gib": peak,
        "peak_above_imports_gib": peak - (_IMPORTED_GIB if device.type == "cpu" else 0.0),
        "loss": first_loss,
        "gflop_per_image": sum(layer.step_flops for layer in layers) / 1e9,
        "matrix_gflop_per_second": rates.flops_per_second / 1e9,
        "memory_gb_per_second": rates.bytes_per_second / 1e9,
        "floor_images_per_second": 1.0 / floor_seconds(layers, rates),
    }


def _plain(
    model: MaskContrastModel, arguments: argparse.Namespace, device: torch.device
) -> Callable[[ViewBatch], float]:
    """Return the plain step, on the weights of `model` and a queue like densessl's."""
    network = PlainNetwork(arguments.encoder, arguments.output_stride)
    network.load_ours(model.state_dict())
    bank = new_state(model, 32, ObjectiveSettings(), TrainingSettings(), 0).bank
    trainer = PlainTrainer(network.to(device), bank.prototypes.to(device))

    def step(batch: ViewBatch) -> float:
        images = (batch.query_images.to(device), batch.query_masks.to(device))
        keys = (batch.key_images.to(device), batch.key_masks.to(device))
        return trainer.step(ViewBatch(*images, *keys, batch.stems))

    return step


def _densessl(
    model: MaskContrastModel, settings: ModelSettings, arguments: argparse.Namespace
) -> tuple[bool, Callable[[ViewBatch], float]]:
    """Return whether this machine computes in bf16, and densessl's step."""
    objective = ObjectiveSettings(resolution="full" if arguments.variant == "full" else "grid")
    fabric = make_fabric("auto")
    memory_format = choose_memory_format("auto", model)
    state = new_state(model, settings.embedding_dim, objective, TrainingSettings(), 0)
    state.model.to(memory_format=memory_format)  # type: ignore[call-overload]
    state.twin.to(memory_format=memory_format)  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(state.model, state.optimizer)
    fabric.to_device(state.twin).train()
    fabric.to_device(state.bank)
    wrapped.train()

    def step(batch: ViewBatch) -> float:
        update_twin(state.twin, state.model, objective.momentum)
        optimizer.zero_grad()
        result = training_step(fabric, wrapped, state.twin, state.bank.prototypes, batch, objective, "pixels")
        fabric.backward(result.loss)
        optimizer.step()
        state.bank.enqueue(result.term.prototypes)
        return float(result.loss.detach())

    return "bf16" in str(fabric.strategy.precision.precision), step


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
