"""Render the tables of README.md and docs/ from the rows in results/.

python -m benchmarks.render_tables
"""

import statistics
from pathlib import Path

from benchmarks.curve_plot import draw_training_curve
from benchmarks.encoder_table import encoder_table
from benchmarks.evaluation_tables import render_evaluation_tables
from benchmarks.promptable_tables import render_promptable_tables
from benchmarks.rows import Row, all_measured_on, latest, markdown_table, measured_on, read_rows, replace_block
from benchmarks.saliency_tables import render_saliency_tables

RESULTS = Path("results")
FEATURES = {
    ("initial", "encoder"): "raw encoder features",
    ("final", "encoder"): "encoder after pretraining",
    ("final", "embedding"): "embedding after pretraining",
}
_DINO_MASKS = ("head", "mean_of_heads")
CONFIGS = {
    "voc_animals_mobilenet_v2": "MobileNetV2, ImageNet labels upstream",
    "voc_animals_mobilenet_v2_temperature_0.5": "the same at temperature 0.5 (not adopted)",
    "maskcontrast_plus_voc_animals": "MobileNetV2, head on stored views, for longer",
    "voc_animals_resnet18_scratch": "ResNet-18, random weights",
    "voc_animals_resnet18_scratch_neighbours": "ResNet-18, second round on neighbours",
}


def main() -> None:
    """Render every table."""
    replace_block(Path("README.md"), "voc_animals", voc_animals_table(read_rows(RESULTS / "voc_animals.jsonl")))
    replace_block(Path("README.md"), "demo", demo_line(read_rows(RESULTS / "demo.jsonl")))
    step = pretrain_step_table(read_rows(RESULTS / "pretrain_step.jsonl"))
    replace_block(Path("docs/performance.md"), "pretrain_step", step)
    inputs = pretrain_input_table(read_rows(RESULTS / "pretrain_input.jsonl"))
    replace_block(Path("docs/performance.md"), "pretrain_input", inputs)
    ablation = read_rows(RESULTS / "ablation.jsonl")
    replace_block(Path("docs/pretraining.md"), "ablation", ablation_table(ablation) if ablation else "")
    encoders = read_rows(RESULTS / "encoder_table.jsonl")
    if encoders:
        replace_block(Path("docs/benchmark.md"), "encoder_table", encoder_table(encoders))
    automatic = read_rows(RESULTS / "automatic_masks.jsonl")
    replace_block(Path("docs/promptable.md"), "automatic_masks", automatic_masks_table(automatic))
    curve = read_rows(RESULTS / "training_curve.jsonl")
    if curve:
        draw_training_curve(curve, Path("docs/images/training_curve.png"))
    attention = read_rows(RESULTS / "attention.jsonl")
    if attention:
        replace_block(Path("docs/attention.md"), "attention", attention_table(attention))
    dino = read_rows(RESULTS / "dino_attention.jsonl")
    if dino:
        replace_block(Path("docs/pretraining.md"), "dino_attention", dino_attention_table(dino))
    render_saliency_tables(RESULTS)
    render_evaluation_tables(RESULTS)
    render_promptable_tables(RESULTS)


