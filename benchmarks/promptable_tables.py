"""Tables of promptable models: objects by clicks and boxes, the three masks of ambiguous clicks, the masks that a model
gives back, exports in int8.

Called by `python -m benchmarks.render_tables`; the rows are those of benchmarks.promptable, benchmarks.filtered_masks
and benchmarks.promptable_export (int8).
"""

from pathlib import Path

from benchmarks.rows import Footnotes, Row, all_measured_on, latest, markdown_table, read_rows, replace_block

PAGE = Path("docs/promptable.md")
PROMPTS = ("click_1", "click_3", "click_5", "box")


def render_promptable_tables(results: Path) -> None:
    """Write the tables, where there are rows."""
    rows = read_rows(results / "promptable.jsonl")
    for task, table in (("objects", objects_table), ("nested", nested_table)):
        of_task = [row for row in rows if row["task"] == task]
        if of_task:
            replace_block(PAGE, f"promptable_{task}", table(of_task))
    filtered = read_rows(results / "filtered_masks.jsonl")
    if filtered:
        replace_block(PAGE, "filtered_masks", filtered_table(filtered))
    exports = read_rows(results / "promptable_export.jsonl")
    if exports:
        replace_block(PAGE, "promptable_export", export_table(exports))


def objects_table(rows: list[Row]) -> str:
    """Mean IoU of each method on each split, the best first click first."""
    newest = latest(rows, lambda row: (row["data"], row["split"], row["method"], *_choice(row)))
    notes = Footnotes()
    lines = [
        [
            f"{row['data']} {row['split']}",
            "; ".join([row["method"], *_choice(row)]),
            *(f"{row[name]:.3f} ± {row[f'{name}_error']:.3f}" for name in PROMPTS),
            str(row["num_objects"]),
            notes.mark(row["supervision"]),
            row.get("selection", "-"),
        ]
        for row in sorted(newest, key=lambda row: (row["data"], row["split"], -row["click_1"]))
    ]
    header = ["objects of", "method", "1 click", "3 clicks", "5 clicks", "box", "objects", "labels behind it"]
    table = markdown_table([*header, "chosen by"], lines)
    return (
        f"{table}\n\nLabels behind it:\n\n{notes}\n\nMean IoU ± standard error over images. Objects are connected "
        "regions of the label maps (VOC) or annotated instances (COCO), of 1 % of the image or more; void pixels and "
        f"crowds count for nothing. Clicks and boxes come from the labels. Measured on {all_measured_on(newest)}. "
        "Rows: `results/promptable.jsonl`."
    )


def _choice(row: Row) -> list[str]:
    """Return how masks were chosen and what was made of them, where it is not the default."""
    choice = []
    if "select" in row:
        choice.append(f"select: {row['select']}")
    if row.get("mirrored"):
        choice.append("mirrored")
    if "first_click" in row:
        choice.append(f"first click: {row['first_click']}")
    if "refine" in row:
        choice.append(f"masks refined: {row['refine']}")
    return choice


def filtered_table(rows: list[Row]) -> str:
    """What is kept of proposals at each least agreement, as labels judge it."""
    newest = latest(rows, lambda row: (row["data"], row["split"], row["weights_sha256"], row["min_agreement"]))
    notes = Footnotes()
    lines = [
        [
            f"{row['data']} {row['split']}",
            f"{row['weights_sha256'][:8]} ({notes.mark(row['supervision'])})",
            f"{row['min_agreement']:.1f}",
            f"{row['num_kept']:,} of {row['num_masks']:,}",
            *("-" if row[name] is None else f"{row[name]:.3f}" for name in ("iou", "good", "several")),
        ]
        for row in newest
    ]
    header = [
        "masks of",
        "model (labels)",
        "`--min_agreement`",
        "kept",
        "mean IoU",
        "share over 0.7",
        "share of several objects",
    ]
    return (
        f"{markdown_table(header, lines)}\n\nMean IoU with the object that a mask overlaps best; of several objects "
        "is a mask that holds over 30 % of each of two or more. Labels are read to judge alone; behind masks and "
        f"models are:\n\n{notes}\n\nMeasured on {all_measured_on(newest)}. Rows: `results/filtered_masks.jsonl`."
    )


def nested_table(rows: list[Row]) -> str:
    """How often the three masks of a click are the three nested objects."""
    newest = latest(rows, lambda row: (row["data"], row["split"], row["method"]))
    lines = [
        [
            row["method"],
            str(row["num_images"]),
            f"{row['all_three']:.1%}",
            *(f"{row[name]:.3f}" for name in ("whole", "part", "subpart")),
            row.get("selection", "-"),
        ]
        for row in newest
    ]
    header = ["model", "scenes", "all three above 0.8", "mean IoU of whole", "of part", "of subpart", "chosen by"]
    return (
        f"{markdown_table(header, lines)}\n\nMeasured on {all_measured_on(newest)}. Rows: `results/promptable.jsonl`."
    )


def export_table(rows: list[Row]) -> str:
    """What int8 costs in masks, and what it saves: one line for each model and set of quantised parts."""
    newest = latest(rows, lambda row: (row["name"], row["sizes"], row["images"]))
    notes = Footnotes()
    lines = [
        [
            row["name"],
            parts,
            f"{loss['mean_iou']:.3f}",
            f"{loss['logit_difference']:.2g} of {row['mean_logit']:.2g}",
            *(_saved(row, part, parts) for part in ("encoder", "decoder")),
            f"{row['num_prompts']} on {row['images']}",
            notes.mark(row["supervision"]),
        ]
        for row in newest
        for parts, loss in row["losses"].items()
    ]
    header = ["model", "in int8", "mean IoU with fp32", "logits off by", "encoder", "decoder", "clicks"]
    return (
        f"{markdown_table([*header, 'labels behind the model'], lines)}\n\nLabels behind the model:\n\n{notes}\n\n"
        "Sizes of the ONNX files, and medians with onnxruntime for an image (encoder) and a click (decoder, masks "
        "brought to the image's size), fp32 -> int8. "
        f"Measured on {all_measured_on(newest)}. Rows: `results/promptable_export.jsonl`."
    )


def _saved(row: Row, part: str, quantised: str) -> str:
    times = row["encoder_ms" if part == "encoder" else "prompt_ms"]
    size, time = row["bytes"][f"{part}.onnx"] / 1e6, times["fp32"]
    if part not in quantised:
        return f"{size:.1f} MB, {time:.0f} ms"
    return f"{size:.1f} -> {row['bytes'][f'{part}.int8.onnx'] / 1e6:.1f} MB, {time:.0f} -> {times['int8']:.0f} ms"
