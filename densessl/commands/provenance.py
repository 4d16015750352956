"""Which labels touched a result, in words."""

from pathlib import Path

from densessl.data.pasted_set import ANNOTATIONS_FILE
from densessl.data.pasted_set import RECORD_FILE as PASTED_FILE
from densessl.files import read_json
from densessl.models.weights import WeightReport
from densessl.saliency.generation import made_elsewhere


def masks_provenance(masks: Path) -> str:
    """Say where a folder of masks came from and what supervision that implies.

    Folders that `saliency` (or `pretrain`, or `run`) wrote name their estimator in `saliency.json`, those of `segment`
    their model's supervision in `segment.json`, the objects of `paste` the masks that it was given in `pasted.json`;
    all others are made elsewhere; those made of other masks (`--method file`) are traced to them.
    """
    record = masks / "saliency.json"
    content = read_json(record, "the settings of `saliency`") if record.is_file() else None
    match content:
        case {"settings": {"method": "file", "masks": str(source)}}:
            return masks_provenance(Path(source))
        case {"settings": {"method": "self_trained"}, "features": {"supervision": str(supervision)}}:
            return f"self-trained network ({supervision})"
        case {
            "settings": {"method": str(method), "encoder": str(encoder), "weights": weights},
            "features": {"supervision": str(supervision)},
        }:
            source = encoder if weights is None else f"{encoder}, weights {Path(str(weights)).name}"
            return f"fitted to none (estimator {method}); labels that trained its features ({source}): {supervision}"
        case {"settings": {"method": str(method)}}:
            return f"fitted to none (estimator {method}; docs/saliency.md says which labels its design saw)"
    record = masks / "segment.json"
    content = read_json(record, "the record of `segment`") if record.is_file() else None
    match content:
        case {"supervision": str(supervision)}:
            return f"automatic masks of a promptable model (labels that trained it: {supervision})"
    scenes = masks.resolve().parent.parent
    is_pasted = masks.resolve() == scenes / ANNOTATIONS_FILE and (scenes / PASTED_FILE).is_file()
    content = read_json(scenes / PASTED_FILE, "the record of `paste`") if is_pasted else None
    match content:
        case {"supervision": str(supervision)}:
            return f"{supervision}; objects pasted into other images"
    return made_elsewhere(masks)


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
