"""Score a run on voc_animals under every combination of weights, masks and protocol, as rows.

    python -m benchmarks.voc_animals --run RUN --data ROOT --config-name voc_animals_mobilenet_v2

Rows go to results/voc_animals.jsonl: k-means mIoU on val (7 classes: background, cat, cow, dog, horse, person, sheep)
with mean and spread over clustering seeds, for the features of the initial weights and of the final ones, with our own
proposals and with the masks of a published supervised detector (saliency_csnet) as foreground, under both protocols.
"""

import argparse
import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file

from benchmarks.rows import append_row
from benchmarks.run_config import check_config_name
from densessl.commands.cluster import ClusterResult, cluster
from densessl.data.layouts import open_images
from densessl.evaluation.cluster_scores import RepeatedScores
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.protocols import protocol_by_name
from densessl.files import read_json
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings

SELECTION = {
    "voc_animals_mobilenet_v2": "recipe fixed after val scores of its parts had been seen, its temperature included, "
    "and by modularity without labels (docs/decisions.md)",
    "maskcontrast_plus_voc_animals": "the parts of voc_animals_mobilenet_v2, whose val scores had been seen; epochs "
    "and temperature by labels of train_aug and val's class counts (docs/decisions.md)",
    "voc_animals_mobilenet_v2_self_trained_masks": "the recipe of voc_animals_mobilenet_v2 on other masks, scored once",
    "voc_animals_resnet18_scratch": "none: the recipe was fixed before a val score of it was read",
    "voc_animals_resnet18_scratch_neighbours": "second round with the neighbour settings of voc_animals_mobilenet_v2, "
    "whose parts had been scored on val; temperature by agreement between clustering seeds (docs/decisions.md)",
}
MATCHING = "hungarian on IoU: the best names for the clusters by the labels"
PROTOCOLS: tuple[Literal["native", "maskcontrast"], ...] = ("native", "maskcontrast")
CLASSES = (0, 8, 10, 12, 13, 15, 17)


def main() -> None:
    """Cluster and score every combination."""
    arguments = _parse()
    check_config_name(arguments.config_name, arguments.run)
    own = arguments.run / "proposals_val"
    generate_proposals(open_images(None, arguments.data, "val"), own, SaliencySettings(), None)
    record = read_json(arguments.run / "run.json", "the record of a run")
    first = read_json(arguments.first_run / "run.json", "the record of a run") if arguments.first_run else {}
    combinations: list[tuple[Literal["initial", "final"], FeatureMap]] = [
        ("initial", "encoder"),
        ("final", "embedding"),
    ]
    if not has_frozen_encoder(arguments.run):
        combinations.insert(1, ("final", "encoder"))
    for weights, features in combinations:
        for masks_name, masks in (("own", own), ("saliency_csnet", arguments.data / "saliency_csnet")):
            for protocol in arguments.protocols:
                size = arguments.image_size if protocol == "native" else None
                result, scores = cluster_val(
                    arguments.run,
                    arguments.run / "clusters_voc" / f"{weights}_{features}_{masks_name}_{protocol}",
                    data=arguments.data,
                    masks=masks,
                    seeds=arguments.seeds,
                    protocol=protocol,
                    image_size=size,
                    features=features,
                    weights=weights,
                )
                row = append_row(
                    arguments.results,
                    {
                        "benchmark": "voc_animals",
                        "config": arguments.config_name,
                        "weights": weights,
                        "features": features,
                        "masks": masks_name,
                        "protocol": protocol,
                        "image_size_px": protocol_by_name(protocol, size).image_size_px[0],
                        "miou": round(scores.miou, 4),
                        "miou_std": round(scores.miou_std, 4),
                        "clustering_seeds": arguments.seeds,
                        "stability": round(result.stability or 0.0, 3),
                        "silhouette": round(result.silhouette or 0.0, 4),
                        "training_seed": record.get("seed"),
                        "training_seconds": record.get("seconds"),
                        "cpu_minutes": record.get("cpu_minutes"),
                        "cpu_minutes_first_run": first.get("cpu_minutes"),
                        "provenance": {
                            **record["provenance"],
                            "selection": SELECTION.get(arguments.config_name, "unknown"),
                            "matching": MATCHING,
                        },
                    },
                )
                print(json.dumps({key: row[key] for key in list(row)[1:9]}))


def cluster_val(
    run: Path,
    out: Path,
    data: Path,
    masks: Path,
    seeds: int,
    image_size: int | None,
    protocol: Literal["native", "maskcontrast"] = "native",
    features: FeatureMap = "embedding",
    weights: Literal["initial", "final"] = "final",
) -> tuple[ClusterResult, RepeatedScores]:
    """Cluster the val photographs of a run, with these masks as foreground, and score the clusters."""
    result = cluster(
        run,
        out,
        data=data,
        split="val",
        foreground="masks",
        masks=masks,
        classes=CLASSES,
        seeds=seeds,
        protocol=protocol,
        image_size=image_size,
        features=features,
        weights=weights,
    )
    if result.scores is None:
        raise SystemExit(f"{data} has no labels for its val split")
    return result, result.scores


def has_frozen_encoder(run: Path) -> bool:
    """Say whether training left the encoder as it was."""
    initial, final = (load_file(run / f"{name}.safetensors") for name in ("initial", "final"))
    return all(torch.equal(initial[name], final[name]) for name in initial if name.startswith("encoder."))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder voc_animals")
    parser.add_argument("--config-name", required=True)
    parser.add_argument("--first-run", type=Path, default=None, help="the run whose weights this one started from")
    parser.add_argument("--image_size", type=int, default=None, help="for protocol native; the published keeps 512")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path("results/voc_animals.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
