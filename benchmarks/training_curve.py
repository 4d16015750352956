"""k-means mIoU on photographs against processor time, as rows: what a longer training of a configuration buys.

    python -m densessl saliency --data ROOT/voc_animals --split train_aug --out MASKS
    python -m benchmarks.training_curve --config configs/voc_animals_mobilenet_v2.yaml --data ROOT/voc_animals \
        --masks MASKS --weights mobilenet_v2_imagenet.safetensors --every 94 --out RUN

The run keeps a checkpoint every so many steps, and each is clustered under protocol `native` (20 seeds) with the masks
of `--eval-masks` as foreground, by default those of saliency_csnet; so are the initial weights, by their raw features.
The CPU-minutes of a checkpoint are those before the first step (neighbours, stored views), by the wall time that they
took, and its share of the others. Rows go to
results/training_curve.jsonl; `python -m benchmarks.render_tables` draws docs/images/training_curve.png from them.
Labels name the clusters and score them; training sees none.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file

from benchmarks.rows import append_row
from benchmarks.voc_animals import cluster_val
from densessl.evaluation.network_features import FeatureMap
from densessl.files import read_json
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.run_folder import load_run_model, read_config, save_weights, write_config

SEEDS = 20


def main() -> None:
    """Train a configuration, unless it is trained already, and score what it was on the way."""
    arguments = _parse()
    run = arguments.out
    if not (run / "final.safetensors").is_file():
        _train(arguments)
    record = read_json(run / "run.json", "the record of a run")
    _score(arguments, run, record, 0, "initial", "encoder")
    for path in list_checkpoints(run / "checkpoints"):
        step = int(load_checkpoint(path)["step"])
        _score(arguments, _run_at(run, path, step), record, step, "final", "embedding")


def _train(arguments: argparse.Namespace) -> None:
    flags = ["--training.checkpoint_every", str(arguments.every), "--training.keep_checkpoints", "1000"]
    if arguments.weights is not None:
        flags += ["--model.weights", str(arguments.weights)]
    where = ["--data", arguments.data, "--masks", arguments.masks, "--out", arguments.out]
    config = ["--config", arguments.config, "--resume", "true", "--seed", arguments.seed]
    command = [sys.executable, "-m", "densessl", "pretrain", *map(str, config + where), *flags]
    subprocess.run(command, check=True)


def _run_at(run: Path, checkpoint: Path, step: int) -> Path:
    """Return a run folder whose final weights are those of a checkpoint."""
    folder = run / "curve" / f"step-{step}"
    write_config(folder, read_config(run))
    _, settings = load_run_model(run)
    tensors = load_file(run / "final.safetensors")  # a checkpoint of stored views lacks the encoder, which stays
    tensors.update(load_checkpoint(checkpoint)["model"])
    save_weights(folder / "final.safetensors", tensors, settings)
    (folder / "run.json").write_bytes((run / "run.json").read_bytes())
    return folder


def _score(
    arguments: argparse.Namespace,
    run: Path,
    record: dict[str, object],
    step: int,
    weights: Literal["initial", "final"],
    features: FeatureMap,
) -> None:
    masks = arguments.eval_masks or arguments.data / "saliency_csnet"
    out = arguments.out / "curve" / f"clusters-{step}"
    _, scores = cluster_val(
        run, out, arguments.data, masks, SEEDS, arguments.image_size, features=features, weights=weights
    )
    minutes = _minutes_at(arguments.out, record, step) if step else 0.0
    row = append_row(
        arguments.results,
        {
            "benchmark": "training_curve",
            "config": arguments.config.stem,
            "seed": arguments.seed,
            "step": step,
            "cpu_minutes": round(minutes, 2),
            "features": features,
            "masks": masks.name,
            "protocol": "native",
            "miou": round(scores.miou, 4),
            "miou_std": round(scores.miou_std, 4),
            "clustering_seeds": SEEDS,
        },
    )
    print(json.dumps({key: row[key] for key in list(row)[1:10]}), flush=True)


def _minutes_at(run: Path, record: dict[str, object], step: int) -> float:
    """Return the CPU-minutes until a step; those of a run are spread evenly over its wall time."""
    total, in_steps = float(str(record["cpu_minutes"])), float(str(record["seconds"]))
    started = datetime.datetime.fromisoformat(str(record["started"])).timestamp()
    wall = max(in_steps, (run / "final.safetensors").stat().st_mtime - started)
    before = wall - in_steps
    return total * (before + in_steps * step / int(str(record["num_steps"]))) / wall


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder voc_animals")
    parser.add_argument("--masks", type=Path, required=True, help="of the images trained on")
    parser.add_argument("--eval-masks", type=Path, default=None, help="of val; by default DATA/saliency_csnet")
    parser.add_argument("--weights", type=Path, default=None, help="initial weights of the encoder")
    parser.add_argument("--every", type=int, required=True, help="steps between the checkpoints that are scored")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", type=int, default=None, help="side that images are clustered at")
    parser.add_argument("--out", type=Path, required=True, help="the run folder")
    parser.add_argument("--results", type=Path, default=Path("results/training_curve.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
