"""The tables of docs/saliency.md: what methods are worth; what refinements, sizes, processes and other packages cost.

Called by `python -m benchmarks.render_tables` and, for the table of methods, by `benchmarks.saliency --render-table`.
Other rows are those of benchmarks.refinements, benchmarks.saliency_cost,
benchmarks.classical_saliency and benchmarks.large_photographs.
"""

from pathlib import Path

from benchmarks.rows import (
    Footnotes,
    Row,
    all_measured_on,
    latest,
    markdown_table,
    measured_on,
    read_rows,
    replace_block,
)

PAGE = Path("docs/saliency.md")
MEASURES = {
    "mae": "MAE",
    "max_f": "max F",
    "mean_f": "mean F",
    "adaptive_f": "adaptive F",
    "weighted_f": "weighted F",
    "s_measure": "S",
    "max_e": "max E",
    "mean_e": "mean E",
    "adaptive_e": "adaptive E",
    "iou": "IoU",
    "accuracy": "accuracy",
}
"""Of the soft map, as `saliency_metrics` names them, and their heads in the table."""
PROPOSAL_MEASURES = {"best_overlap": "best overlap", "ar_1": "AR@1", "ar_10": "AR@10", "ar_100": "AR@100"}
"""Of the proposals, likewise."""


def render_saliency_tables(results: Path) -> None:
    """Write every table whose rows exist."""
    for name, table in (
        ("refinements", refinements_table),
        ("saliency_cost", cost_table),
        ("classical_saliency", classical_table),
        ("large_photographs", enlargement_words),
    ):
        rows = read_rows(results / f"{name}.jsonl")
        if rows:
            replace_block(PAGE, name, f"{table(rows)} Rows: `results/{name}.jsonl`.")
    methods = results / "saliency.jsonl"
    if methods.is_file():
        render_saliency_table(methods)


def render_saliency_table(results: Path) -> None:
    """Write the table of all methods; results: the file of their rows, beside that of the downstream ones."""
    downstream = read_rows(results.with_name("saliency_downstream.jsonl"))
    replace_block(PAGE, "saliency", saliency_table(read_rows(results), downstream))


def saliency_table(rows: list[Row], downstream: list[Row]) -> str:
    """Masks, soft maps, speed and segmentations of each method, the best masks first; the newest row of each."""
    same_run, trained = _one_run(downstream)
    scores, trained_scores = (
        {tuple(row[key] for key in ("data", "split", "method", "refine")): row for row in found}
        for found in (same_run, trained)
    )
    newest = latest(
        rows, lambda row: (*(row[key] for key in ("data", "split", "num_images", "method", "refine")), _classes(row))
    )
    named = {**MEASURES, **{name: PROPOSAL_MEASURES[name] for name in ("best_overlap", "ar_10")}}
    measures = {name: head for name, head in named.items() if any(name in row for row in newest)}
    labels = Footnotes()
    lines = [
        [
            f"{row['data']} {row['split']}, {row['num_images']}",
            _classes(row),
            row["method"],
            row["refine"],
            f"{row['mask_iou']:.3f} ± {row['standard_error']:.3f}",
            *(f"{row[name]:.3f}" if name in row else "-" for name in measures),
            *(
                _segmentation(found.get((row["data"], row["split"], row["method"], row["refine"])))
                for found in (scores, trained_scores)
            ),
            f"{row['images_per_second']:.1f} ({row['num_workers']})" if row["images_per_second"] else "-",
            labels.mark(row["labels"]),
        ]
        for row in sorted(newest, key=lambda row: (row["data"], row["split"], _classes(row), -row["mask_iou"]))
    ]
    header = [
        "data, images",
        "classes",
        "method",
        "refine",
        "mask IoU",
        *measures.values(),
        "k-means mIoU",
        "trained too",
    ]
    table = markdown_table([*header, "images/s (processes)", "labels behind it"], lines)
    note = ""
    if same_run:
        run = same_run[-1]
        note = (
            f"k-means mIoU: of the run of `configs/{run['config']}.yaml`, seed {run['training_seed']}, selected and "
            f"pooled by these masks, mean ± spread over {run['clustering_seeds']} clustering seeds; trained too: of a "
            "run of that configuration that was trained with these masks in place of the default's "
            "(`results/saliency_downstream.jsonl`). "
        )
    return (
        f"{table}\n\nLabels behind it:\n\n{labels}\n\n"
        f"{note}Measured on {all_measured_on(newest)}. Rows: `results/saliency.jsonl`."
    )


