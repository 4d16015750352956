"""Encoders under every named protocol on photographs, as rows taken from the cards of `benchmark`.

    python -m densessl benchmark --encoder mobilenetv2_100 --weights mobilenet_v2_imagenet.safetensors \
        --output_stride 16 --image_size 320 --data ROOT/voc_animals --train_split train_aug \
        --masks ROOT/voc_animals/saliency_csnet --train_masks TRAIN_MASKS --classes 0,8,10,12,13,15,17 \
        --protocols all \
        --linear.augmentation false --exact.strengths '[0.01]' --finetune.epochs 3 --out OUT
    python -m benchmarks.encoder_table --benchmark OUT --name "MobileNetV2, ImageNet labels"

Rows go to results/encoder_table.jsonl, one for each card; `python -m benchmarks.render_tables` puts the newest of each
encoder and protocol into docs/benchmark.md.
"""

import argparse
import json
from pathlib import Path

from benchmarks.rows import Row, all_measured_on, append_row, latest, markdown_table
from densessl.commands.benchmark_cards import read_card


def main() -> None:
    """Append a row for each card of a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", type=Path, required=True, help="the --out of `benchmark`")
    parser.add_argument("--name", required=True, help="what the encoder is called in the table")
    parser.add_argument("--results", type=Path, default=Path("results/encoder_table.jsonl"))
    arguments = parser.parse_args()
    for path in sorted((arguments.benchmark / "cards").glob("*.json")):
        content = read_card(path).content
        scores = content["scores"]
        row = append_row(
            arguments.results,
            {
                "benchmark": "encoder_table",
                "encoder": arguments.name,
                "protocol": content["name"],
                "miou": round(content["miou"], 4),
                "miou_std": round(scores.get("miou_std", 0.0), 4),
                "interval": [round(value, 4) for value in scores.get("bootstrap", {}).get("miou_interval", [])],
                "num_images": content["num_images"],
                "image_size_px": content["image_size_px"],
                "seeds": content["seeds"],
                "precision": content["identity"].get("precision"),
                "labels": content["labels"],
                "seconds": round(content["seconds"], 1),
            },
            content["environment"],
        )
        print(json.dumps({key: row[key] for key in ("encoder", "protocol", "miou", "miou_std", "interval")}))


def encoder_table(rows: list[Row]) -> str:
    """One line for each encoder, one column for each protocol: mIoU ± spread over seeds, interval over images."""
    newest = latest(rows, lambda row: (row["encoder"], row["protocol"]))
    found = {(row["encoder"], row["protocol"]): row for row in newest}
    encoders, protocols = (list(dict.fromkeys(row[key] for row in newest)) for key in ("encoder", "protocol"))
    lines = [[encoder, *(_cell(found.get((encoder, name))) for name in protocols)] for encoder in encoders]
    sizes = sorted({"x".join(map(str, row["image_size_px"])) for row in newest})
    table = markdown_table(["encoder", *(f"`{name}`" for name in protocols)], lines)
    return (
        f"{table}\n\nmIoU in percent on {newest[-1]['num_images']} val photographs of animals (7 classes), images at "
        f"{', '.join(sizes)}: mean ± spread over clustering seeds, (interval over resampled images, that of the first "
        "seed, which the mean need not lie in the middle of). Foreground of the mask protocols: saliency_csnet. "
        f"Measured on {all_measured_on(newest)}. Rows, with which labels touched what: `results/encoder_table.jsonl`."
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    spread = f" ± {100 * row['miou_std']:.1f}" if len(row["seeds"]) > 1 else ""
    interval = "-".join(f"{100 * value:.0f}" for value in row["interval"])
    return f"{100 * row['miou']:.1f}{spread}" + (f" ({interval})" if interval else "")


if __name__ == "__main__":
    main()
