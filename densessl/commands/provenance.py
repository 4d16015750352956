"""Which labels touched a result, in words."""

from pathlib import Path

from densessl.files import read_json


def masks_provenance(masks: Path) -> str:
    """Say where a folder of masks came from and what supervision that implies.

    Folders that `saliency` (or `pretrain`, or `run`) wrote name their estimator in `saliency.json`; all others are
    made elsewhere.
    """
    record = masks / "saliency.json"
    content = read_json(record, "the settings of `saliency`") if record.is_file() else None
    match content:
        case {
            "settings": {"method": str(method), "encoder": str(encoder), "weights": weights},
            "features": {"supervision": str(supervision)},
        }:
            source = encoder if weights is None else f"{encoder}, weights {Path(str(weights)).name}"
            return f"fitted to none (estimator {method}); labels that trained its features ({source}): {supervision}"
        case {"settings": {"method": str(method)}}:
            return f"fitted to none (estimator {method}; docs/saliency.md says which labels its design saw)"
    return f"made elsewhere ({masks.name}); whatever labels made them are theirs"
