"""What better masks buy: cluster one run's embeddings with the masks of each saliency method as foreground, as rows.

    python -m benchmarks.saliency_downstream --run RUN --data ROOT --methods fused mb_plus robust_background
    python -m benchmarks.saliency_downstream --run RUN --data ROOT --methods self_trained --network FILE
    python -m benchmarks.saliency_downstream --run RUN --data ROOT --predictions ROOT/saliency_csnet

Rows go to results/saliency_downstream.jsonl: k-means mIoU on val under protocol `native`, mean and spread over
clustering seeds. The run is that of a shipped configuration, trained with our default masks; only the masks that select
and pool its embeddings change. `benchmarks.saliency --render-table` puts the newest row of each method into its table
(of the run that was measured last). Labels name the clusters (Hungarian on IoU) and score them.
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


def main() -> None:
    """Cluster with the masks of every method named, or with those of a folder."""
    arguments = _parse()
    trained = {
        "config": config_of(arguments.run),
        "training_seed": read_json(arguments.run / "run.json", "the record of a run").get("seed"),
        "weights_sha256": file_sha256(arguments.run / "final.safetensors")[:16],
    }
    if arguments.predictions is not None:
        labels = "made elsewhere: whatever labels made them are theirs"
        _measure(arguments, arguments.predictions, arguments.predictions.name, "-", labels, trained)
        return
    for method in arguments.methods:
        for refine in arguments.refines:
            settings = settings_from(arguments, method, refine)
            name = described(settings)
            folder = arguments.run / "downstream" / f"{name.replace(', ', '_').replace(' ', '_')}_{refine}"
            generate_proposals(open_images(None, arguments.data, "val"), folder, settings, arguments.num_workers)
            _measure(arguments, folder, name, refine, labels_behind(settings), trained)


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
    print(json.dumps({key: row[key] for key in list(row)[1:10]}), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder voc_animals")
    add_method_arguments(parser)
    parser.add_argument("--image_size", type=int, default=None, help="side that images are clustered at")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path("results/saliency_downstream.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
