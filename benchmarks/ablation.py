"""What each extension of MaskContrast is worth: one recipe with one thing switched on, at equal CPU-minutes, as rows.

    python -m densessl synth --out DATA --num_images 600 --size_px 128
    python -m densessl saliency --data DATA --split train --out MASKS --keep_soft true
    python -m densessl saliency --data DATA --split val --out VAL_MASKS
    python -m benchmarks.ablation --config configs/demo.yaml --data DATA --split train --masks MASKS \
        --eval-masks VAL_MASKS --image-size 96 --out RUNS

Every variant is trained with every seed from the configuration of `--config`; a variant whose epochs cost more
processor time than those of the recipe alone gets fewer of them, from its first seed's time on. Rows go to
results/ablation.jsonl: k-means mIoU on `--eval-split` under protocol `native` (20 clustering seeds), the masks of
`--eval-masks` as foreground, of the encoder and of the embedding. Runs that are there already are only scored again.
With `views.num_stored`, a variant that changes neither views nor network gets the recipe's stored views of its seed,
and what they took counts for it too. Labels name the clusters and score them; no run sees one.
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import yaml

from benchmarks.rows import append_row
from densessl.commands.classes import parse_classes
from densessl.commands.cluster import cluster
from densessl.files import read_json, write_atomically

VARIANTS: dict[str, dict[str, object]] = {
    "recipe": {},
    "instances": {"views.split_instances": True},
    "exclude_similar": {"objective.exclude_similar": 0.2},
    "confidence": {"objective.confidence_weighted": True},
    "background": {"objective.background": "negatives"},
    "local_crops": {"views.num_local": 2, "views.local_size_px": 48},
    "swav": {"model.num_prototypes": 64, "objective.swav_weight": 1.0},
    "neighbours": {"views.neighbours": 10, "views.neighbours_size_px": 96},
    "no_neighbours": {"views.neighbours": 0},
    "formula": {"objective.mode": "formula"},
    "sgd_poly": {"training.optimizer": "sgd", "training.schedule": "poly", "training.learning_rate": 0.03},
}
"""What is changed in the recipe; everything else stays, learning rates included."""
CLUSTERING_SEEDS = 20
STORED, NEIGHBOURS = "stored_views", "neighbours.npz"


def main() -> None:
    """Train and score every variant with every seed."""
    arguments = _parse()
    with arguments.config.open(encoding="utf-8") as handle:
        epochs = int(yaml.safe_load(handle)["training"]["epochs"]) if arguments.epochs is None else arguments.epochs
    allowed = _cpu_minutes(arguments, "recipe", arguments.seeds[0], epochs)
    for variant in arguments.variants:
        cost = _cpu_minutes(arguments, variant, arguments.seeds[0], epochs)
        fitting = epochs if cost <= arguments.tolerated * allowed else max(1, round(epochs * allowed / cost))
        for seed in arguments.seeds:
            _cpu_minutes(arguments, variant, seed, fitting)
            _score(arguments, variant, seed, fitting)


def _cpu_minutes(arguments: argparse.Namespace, variant: str, seed: int, epochs: int) -> float:
    """Train a variant, unless it is trained already; return what that took, shared views included."""
    run, recipe = _folder(arguments, variant, seed, epochs), _folder(arguments, "recipe", seed, epochs)
    if not (run / "final.safetensors").is_file():
        if _shares_views(variant) and (recipe / STORED).is_dir() and not (run / STORED).is_dir():
            if (recipe / NEIGHBOURS).is_file():
                write_atomically(run / NEIGHBOURS, partial(shutil.copyfile, recipe / NEIGHBOURS))
            started = run / f"{STORED}.partial"
            shutil.rmtree(started, ignore_errors=True)
            shutil.copytree(recipe / STORED, started)
            started.rename(run / STORED)  # at last: where it is, all of it is there
        overrides = {"seed": seed, "training.epochs": epochs, **VARIANTS[variant]}
        flags = [text for name, value in overrides.items() for text in (f"--{name}", str(value).lower())]
        where = ["--data", arguments.data, "--split", arguments.split, "--masks", arguments.masks, "--out", run]
        config = ["--config", arguments.config, "--resume", "true"]
        if arguments.weights is not None:
            flags += ["--model.weights", str(arguments.weights)]
        subprocess.run([sys.executable, "-m", "densessl", "pretrain", *map(str, config + where), *flags], check=True)
    shared = _minutes_of_views(recipe) if _shares_views(variant) and (recipe / STORED).is_dir() else 0.0
    return float(read_json(run / "run.json", "the record of a run")["cpu_minutes"]) + shared


def _shares_views(variant: str) -> bool:
    """Say whether a variant trains on the views that the recipe stored, where it stores them."""
    changed = (name for name in VARIANTS[variant] if not name.startswith("views.neighbours"))
    return variant != "recipe" and not any(name.startswith(("views.", "model.encoder")) for name in changed)


def _minutes_of_views(run: Path) -> float:
    """Return the CPU-minutes that a run stored views for, neighbours included; its minutes count evenly."""
    record = read_json(run / "run.json", "the record of a run")
    started = datetime.datetime.fromisoformat(str(record["started"])).timestamp()
    finished = (run / "final.safetensors").stat().st_mtime
    stored = max(path.stat().st_mtime for path in (run / STORED).glob("view-*.npz"))
    return float(record["cpu_minutes"]) * (stored - started) / (finished - started)


def _score(arguments: argparse.Namespace, variant: str, seed: int, epochs: int) -> None:
    run = _folder(arguments, variant, seed, epochs)
    scores = {}
    for features in ("encoder", "embedding"):
        result = cluster(
            run,
            run / f"clusters_{features}",
            data=arguments.data,
            split=arguments.eval_split,
            foreground="masks",
            masks=arguments.eval_masks,
            classes=parse_classes(arguments.classes),
            seeds=CLUSTERING_SEEDS,
            image_size=arguments.image_size,
            features=features,  # type: ignore[arg-type]
        )
        if result.scores is None:
            raise SystemExit(f"{arguments.data} has no labels for split {arguments.eval_split}")
        scores[features] = result.scores
    row = append_row(
        arguments.results,
        {
            "benchmark": "ablation",
            "config": arguments.config.stem,
            "data": arguments.data_name or arguments.data.name,
            "split": arguments.eval_split,
            "masks": arguments.eval_masks.name,
            "variant": variant,
            "changes": VARIANTS[variant],
            "seed": seed,
            "epochs": epochs,
            "cpu_minutes": round(_cpu_minutes(arguments, variant, seed, epochs), 2),
            **{f"miou_{name}": round(value.miou, 4) for name, value in scores.items()},
            **{f"miou_std_{name}": round(value.miou_std, 4) for name, value in scores.items()},
            "clustering_seeds": CLUSTERING_SEEDS,
            "image_size_px": arguments.image_size,
        },
    )
    print(json.dumps({key: row[key] for key in list(row)[1:13]}), flush=True)


def _folder(arguments: argparse.Namespace, variant: str, seed: int, epochs: int) -> Path:
    return Path(arguments.out) / f"{variant}_seed{seed}_epochs{epochs}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the recipe")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--data-name", default=None, help="what rows call the data; by default its folder")
    parser.add_argument("--split", default="train", help="trained on")
    parser.add_argument("--masks", type=Path, required=True, help="of the images trained on, with soft maps")
    parser.add_argument("--weights", type=Path, default=None, help="initial weights of the encoder")
    parser.add_argument("--eval-split", default="val")
    parser.add_argument("--eval-masks", type=Path, required=True)
    parser.add_argument("--classes", default=None, help="those that count, 0,8,10; by default all")
    parser.add_argument("--image-size", type=int, default=None, help="side that images are clustered at")
    parser.add_argument("--epochs", type=int, default=None, help="in place of the recipe's")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tolerated", type=float, default=1.1, help="times the recipe's cost before epochs are cut")
    parser.add_argument("--out", type=Path, required=True, help="receives the runs")
    parser.add_argument("--results", type=Path, default=Path("results/ablation.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
