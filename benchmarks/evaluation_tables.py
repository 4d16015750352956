"""What clustering and scoring cost, as tables of docs/protocols.md and docs/scores.md.

Called by `python -m benchmarks.render_tables`; the rows are those of benchmarks.kmeans and benchmarks.scoring.
"""

from pathlib import Path

from benchmarks.rows import Row, latest, markdown_table, measured_on, read_rows, replace_block


def render_evaluation_tables(results: Path) -> None:
    """Write every table whose rows exist."""
    for name, page, table in (
        ("kmeans", Path("docs/protocols.md"), kmeans_table),
        ("scoring", Path("docs/scores.md"), scoring_table),
    ):
        rows = read_rows(results / f"{name}.jsonl")
        if rows:
            replace_block(page, name, f"{table(rows)} Rows: `results/{name}.jsonl`.")


def kmeans_table(rows: list[Row]) -> str:
    """Seconds and inertia of `fast` beside scikit-learn."""
    newest = latest(rows, lambda row: (row["data"], row["num_vectors"], row["num_clusters"], row["method"]))
    lines = [
        [
            f"{row['num_vectors']:,} x {row['dim']}, {row['data']}",
            str(row["num_clusters"]),
            row["method"],
            f"{row['seconds']:.1f}",
            f"{row['times_faster_than_kmeans']:.1f}",
            f"{row['inertia_over_kmeans']:.4f}",
            f"{row['load_average_before']:.1f} to {row['load_average_after']:.1f}",
        ]
        for row in newest
    ]
    header = ["vectors", "clusters", "method", "seconds", "times as fast as KMeans", "inertia over that of KMeans"]
    header.append("load average")
    return (
        f"{markdown_table(header, lines)}\n\nA load average above 2 says that other work shared the processor. One "
        "start for scikit-learn's; `fast` takes 8 on samples. In one run, one after the other, on "
        f"{newest[-1]['num_threads']} threads. Measured on {measured_on(newest[-1])}."
    )


def scoring_table(rows: list[Row]) -> str:
    """Seconds of matching and scoring a data set, beside scanning every pair of classes."""
    newest = latest(rows, lambda row: row["way"])
    lines = [
        [
            row["way"],
            f"{row['seconds']:.2f}",
            f"{row['times_faster']:.0f}" if "times_faster" in row else "-",
            f"{row['peak_growth_mib']:.0f} MiB ({row['peak_growth_mib_of_a_tenth']:.0f} for a tenth of the images)"
            if "peak_growth_mib" in row
            else "-",
        ]
        for row in newest
    ]
    row = newest[-1]
    return (
        f"{markdown_table(['way', 'seconds', 'times as fast', 'memory beyond the start'], lines)}\n\nMatching and "
        f"scoring {row['num_images']:,} predictions of {row['width_px']}x{row['height_px']} pixels, "
        f"{row['num_classes']} classes, one thread; the same mIoU each way. Measured on {measured_on(row)}."
    )
