"""What a named protocol found, and what is to be said of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from densessl.commands.evaluate import LEAST_RESAMPLES
from densessl.errors import InputError
from densessl.evaluation.cluster_scores import RepeatedScores
from densessl.evaluation.image_scores import ImageScores
from densessl.evaluation.labelled_protocols import (
    ExactLinearSettings,
    HummingbirdSettings,
    LinearScheduleSettings,
)
from densessl.evaluation.linear_probe import LinearProbe
from densessl.evaluation.pixel_protocols import LeopartSettings
from densessl.structures import LabelMap, Rejection
from densessl.training.finetuning import FinetuneSettings

NO_MATCHING = "none (predictions are classes)"

NOTHING_CHOSEN = "none (nothing was chosen by a score)"


@dataclass(frozen=True)
class ProtocolSettings:
    """How protocols run, as far as they leave it open.

    image_size: height and width before the encoder in place of the protocol's; None for that. seeds: of clusterings,
    the first one also of what is drawn once. num_resamples: of images, for intervals; 0 for none. linear, exact,
    hummingbird, finetune, leopart: settings of these protocols. instances: score objects too. keep: takes the stem and
    the label map of every image (those of the first seed); None where nobody wants them.
    """

    image_size: int | None
    seeds: range
    num_resamples: int
    linear: LinearScheduleSettings = field(default_factory=LinearScheduleSettings)
    exact: ExactLinearSettings = field(default_factory=ExactLinearSettings)
    hummingbird: HummingbirdSettings = field(default_factory=HummingbirdSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    instances: bool = False
    keep: Callable[[str, LabelMap], None] | None = None
    leopart: LeopartSettings = field(default_factory=LeopartSettings)

    def __post_init__(self) -> None:
        if len(self.seeds) < 1:
            raise InputError(f"seeds is {len(self.seeds)}; clustering must run at least once (published: 5)")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more")
        if self.num_resamples != 0 and self.num_resamples < LEAST_RESAMPLES:
            raise InputError(
                f"bootstrap is {self.num_resamples}; it must be 0 (no interval) or at least {LEAST_RESAMPLES}, fewer "
                "resamples do not show the ends of a 95 % interval"
            )

    @property
    def seed(self) -> int:
        """The first seed."""
        return self.seeds[0]


@dataclass(frozen=True)
class ProtocolResult:
    """A number with its protocol.

    description: the protocol with its settings, in words. protocol: its dataclass with all of them. image_size_px:
    before the encoder.
    fitted: what was fitted to which split, in words. fit_labels: which labels that read, in words; "none" for none.
    selection: what was chosen by a score, in words. matching: what labels did after the fit, in words.
    uses_masks: masks took part. scores: over images, with the counts of each. miou: the protocol's mean. repeated: over
    the seeds, None where nothing was repeated. left_out: images without a score. probe: a linear protocol's.
    """

    name: str
    description: str
    source: str
    protocol: object
    image_size_px: tuple[int, int]
    fitted: str
    fit_labels: str
    selection: str
    matching: str
    uses_masks: bool
    scores: ImageScores
    miou: float
    repeated: RepeatedScores | None = None
    left_out: tuple[Rejection, ...] = ()
    notes: tuple[str, ...] = ()
    probe: LinearProbe | None = None

    def scores_json(self) -> dict[str, Any]:
        """Return the scores as plain values: means over seeds where there are any, the first seed's details."""
        content = {} if self.repeated is None else self.repeated.to_json()
        return {**self.scores.to_json(), **content, "miou": self.miou}