def voc_animals_table(rows: list[Row]) -> str:
    """k-means mIoU on photographs: one line per weights and features, one column per masks and protocol."""
    keys = ("config", "weights", "features", "masks", "protocol")
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in latest(rows, lambda row: tuple(row[key] for key in (*keys, "training_seed"))):
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    columns = [(masks, protocol) for masks in ("saliency_csnet", "own") for protocol in ("native", "maskcontrast")]
    lines = []
    for config, described in CONFIGS.items():
        for (weights, features), name in FEATURES.items():
            of_line = [found.get((config, weights, features, *column), []) for column in columns]
            if any(of_line):
                sizes = {row["image_size_px"] for row in of_line[0]}
                runs = str(max(len(runs) for runs in of_line))
                start = f"{described}, {'/'.join(map(str, sorted(sizes)))} px"
                lines.append([start, name, runs, *(_score(runs) for runs in of_line)])
    if not lines:
        return ""
    header = ["start", "features", "runs", *(f"{_mask_name(masks)}, `{protocol}`" for masks, protocol in columns)]
    seeds = sorted({row["clustering_seeds"] for runs in found.values() for row in runs})
    minutes = "; ".join(
        f"{name} {_cpu_minutes(trained)} CPU-minutes a run on {trained[0]['hardware']['device']}"
        for name in CONFIGS
        if (trained := found.get((name, "final", "embedding", "own", "native")))
    )
    return (
        f"{markdown_table(header, lines)}\n\nk-means mIoU in percent on 222 val photographs of animals (7 classes "
        "of PASCAL VOC): mean ± spread over training runs with other seeds / spread over "
        f"{'/'.join(map(str, seeds))} clustering seeds of a run (?: a single run was scored so); columns are masks and "
        "protocol (`maskcontrast` at 512 px). No label touched training or clustering; matching uses them, and val "
        "scores were seen while `native`, the recipe of MobileNetV2 and the idea of a second round were chosen "
        "(docs/protocols.md, docs/decisions.md). The detector (saliency_csnet) was trained on labelled masks. "
        f"{minutes}. Rows: "
        "`results/voc_animals.jsonl`."
    )


def demo_line(rows: list[Row]) -> str:
    """What the demo did last."""
    if not rows:
        return ""
    row = rows[-1]
    return (
        f"`densessl demo`: mIoU {100 * row['miou_before']:.1f} before and **{100 * row['miou_after']:.1f} after** "
        f"pretraining from random weights (percent, {row['num_classes']} classes, same clustering), "
        f"{row['seconds'] / 60:.1f} minutes on {row['hardware']['cores']} cores of {row['hardware']['device']}. One "
        "seed; scenes and recipe were tuned on these scores (docs/decisions.md): a check that the path works, "
        "not a result."
    )


def pretrain_step_table(rows: list[Row]) -> str:
    """Images a second and memory of a pretraining step, beside the plain one, and the floor under its time."""
    keys = ("encoder", "output_stride", "batch", "size_px", "variant", "device")
    counted = [row for row in rows if "floor_images_per_second" in row]
    lines = [
        [
            row["encoder"],
            f"{row['batch']} x {row['size_px']} px, stride {row['output_stride']}",
            f"{row['variant']}, {row['precision']}",
            f"{row['images_per_second']:.2f}",
            f"{row['speed_over_plain']:.2f}",
            f"{row['peak_memory_gib']:.2f} ({row['peak_above_imports_gib']:.2f})",
            f"{100 * row['loss_over_plain']:+.3f} %",
            f"{row['gflop_per_image']:.0f}",
            f"{row['matrix_gflop_per_second']:.0f}, {row['memory_gb_per_second']:.0f}",
            f"{row['floor_images_per_second']:.2f} ({row['share_of_floor']:.0%})",
            measured_on(row),
        ]
        for row in latest(counted, lambda row: (row["hardware"]["device"], *(row[key] for key in keys)))
    ]
    header = [
        *("encoder", "batch", "variant", "images/s", "times plain", "peak GiB (above imports)", "loss against plain"),
        *("Gflop an image", "Gflop/s, GB/s measured", "floor images/s (reached)", "hardware, date"),
    ]
    return markdown_table(header, lines) if lines else ""


def pretrain_input_table(rows: list[Row]) -> str:
    """Pairs a second of the loader alone, and what the loop keeps of the speed of its step."""
    keys = ("part", "image_px", "size_px", "reduced", "cached", "num_workers", "encoder", "output_stride", "batch")
    lines = []
    for row in latest(rows, lambda row: (row["hardware"]["device"], *(row.get(key) for key in keys))):
        is_loader = row["part"] == "loader"
        lines.append(
            [
                f"{row['image_px']} px" + (", reduced" if row["reduced"] else ""),
                "yes" if row["cached"] else "no",
                "loader, 1 core"
                if is_loader
                else f"{row['encoder']}, batch {row['batch']}, {row['num_workers']} workers",
                f"{row['pairs_per_second']:.0f}" if is_loader else f"{row['images_per_second']:.2f}",
                "-" if is_loader else f"{row['share_of_step']:.2f}",
                measured_on(row),
            ]
        )
    header = ["images", "cache", "what", "pairs/s", "share of the step's speed", "hardware, date"]
    return markdown_table(header, lines) if lines else ""