def _one_run(downstream: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of the run that was measured last, and of runs of its configuration with masks of their own."""
    trained = [row for row in downstream if row.get("trained_with") == "these masks"]
    others = [row for row in downstream if row not in trained]
    if not others:
        return [], []
    keys = ("config", "training_seed", "weights_sha256")
    same_run = [row for row in others if all(row.get(key) == others[-1].get(key) for key in keys)]
    return same_run, [row for row in trained if all(row[key] == others[-1].get(key) for key in keys[:2])]


def _classes(row: Row) -> str:
    return str(row.get("classes", "all"))


def _segmentation(row: Row | None) -> str:
    return "-" if row is None else f"{row['miou']:.3f} ± {row['miou_std']:.3f}"


def refinements_table(rows: list[Row]) -> str:
    """Seconds of each refinement for one image."""
    newest = latest(rows, lambda row: row["refine"])
    lines = [[row["refine"], f"{row['seconds']:.3f}", f"{row['time_over_guided_filter']:.2f}"] for row in newest]
    size = f"{newest[0]['width_px']}x{newest[0]['height_px']}"
    table = markdown_table(["refinement", f"seconds, {size}, one core", "times the guided filter"], lines)
    return f"{table}\n\n{_where(rows[-1])}"


def cost_table(rows: list[Row]) -> str:
    """Images a second by size and processes, and the memory of a long run in words."""
    rates = latest([row for row in rows if row["curve"] == "rate"], lambda row: (row["size_px"], row["num_processes"]))
    processes = sorted({row["num_processes"] for row in rates})
    found = {(row["size_px"], row["num_processes"]): row["images_per_second"] for row in rates}
    lines = [
        [f"{size} px", *(f"{found[size, count]:.1f}" if (size, count) in found else "-" for count in processes)]
        for size in sorted({row["size_px"] for row in rates})
    ]
    names = {0: "this process alone", 1: "1 worker"}
    header = ["long side", *(names.get(count, f"{count} workers") for count in processes)]
    memory = [row for row in rows if row["curve"] == "memory"][-1:]
    notes = [
        f"\n\nMemory over {row['num_images']:,} images of {row['size_px']} px, the process and its workers together, "
        f"at each tenth of the run: {', '.join(map(str, row['mib_by_tenth']))} MiB (the "
        f"last holds the end of the workers, some hundred MiB of each whatever the number of images). {_where(row)}"
        for row in memory
    ]
    return f"{markdown_table(header, lines)}\n\nMeasured on {all_measured_on(rates)}." + "".join(notes)


def classical_table(rows: list[Row]) -> str:
    """Milliseconds of ours and of other packages, and how far maps of the same method agree."""
    row = rows[-1]
    ours, agreements = row["speed_ratio"], row["agreement"]
    lines = []
    for name, seconds in sorted(row["seconds"].items(), key=lambda item: item[1]):
        like = agreements.get(name)
        same = "-"
        if like is not None:
            ratio = ours[name][like["with"]]
            same = f"{like['with']}: {ratio:.2f} times our time, correlation {like['pearson']:.3f}"
        lines.append([name, "densessl" if name in ours else "other", f"{1000 * seconds:.2f}", same])
    versions = ", ".join(f"{name} {version}" for name, version in row["other_versions"].items() if version)
    table = markdown_table(["method", "package", "ms an image, one core", "the same method elsewhere"], lines)
    return (
        f"{table}\n\nFirst {row['num_images']} photographs of {row['data']} {row['split']}; other packages: {versions}."
        f"\n\n{_where(row)}"
    )


def enlargement_words(rows: list[Row]) -> str:
    """What the enlargement along edges gains over a bilinear one, and what it costs."""
    row = rows[-1]
    iou, share = ((row[f"{name}_along_edges"], row[f"{name}_bilinear"]) for name in ("iou", "outline_share"))
    return (
        f"On {row['num_scenes']} rendered scenes of {row['size_px']} pixels the default has masks of mean IoU "
        f"{iou[0]:.3f} enlarged along edges and {iou[1]:.3f} enlarged bilinearly; of the pixels within "
        f"{row['outline_px']} of the true outline {share[0]:.3f} and {share[1]:.3f} are right. 12 megapixels take "
        f"{row['seconds_12_megapixels']:.2f} seconds on one core. {_where(row)}"
    )


def _where(row: Row) -> str:
    return f"Measured on {measured_on(row)}."
