"""Scores per class with bars, the confusion matrix, and the protocol they were measured under."""

import numpy as np

from densessl.report.charts import heat_map, row_shares, score_bar
from densessl.report.contents import ClassScore, ReportContents, Scores
from densessl.report.markup import Html, element, figure, join, paragraph, section, settings_table
from densessl.report.overlays import painted_colour
from densessl.report.overview_sections import percent


def score_section(contents: ReportContents) -> Html | None:
    """Return the section of scores, or `None` where there are no labels to score against."""
    scores = contents.scores
    if scores is None:
        return None
    parts: list[Html] = [figure(_class_table(scores, contents.scores_before), _table_caption(scores, contents))]
    if scores.confusion is not None:
        parts.append(_confusion(scores, scores.confusion))
    if scores.miou_per_seed:
        values = ", ".join(percent(value) for value in scores.miou_per_seed)
        parts.append(paragraph(f"mIoU of each seed: {values} %.", style="small"))
    if scores.protocol:
        parts.append(settings_table(scores.protocol, "Measured under this protocol"))
    return section("scores", "Scores per class", *parts)


def swatch(value: int) -> Html:
    """Return a small square in the colour that a class has in the pictures."""
    if value < 0:
        return element("span", {"class": "swatch striped", "aria-hidden": "true"})
    red, green, blue = painted_colour(value)
    style = f"background:rgb({red},{green},{blue})"
    return element("span", {"class": "swatch", "style": style, "aria-hidden": "true"})


def _class_table(scores: Scores, before: Scores | None) -> Html:
    earlier = {score.class_id: score.iou for score in before.classes} if before else {}
    columns = ["Class", *(["Before"] if before else []), "After" if before else "IoU", "IoU, 0 to 100 %"]
    columns += ["Change"] if before else []
    head = element("tr", None, *(_heading(name) for name in columns))
    rows = [_class_row(score, earlier.get(score.class_id), before is not None) for score in scores.classes]
    mean = _mean_row(scores, before)
    table = element(
        "table",
        {"class": "scores"},
        element("thead", None, head),
        element("tbody", None, *rows),
        element("tfoot", None, mean),
    )
    return element("div", {"class": "scroll", "tabindex": "0"}, table)


def _heading(name: str) -> Html:
    style = "number" if name in {"Before", "After", "IoU", "Change"} else None
    return element("th", {"scope": "col", "class": style}, name)


def _class_row(score: ClassScore, before: float | None, has_before: bool) -> Html:
    name = element("th", {"scope": "row"}, swatch(score.class_id), score.name)
    return element("tr", None, name, *_value_cells(score.iou, before, has_before))


def _mean_row(scores: Scores, before: Scores | None) -> Html:
    name = element("th", {"scope": "row"}, "mean")
    return element("tr", None, name, *_value_cells(scores.miou, before.miou if before else None, before is not None))


def _value_cells(after: float | None, before: float | None, has_before: bool) -> list[Html]:
    cells = [element("td", {"class": "number"}, _cell(before))] if has_before else []
    cells.append(element("td", {"class": "number strong"}, _cell(after)))
    cells.append(element("td", {"class": "bars"}, score_bar(after, before)))
    if has_before:
        change = "–" if after is None or before is None else f"{100 * (after - before):+.1f}".replace("-", "−")
        cells.append(element("td", {"class": "number"}, change))
    return cells


def _cell(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _table_caption(scores: Scores, contents: ReportContents) -> Html:
    scored = [score for score in scores.classes if score.iou is not None]
    sentences = ["Intersection over union of each class, in percent; the bar is the score after pretraining"]
    sentences[0] += ", the upright tick the score before. " if contents.scores_before else ". "
    if contents.scores_before is None:
        sentences[0] = "Intersection over union of each class, in percent. "
    if len(scored) > 1:
        best = max(scored, key=lambda score: score.iou or 0.0)
        worst = min(scored, key=lambda score: score.iou or 0.0)
        sentences.append(f"Best: {best.name} ({_cell(best.iou)}). Weakest: {worst.name} ({_cell(worst.iou)}).")
    if len(scored) < len(scores.classes):
        sentences.append(" A dash marks a class that neither occurs nor is predicted.")
    return join(sentences)


def _confusion(scores: Scores, confusion: np.ndarray) -> Html:
    names = [score.name for score in scores.classes]
    columns = names + ["no class"] * (confusion.shape[1] - len(names))
    shares = row_shares(confusion)
    caption = "Each row shows where the pixels of one labelled class went, in percent of that class. "
    caption += _largest_confusion(shares, names, columns)
    table = element("div", {"class": "scroll", "tabindex": "0"}, heat_map(shares, names, columns))
    return join([element("h3", None, "Confusion matrix"), figure(table, caption)])


def _largest_confusion(shares: np.ndarray, rows: list[str], columns: list[str]) -> str:
    wrong = shares.copy()
    np.fill_diagonal(wrong, 0.0)
    row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
    if wrong[row, column] == 0:
        return "Every pixel is where its label says."
    share = round(100 * float(wrong[row, column]))
    return f"The largest confusion: {share} % of the pixels of {rows[row]} are predicted as {columns[column]}."
