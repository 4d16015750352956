"""Measure what int8 costs and saves in exported promptable models, as rows.

    python -m benchmarks.promptable_export --weights FILE --name NAME --images DIR

Exports the model to a temporary folder (ONNX, fp32 and int8), where every fp32 file is compared with it, and runs a
grid of clicks on each image, or on rendered scenes without --images. Rows go to results/promptable_export.jsonl: IoU of
the masks in int8 with those in fp32 (no labels are read), differences of logits, sizes of files, milliseconds for an
image and for a click with onnxruntime, and of the model in torch for the same images.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import append_row
from densessl.commands.export_promptable import PromptableExport, export_promptable, measured_images
from densessl.promptable.predictor import Predictor

NUM_CLICKS = 5


def main() -> None:
    """Export one file of weights and append its row."""
    arguments = _parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        exported = export_promptable(
            arguments.weights,
            out,
            "onnx",
            arguments.sizes,
            "int8",
            arguments.images,
            arguments.points_per_side,
        )
        row = _row(exported, json.loads((out / "export.json").read_text(encoding="utf-8")))
    row |= _torch_times(arguments.weights, arguments.images)
    about = {"benchmark": "promptable_export", "name": arguments.name, "sizes": arguments.sizes}
    print(append_row(arguments.results, {**about, **row}))


def _row(exported: PromptableExport, record: dict[str, Any]) -> dict[str, Any]:
    int8 = record["int8"]
    worst = [one.difference for sizes in exported.compared.values() for one in sizes]
    return {
        "weights_sha256": record["weights_sha256"][:16],
        "encoder": record["model"]["encoder"],
        "size_px": record["size_px"],
        "supervision": record["supervision"],
        "largest_difference": max(worst, default=None),
        "bytes": {name: entry["bytes"] for name, entry in record["files"].items()},
        **{key: int8[key] for key in ("layers", "images", "num_images", "num_prompts", "mean_logit")},
        "losses": {" and ".join(loss["quantised"]): _rounded(loss) for loss in int8["losses"]},
        "encoder_ms": {name: round(value, 2) for name, value in int8["encoder_ms"].items()},
        "prompt_ms": {name: round(value, 2) for name, value in int8["prompt_ms"].items()},
        "onnxruntime": record["versions_of_export"]["onnxruntime"],
    }


def _rounded(loss: dict[str, Any]) -> dict[str, float]:
    return {key: float(f"{value:.4g}") for key, value in loss.items() if key != "quantised"}


def _torch_times(weights: Path, images: Path | None) -> dict[str, float]:
    """Return the medians for the same images with torch, in fp32 on the CPU."""
    predictor = Predictor.from_weights(weights, "cpu", "fp32")
    encoding, prompting = [], []
    for read in measured_images(images):
        image = read()
        encoding.append(_seconds(partial(predictor.set_image, image)))
        middle = [[image.shape[1] / 2, image.shape[0] / 2]]
        prompting += [_seconds(partial(predictor.predict, middle)) for _ in range(NUM_CLICKS)]
    return {
        "torch_encoder_ms": round(1000 * statistics.median(encoding), 2),
        "torch_prompt_ms": round(1000 * statistics.median(prompting), 2),
    }


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--weights", type=Path, required=True, help="any file of a promptable model")
    parser.add_argument("--name", required=True, help="of the model, in the table")
    parser.add_argument("--images", type=Path, help="a folder of images; without it, rendered scenes")
    parser.add_argument("--sizes", choices=("any", "square"), default="any")
    parser.add_argument("--points_per_side", type=int, default=4)
    parser.add_argument("--threads", type=int, help="of torch and onnxruntime; by default all cores")
    parser.add_argument("--results", type=Path, default=Path("results/promptable_export.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