def attention_table(rows: list[Row]) -> str:
    """Time and memory of attention maps of one layer, beside transformers."""
    keys = ("encoder", "size_px", "batch", "device")
    lines = [
        [
            f"{row['encoder']}, {row['size_px']} px, batch {row['batch']}",
            f"{row['num_images']}",
            f"{row['seconds']:.1f}",
            f"{row['seconds_transformers']:.1f}",
            f"{row['times_faster']:.2f}",
            f"{row['peak_mib']:.0f}",
            f"{row['peak_mib_transformers']:.0f}",
            f"{row['share_of_memory']:.3f}",
            f"{row['largest_difference']:.1e}",
            measured_on(row),
        ]
        for row in latest(rows, lambda row: (row["hardware"]["device"], *(row[key] for key in keys)))
    ]
    header = [
        *("network", "images", "seconds", "seconds, transformers", "times faster"),
        *("peak MiB", "peak MiB, transformers", "share", "largest difference of maps", "hardware, date"),
    ]
    note = (
        "Maps of the last layer, the same weights in both (random), medians of "
        f"{'/'.join(map(str, sorted({row['repeats'] for row in rows})))} runs; transformers "
        f"{rows[-1]['transformers_version']} with eager attention and `output_attentions=True`. Memory is the peak "
        "above the loaded network. Rows: `results/attention.jsonl`."
    )
    return f"{markdown_table(header, lines)}\n\n{note}" if lines else ""


def dino_attention_table(rows: list[Row]) -> str:
    """Foreground IoU of the attention of DINO runs, before and after training."""
    newest = latest(rows, lambda row: (row["run"], row["data"], row["split"], row["weights"]))
    lines = [
        [
            f"{row['encoder']}, {row['epochs']} epochs of {row['crop_px']} px crops",
            "before" if row["weights"] == "initial" else "after",
            *(f"{100 * row[f'{name}_iou']:.1f} ± {100 * row[f'{name}_standard_error']:.1f}" for name in _DINO_MASKS),
            f"{100 * row['oracle_head_iou']:.1f}, {100 * row['oracle_head_per_image_iou']:.1f}",
            f"{100 * row['whole_image_iou']:.1f}",
            "-"
            if row["weights"] == "initial"
            else f"{row['training_cpu_minutes']:.0f} on {row['training_hardware']['device']}",
        ]
        for row in newest
    ]
    header = ["run", "training", "chosen head", "mean of heads", "oracles: one head, a head an image", "whole image"]
    table = markdown_table([*header, "CPU-minutes of training"], lines)
    return (
        f"{table}\n\nIoU in percent (± standard error over {newest[-1]['num_images']} images of {newest[-1]['split']}) "
        f"of the patches that hold {newest[-1]['mass']:.0%} of the last layer's attention with labelled foreground. "
        "The head is chosen without labels, by proposed masks; the oracles choose by the labels that score them, and "
        "are no results. Rows: `results/dino_attention.jsonl`."
    )


