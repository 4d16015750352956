"""The picture of benchmarks.training_curve: mIoU against processor time, one line for each configuration.

Called by `python -m benchmarks.render_tables`.
"""

import statistics
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.rows import Row, latest

STYLES = {
    "maskcontrast_voc_animals": ("published recipe", "#d55e00", "s", "--"),
    "voc_animals_mobilenet_v2": ("embedding of masks, views from neighbours", "#0072b2", "o", "-"),
    "maskcontrast_plus_voc_animals": ("the same on stored views, for longer", "#009e73", "^", "-"),
}
"""Colours that differ for every reader (Okabe and Ito), and markers and dashes that do in black and white."""


def draw_training_curve(rows: list[Row], path: Path) -> None:
    """Draw mean and spread over seeds at each scored step."""
    newest = latest(rows, lambda row: (row["config"], row["seed"], row["step"]))
    figure = Figure(figsize=(7.2, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    raw = [100 * row["miou"] for row in newest if row["step"] == 0]
    axes.axhline(statistics.mean(raw), color="0.45", linestyle=":", linewidth=1.2, label="raw ImageNet features")
    for config, (name, colour, marker, dashes) in STYLES.items():
        steps: dict[int, list[Row]] = {}
        for row in newest:
            if row["config"] == config and row["step"] > 0:
                steps.setdefault(row["step"], []).append(row)
        if not steps:
            continue
        minutes = [statistics.mean(row["cpu_minutes"] for row in found) for found in steps.values()]
        scores = [[100 * row["miou"] for row in found] for found in steps.values()]
        num_seeds = max(map(len, scores))
        means = [statistics.mean(values) for values in scores]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in scores]
        label = f"{name} ({config}, {num_seeds} seed{'s' if num_seeds > 1 else ''})"
        axes.plot(
            minutes, means, label=label, color=colour, marker=marker, linestyle=dashes, markersize=4, linewidth=1.4
        )
        axes.errorbar(minutes, means, yerr=spread, color=colour, linestyle="none", capsize=2, elinewidth=0.8)
    axes.set_xlabel("CPU-minutes of training")
    axes.set_ylabel("k-means mIoU on voc_animals val, %")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    figure.legend(fontsize=7.5, loc="outside lower center", ncols=1)
    figure.savefig(path)
