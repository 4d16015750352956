"""The training curves: related quantities share a panel."""

from collections.abc import Sequence

from densessl.report.charts import MAX_POINTS, line_chart
from densessl.report.contents import Curve, ReportContents
from densessl.report.markup import Html, element, paragraph, section

PANELS = (
    ("Loss", ("loss", "contrastive_loss", "saliency_loss", "swav_loss")),
    ("Entropy of the teacher, KL of the student", ("teacher_entropy", "kl_divergence")),
    ("Similarity to positives and negatives", ("positive_similarity", "negative_similarity")),
    ("Spread of the embedding", ("embedding_spread", "embedding_std")),
    ("Effective rank of the embedding", ("effective_rank",)),
    ("Learning rate", ("learning_rate",)),
    ("Speed", ("images_per_second",)),
    ("Share of time waiting for data", ("data_wait",)),
    ("Likely false negatives (share)", ("false_negative_share",)),
    ("Age of the queue in steps", ("queue_age",)),
    ("Masks in a step", ("masks_used", "masks_skipped")),
    ("Foreground, images passed over", ("foreground_share", "replaced_share")),
    ("Peak memory in MiB", ("memory_mib",)),
    ("Agreement of clusterings", ("cluster_stability",)),
    ("mIoU of k-means (with labels)", ("kmeans_miou_with_labels",)),
)
MAX_OTHER_PANELS = 8


def curve_section(contents: ReportContents) -> Html | None:
    """Return a grid of small charts, one per group of logged quantities, or `None` without a log."""
    if not contents.curves:
        return None
    panels = group_curves(contents.curves)
    num_lines = max(len(curve.values) for curve in contents.curves)
    text = "What was logged during pretraining; the bold number is the last value. "
    if num_lines > MAX_POINTS:
        text += f"Each point averages about {num_lines / MAX_POINTS:.0f} log lines. "
    if any(curve.name == "embedding_spread" for curve in contents.curves):
        text += "A healthy run keeps the spread and the rank of the embedding well above zero."
    charts = [line_chart(curves, title) for title, curves in panels]
    return section("curves", "Training curves", paragraph(text), element("div", {"class": "charts"}, *charts))


def group_curves(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    """Group curves into panels: the known groups in their order, then every other quantity by itself."""
    by_name = {curve.name: curve for curve in curves if curve.values}
    panels = []
    for title, names in PANELS:
        members = [by_name.pop(name) for name in names if name in by_name]
        if members:
            panels.append((title, members))
    rest = list(by_name.items())[:MAX_OTHER_PANELS]
    return panels + [(name.replace("_", " ").capitalize(), [curve]) for name, curve in rest]
