"""What `predict` writes: overlays, and predict.json, which says what made them.

OUT/label_maps/STEM.png  values as `cluster` gives them: 0 background, c + 1 for cluster c (c, where all pixels are)
OUT/overlays/STEM.png    the label map over the photograph, names below; colours and names as in the report
OUT/proposals/           the masks that were proposed for the images, where none were given
OUT/records.jsonl        the SHA-256 of what each label map was made from (`record_journal`)
OUT/predict.json
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from densessl.errors import InputError
from densessl.evaluation.segmenter_file import SEGMENTER_FILE
from densessl.files import (
    check_unused_folder,
    file_sha256,
    read_json,
    remove_abandoned_writes,
    write_atomically,
    write_json,
)
from densessl.report.legend import with_legend
from densessl.report.overlays import paint
from densessl.segmenter import Segmenter
from densessl.structures import ImageArray, LabelMap, Rejection
from densessl.training.run_folder import plain

_COMPARED = ("segmenter_sha256", "images", "masks")
_EXPECTED = "the record of `predict`"


@dataclass(frozen=True)
class PredictFolder:
    """Where the files of an image are."""

    out: Path

    def label_map(self, stem: str) -> Path:
        return self.out / "label_maps" / f"{stem}.png"

    def overlay(self, stem: str) -> Path:
        return self.out / "overlays" / f"{stem}.png"

    def write_overlay(self, stem: str, picture: ImageArray) -> None:
        image = Image.fromarray(picture)
        write_atomically(self.overlay(stem), lambda temporary: image.save(temporary, format="PNG"))


def overlay_of(photo: ImageArray, label_map: LabelMap, names: Mapping[int, str], *, has_background: bool) -> ImageArray:
    """Paint a label map over its photograph (height, width, 3), with the names of its values below.

    Without background, cluster c has the colour of c + 1, as in the report, so that none looks like background.
    """
    shift = 0 if has_background else 1
    shown = label_map + shift
    return with_legend(paint(photo, shown), shown, {value + shift: name for value, name in names.items()})


def predict_record(
    segmenter: Segmenter, images: Path, masks: Path | None, environment: dict[str, Any]
) -> dict[str, Any]:
    """Return what makes the label maps, for predict.json."""
    header = segmenter.header
    return {
        "clusters": segmenter.folder.resolve(),
        "segmenter_sha256": file_sha256(segmenter.folder / SEGMENTER_FILE),
        "run": header.run,
        "weights": header.weights,
        "weights_sha256": header.weights_sha256,
        "encoder": header.encoder,
        "features": header.features,
        "foreground": segmenter.foreground_with(has_masks=masks is not None),
        "protocol": segmenter.clustering.protocol,
        "images": images.resolve(),
        "masks": masks and masks.resolve(),
        "names": segmenter.names,
        "values": segmenter.value_names,
        "provenance": header.provenance,
        "environment": environment,
    }


def claim_predict_folder(out: Path, record: dict[str, Any]) -> bool:
    """Make the folder this record's own; returns whether it was begun under other names of clusters.

    Raises:
        InputError: it was begun with other clusters, images or masks (shows both), or by another hand.
    """
    path = out / "predict.json"
    new = plain(record)
    old = read_json(path, _EXPECTED) if path.is_file() else None
    if old is not None:
        if not isinstance(old, dict):
            raise InputError(f"{path} holds no record of `predict`; choose another output folder (--out)")
        differences = [
            f"{key} {old.get(key)!r} there, {new[key]!r} now" for key in _COMPARED if old.get(key) != new[key]
        ]
        if differences:
            raise InputError(
                f"{out} was begun with something else ({'; '.join(differences)}); choose another output folder (--out)"
            )
    else:
        check_unused_folder(out, "predict", path.name)
    remove_abandoned_writes(out)
    is_renamed = old is not None and (old.get("names") != new["names"] or old.get("is_redrawing") is True)
    write_json(path, {**new, "is_redrawing": is_renamed})  # redrawing that is stopped begins again
    return is_renamed


def write_predict_record(
    out: Path, record: dict[str, Any], num_images: int, num_labelled: int, rejected: Sequence[Rejection]
) -> None:
    """Write predict.json with the counts."""
    counts = {"num_images": num_images, "num_labelled": num_labelled, "rejected": list(rejected)}
    write_json(out / "predict.json", plain({**record, **counts}))
