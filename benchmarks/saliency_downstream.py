"""What better masks buy: k-means on a run's embeddings with the masks of each saliency method as foreground, as rows.

    python -m benchmarks.saliency_downstream --run RUN --data ROOT --methods fused mb_plus robust_background
    python -m benchmarks.saliency_downstream --run RUN --data ROOT --methods self_trained --network FILE
    python -m benchmarks.saliency_downstream --run RUN --data ROOT --predictions ROOT/saliency_csnet
    python -m benchmarks.saliency_downstream --run OTHER --data ROOT --methods mb_plus --refines colour_models --trained

Rows go to results/saliency_downstream.jsonl: k-means mIoU on val under protocol `native`, mean and spread over
clustering seeds. The run is that of a shipped configuration, trained with our default masks; only the masks that select
and pool its embeddings change. With `--trained` it is one that was trained with the very masks that it is clustered
with, its other settings those of a shipped configuration (`run --config FILE --saliency.method mb_plus`, or `--masks`).
`benchmarks.saliency --render-table` puts the newest row of each method into its table, of the run that was measured
last, and of those with masks of their own. Labels name the clusters (Hungarian on IoU) and score them.
"""

import argparse
import json
from pathlib import Path

from benchmarks.rows import Row, append_row
from benchmarks.run_config import config_of
from benchmarks.saliency import add_method_arguments, described, labels_behind, settings_from
from benchmarks.voc_animals import cluster_val
from densessl.data.layouts import open_images
from densessl.files import file_sha256, read_json
from densessl.saliency.generation import generate_proposals
from densessl.training.run_folder import read_config


def main() -> None:
    """Cluster with the masks of every method named, or with those of a folder."""
    arguments = _parse()
    trained = {
        "config": config_of(arguments.run, *(("saliency", "masks") if arguments.trained else ())),
        "trained_with": "these masks" if arguments.trained else "masks of the configuration",
        "training_seed": read_json(arguments.run / "run.json", "the record of a run").get("seed"),
        "weights_sha256": file_sha256(arguments.run / "final.safetensors")[:16],
    }
    if arguments.predictions is not None:
        labels = "made elsewhere: whatever labels made them are theirs"
        if arguments.trained:
            _check_trained(arguments.run, masks=arguments.predictions.name)
        _measure(arguments, arguments.predictions, arguments.predictions.name, "-", labels, trained)
        return
    for method in arguments.methods:
        for refine in arguments.refines:
            settings = settings_from(arguments, method, refine)
            if arguments.trained:
                _check_trained(arguments.run, method=method, refine=refine)
            name = described(settings)
            folder = arguments.run / "downstream" / f"{name.replace(', ', '_').replace(' ', '_')}_{refine}"
            generate_proposals(open_images(None, arguments.data, "val"), folder, settings, arguments.num_workers)
            _measure(arguments, folder, name, refine, labels_behind(settings), trained)


def _check_trained(run: Path, masks: str | None = None, **saliency: str) -> None:
    """Refuse a run that was trained with other masks than these: a folder of that name, or such settings."""
    config = read_config(run)
    given = config.get("masks")
    found = {} if given else {name: config["saliency"][name] for name in saliency}
    if found != saliency or (Path(given).name if given else None) != masks:
        raise SystemExit(
            f"--trained, but run {run} was trained with the masks {given or config['saliency']['method']} "
            f"(refine {config['saliency']['refine']}) and is measured with {masks or saliency}; leave --trained out, "
            "or give the run of these masks"
        )


def _measure(arguments: argparse.Namespace, masks: Path, method: str, refine: str, labels: str, trained: Row) -> None:
    """Cluster with masks and append the row; trained: which run it is of."""
    _, scores = cluster_val(
        arguments.run,
        arguments.run / "downstream" / "clusters" / masks.name,
        data=arguments.data,
        masks=masks,
        seeds=arguments.seeds,
        image_size=arguments.image_size,
    )
    row = append_row(
        arguments.results,
        {
            "benchmark": "saliency_downstream",
            "data": arguments.data.name,
            "split": "val",
            **trained,
            "method": method,
            "refine": refine,
            "labels": labels,
            "miou": round(scores.miou, 4),
            "miou_std": round(scores.miou_std, 4),
            "clustering_seeds": arguments.seeds,
        },
    )
    print(json.dumps({key: row[key] for key in list(row)[1:11]}), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder voc_animals")
    add_method_arguments(parser)
    parser.add_argument("--trained", action="store_true", help="the run was trained with the masks it is measured with")
    parser.add_argument("--image_size", type=int, default=None, help="side that images are clustered at")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path("results/saliency_downstream.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
