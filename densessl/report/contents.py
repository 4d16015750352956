"""What a report shows, as frozen dataclasses; a part that is absent is left out of the page.

Pictures are held at the size they are shown, so a `ReportContents` stays small. All arrays of one item have
the same height and width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from densessl.structures import ImageArray, LabelMap, MaskArray, Provenance, Rejection

UNMATCHED = -1
"""Value in a prediction map of pixels whose cluster was matched to no class."""


@dataclass(frozen=True)
class RunRecord:
    """How the run was made: the commands in order, start (ISO 8601), duration, code, machine and seed."""

    commands: tuple[str, ...] = ()
    started: str | None = None
    seconds: float | None = None
    commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    provenance: Provenance | None = None


@dataclass(frozen=True)
class Curve:
    """One logged quantity: finite values at increasing steps."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class ClassScore:
    """The intersection over union of one class, in [0, 1]; `None` where the class never occurs."""

    class_id: int
    name: str
    iou: float | None


@dataclass(frozen=True)
class Scores:
    """Scores against labels.

    miou, miou_std, miou_per_seed: in [0, 1]. assignment: label-map value (0 background, c + 1 for cluster c)
    to class id, or `None` where the cluster has no class. confusion: pixel counts (classes, classes) or
    (classes, classes + 1); rows are labels, columns predictions, in the order of `classes`; a last extra
    column counts pixels predicted as no class.
    """

    miou: float
    miou_std: float | None = None
    miou_per_seed: tuple[float, ...] = ()
    classes: tuple[ClassScore, ...] = ()
    assignment: Mapping[int, int | None] = field(default_factory=dict)
    protocol: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance | None = None
    confusion: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Picture:
    """A photograph with a mask; the photograph is `None` where it is gone, the mask where there is none."""

    stem: str
    photo: ImageArray | None
    mask: MaskArray | None


@dataclass(frozen=True)
class Comparison:
    """One image as photographed, proposed, predicted and labelled; map values are keys of `value_names`."""

    stem: str
    photo: ImageArray | None = None
    mask: MaskArray | None = None
    before: LabelMap | None = None
    after: LabelMap | None = None
    label: LabelMap | None = None


@dataclass(frozen=True)
class ClusterStrip:
    """One cluster: the number of its members, the class it was matched to, and its members nearest to the centre."""

    cluster: int
    size: int
    matched_class: str | None
    members: tuple[Picture, ...]
    distances: tuple[float | None, ...] = ()
    name: str | None = None


@dataclass(frozen=True)
class Clustering:
    """The clusters of a run and the measures of them that need no labels.

    stability: agreement between seeds. silhouette: in [-1, 1]. Both `None` where they were not measured.
    """

    num_clusters: int
    num_images: int | None = None
    seeds: str | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)
    stability: float | None = None
    silhouette: float | None = None
    strips: tuple[ClusterStrip, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskGallery:
    """A sample of the proposed masks, and what was rejected with the reasons."""

    num_masks: int
    pictures: tuple[Picture, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    rejected_pictures: tuple[Picture, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportContents:
    """Everything one page shows; `value_names` names the values of the comparison maps."""

    title: str
    record: RunRecord | None = None
    config: str | None = None
    curves: tuple[Curve, ...] = ()
    clustering: Clustering | None = None
    clustering_before: Clustering | None = None
    scores: Scores | None = None
    scores_before: Scores | None = None
    comparisons: tuple[Comparison, ...] = ()
    num_comparable: int = 0
    value_names: Mapping[int, str] = field(default_factory=dict)
    gallery: MaskGallery | None = None
    notes: tuple[str, ...] = ()
