"""Which labels touched a result, in words."""

from densessl.files import read_json
from densessl.models.weights import WeightReport


def weights_provenance(report: WeightReport) -> str:
    """Return which labels touched the weights of a file, in words; those of a run are followed to its record."""
    record = report.path.parent / "run.json"
    is_own = report.format in {"densessl run", "densessl"} and record.is_file()
    content = read_json(record, "the record of a run") if is_own else None
    match content:
        case {"provenance": {"backbone": str(backbone), "masks": str(masks)}}:
            return f"those behind run {report.path.parent.resolve().name} (first weights: {backbone}; masks: {masks})"
    return report.supervision


def first_weights_provenance(encoder: str, loaded: WeightReport | None, *, pretrained: bool) -> str:
    """Return which labels touched the weights that training begins with, in words.

    Args:
        encoder: timm name. loaded: what was read from a file, if one was. pretrained: timm downloaded its weights.
    """
    if loaded is not None:
        return weights_provenance(loaded)
    if pretrained:
        return f"timm's published weights for {encoder} (see its model card for their labels)"
    return "none (random weights)"