def ablation_table(rows: list[Row]) -> str:
    """What each switch is worth: mIoU of a recipe with one thing changed, mean and spread over training seeds."""
    about = ("config", "data", "split", "variant")
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in latest(rows, lambda row: (*(row[key] for key in about), row["seed"])):
        found.setdefault(tuple(row[key] for key in about), []).append(row)
    lines = []
    for (config, data, split, variant), runs in found.items():
        recipe = {row["seed"]: row for row in found.get((config, data, split, "recipe"), [])}
        changes = ", ".join(f"`{name} {str(value).lower()}`" for name, value in runs[0]["changes"].items())
        lines.append(
            [
                f"{config}, {data} {split}",
                variant,
                changes or "-",
                str(len(runs)),
                *(_spread([100 * row[f"miou_{features}"] for row in runs]) for features in ("encoder", "embedding")),
                _gain(runs, recipe),
                f"{statistics.median(row['epochs'] for row in runs):g}",
                f"{statistics.median(row['cpu_minutes'] for row in runs):.1f}",
            ]
        )
    header = ["recipe, scored on", "variant", "changed", "seeds", "mIoU, encoder", "mIoU, embedding"]
    header += ["embedding against the recipe, paired", "epochs", "CPU-minutes"]
    where = all_measured_on(runs[0] for runs in found.values())
    return f"{markdown_table(header, lines)}\n\nMeasured on {where}. Rows: `results/ablation.jsonl`."


def automatic_masks_table(rows: list[Row]) -> str:
    """Time, memory and agreement of automatic masks beside segment-anything."""
    lines = []
    for row in latest(rows, lambda row: (row["hardware"]["device"], row["encoder"], row["size_px"], row["threads"])):
        theirs = {key.removesuffix("_segment_anything"): row[key] for key in row if key.endswith("_segment_anything")}
        memory = f"{row['peak_gib']:.2f} ({row['peak_above_load_gib']:.2f})"
        large = f"{row['large_seconds']:.0f} s, {row['large_peak_gib']:.2f} GiB" if "large_seconds" in row else "-"
        lines.append(
            [
                f"{row['encoder']}, {row['size_px']} px, {row['settings']['points_per_side']}^2 points",
                f"{row['seconds']:.1f} / {theirs['seconds']:.1f} ({theirs['seconds'] / row['seconds']:.1f})",
                f"{memory} / {theirs['peak_gib']:.2f} ({theirs['peak_above_load_gib']:.2f})",
                f"{row['num_masks']} / {theirs['num_masks']}",
                f"{row['mean_iou']:.4f}, {row['same_run_lengths']} the same",
                f"{row['prompt_ms']:.0f} / {theirs['prompt_ms']:.0f}",
                large,
                measured_on(row),
            ]
        )
    header = ["encoder", "seconds an image, ours / theirs (times)", "peak GiB, ours / theirs (above load)"]
    header += ["masks", "mean IoU", "ms a prompt, ours / theirs", "8000 x 6000, ours", "hardware, date"]
    return markdown_table(header, lines) if lines else "No rows yet."


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def _gain(runs: list[Row], recipe: dict[int, Row]) -> str:
    """Return the mean difference to the recipe over shared seeds and its standard error."""
    gains = [
        100 * (row["miou_embedding"] - recipe[row["seed"]]["miou_embedding"]) for row in runs if row["seed"] in recipe
    ]
    if not gains or runs[0]["variant"] == "recipe":
        return "-"
    error = f" ± {statistics.stdev(gains) / len(gains) ** 0.5:.1f}" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.1f}{error}"


def _cpu_minutes(runs: list[Row]) -> str:
    """The most processor time that a training took, and the run before it where there was one."""
    most = max(runs, key=lambda row: row["cpu_minutes"] or 0)
    first = most.get("cpu_minutes_first_run")
    return f"{most['cpu_minutes']:.0f}" if first is None else f"{most['cpu_minutes']:.0f} after {first:.0f}"


def _score(runs: list[Row]) -> str:
    """Mean over training runs, its spread over them, and the mean spread over clustering seeds within them."""
    if not runs:
        return "-"
    scores = [100 * row["miou"] for row in runs]
    between = f"{statistics.stdev(scores):.1f}" if len(scores) > 1 else "?"
    within = statistics.mean(100 * row["miou_std"] for row in runs)
    return f"{statistics.mean(scores):.1f} ± {between} / {within:.1f}"


def _mask_name(masks: str) -> str:
    return "detector's masks" if masks == "saliency_csnet" else "own masks"


if __name__ == "__main__":
    main()
