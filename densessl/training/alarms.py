"""Alarms: what goes wrong in pretraining, read off the log lines, with the setting that mends it."""

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from densessl.data.view_settings import ViewSettings
from densessl.files import append_text, write_text
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.settings import TrainingSettings

AlarmKind = Literal["collapse", "flat_loss", "data_bound", "one_sided_masks", "empty_masks"]

LEAST_SPREAD = 0.05
"""Of the embedding, 1 on the even sphere; in 35 healthy runs, untrained networks included, it never fell below 0.20."""
LEAST_RANK = 1.5
"""Effective; 1 is a line, two directions with singular values as 1 to 0.16 have 1.5. Healthy runs: 5 or more."""
CHANCE_MARGIN = 0.02
"""Share of the chance level within which a loss is flat; healthy runs come so near in single lines, never in ten."""
MOST_DATA_WAIT = 0.5
"""Share of the time; above it, loading faster would at best make a step twice as fast. Healthy runs: 0.10 or less."""
MOST_REPLACED = 0.1
"""Images passed over for want of usable views per image used; training then sees another selection than was given."""
FOREGROUND_RANGE = (0.02, 0.9)
"""Share of the views' pixels; outside it nearly all that a view holds is on one side, and masks say little."""

PATIENCE: dict[AlarmKind, int] = {
    "collapse": 3,
    "flat_loss": 10,
    "data_bound": 3,
    "one_sided_masks": 10,
    "empty_masks": 10,
}
"""Log lines in a row that must agree: single lines are noisy, and the first wait covers the start of the loaders."""
FLAT_FROM_STEPS = (300, 1000)
"""From half of the run on, but between these numbers of steps, the loss must have left the chance level: random weights
linger there for up to 200 steps, so that shorter runs are not judged."""


@dataclass(frozen=True)
class Alarm:
    """Something that goes wrong since about `step`; `message` says what, by how much, and which flag to change."""

    step: int
    kind: AlarmKind
    message: str


class Watch(Protocol):
    """Reads log lines in order and says when something begins to go wrong."""

    def inspect(self, line: Mapping[str, float]) -> tuple[Alarm, ...]:
        """Take the next log line; returns the alarms that begin with it. Quantities a line lacks are not judged."""
        ...


class AlarmMemory:
    """Remembers which faults the last log lines showed.

    An alarm begins when the last `PATIENCE` lines all show it and is over when none of them does; it is returned once,
    at its beginning. It follows from the lines alone, so a resumed run reads the earlier ones again and repeats none.
    """

    def __init__(self) -> None:
        self._seen = {kind: deque[bool](maxlen=lines) for kind, lines in PATIENCE.items()}
        self._active: set[AlarmKind] = set()

    def begun(self, step: int, faults: Mapping[AlarmKind, str | None]) -> tuple[Alarm, ...]:
        """Take what is wrong with the line of a step, in words or `None`; returns the alarms that begin with it."""
        alarms = []
        for kind, message in faults.items():
            seen = self._seen[kind]
            seen.append(message is not None)
            if not any(seen):
                self._active.discard(kind)
            elif len(seen) == PATIENCE[kind] and all(seen) and message is not None and kind not in self._active:
                self._active.add(kind)
                alarms.append(Alarm(step, kind, message))
        return tuple(alarms)


class AlarmWatch:
    """Watches a pretraining run (`Watch`).

    Args:
        training, objective, views: settings of the run, whose flags the messages name.
        num_steps: of the whole run.
        num_processes: that train together; the lines count the masks of the first.
    """

    def __init__(
        self,
        training: TrainingSettings,
        objective: ObjectiveSettings,
        views: ViewSettings,
        num_steps: int,
        num_processes: int = 1,
    ) -> None:
        self._training, self._objective, self._views = training, objective, views
        self._num_together = (num_processes if objective.negatives == "global" else 1) / training.accumulate
        earliest, latest = FLAT_FROM_STEPS
        self._flat_from = max(earliest, min(num_steps // 2, latest))
        self._memory = AlarmMemory()

    def inspect(self, line: Mapping[str, float]) -> tuple[Alarm, ...]:
        """Take the next log line; returns the alarms that begin with it. Quantities a line lacks are not judged."""
        collapse = self._collapse(line)
        faults: dict[AlarmKind, str | None] = {
            "collapse": collapse,
            "flat_loss": None if collapse else self._flat_loss(line),  # collapsed embeddings have the loss of chance
            "data_bound": self._data_bound(line),
            "one_sided_masks": self._one_sided_masks(line),
        }
        return self._memory.begun(int(line["step"]), faults)

    def _collapse(self, line: Mapping[str, float]) -> str | None:
        num_compared = max(line.get("masks_used", 0), self._num_banked(line))
        if num_compared < 8:  # the spread of a handful of vectors says little
            return None
        spread, rank = line.get("embedding_spread", math.inf), line.get("effective_rank", math.inf)
        if spread >= LEAST_SPREAD and rank >= LEAST_RANK:
            return None
        return (
            f"the embeddings collapse: spread {spread:.3f} (1 is even, alarm below {LEAST_SPREAD}), effective rank "
            f"{rank:.2f} (alarm below {LEAST_RANK}); lower --training.learning_rate (now "
            f"{self._training.learning_rate}), or raise --objective.momentum (now {self._objective.momentum})"
        )

    def _flat_loss(self, line: Mapping[str, float]) -> str | None:
        """The loss of rows that are equally similar to every column is ln(number of columns)."""
        num_negatives = self._objective.queue_length * (1 - self._objective.exclude_similar)
        num_in_batch = line.get("masks_used", 0) * self._num_together  # masks that one loss sees
        num_columns = num_negatives + (num_in_batch if self._objective.mode == "reference" else 1)
        if self._objective.background == "negatives":  # one an image, of which the line says no more than its masks
            num_columns += num_in_batch
        loss = line.get("contrastive_loss", -math.inf)
        if line["step"] <= self._flat_from or num_columns < 2:
            return None
        chance = math.log(num_columns)
        if loss < (1 - CHANCE_MARGIN) * chance:
            return None
        return (
            f"the contrastive loss is flat: {loss:.3f}, and {chance:.3f} is the level of chance; raise "
            f"--training.learning_rate (now {self._training.learning_rate}), or lower --objective.temperature (now "
            f"{self._objective.temperature})"
        )

    def _data_bound(self, line: Mapping[str, float]) -> str | None:
        remedy = "set --training.cache_gb, or --views.reduce_images true where images are large"
        return data_bound(line, self._training.num_workers, remedy)

    def _one_sided_masks(self, line: Mapping[str, float]) -> str | None:
        replaced, foreground = line.get("replaced_share", 0.0), line.get("foreground_share", 0.5)
        if replaced > MOST_REPLACED:
            return (
                f"masks are one-sided: {replaced:.2f} images are passed over for each that is used, as no two views of "
                f"theirs hold {self._views.min_foreground:.0%} to {self._views.max_foreground:.0%} foreground; raise "
                f"--views.min_scale (now {self._views.min_scale}) or --views.max_tries (now {self._views.max_tries})"
            )
        lowest, highest = FOREGROUND_RANGE
        if foreground < lowest:
            return (
                f"masks are one-sided: {foreground:.1%} of the views' pixels are foreground; raise "
                f"--views.min_foreground (now {self._views.min_foreground}), or propose larger masks"
            )
        if foreground > highest:
            return (
                f"masks are one-sided: {foreground:.1%} of the views' pixels are foreground; lower "
                f"--views.max_foreground (now {self._views.max_foreground}), or propose smaller masks"
            )
        return None

    def _num_banked(self, line: Mapping[str, float]) -> float:
        """Return the rows of the memory bank, 0 while it may still hold random vectors, which are not measured."""
        length = self._objective.queue_length
        return length if line["step"] * line.get("masks_used", 0) >= length else 0


def data_bound(line: Mapping[str, float], num_workers: int, remedy: str) -> str | None:
    """Say in words that a line shows waiting for data, with the settings that mend it; `None` where it does not."""
    wait = line.get("data_wait", 0.0)
    if wait <= MOST_DATA_WAIT:
        return None
    return (
        f"training waits for data {wait:.0%} of the time; raise --training.num_workers (now {num_workers}, -1 chooses "
        f"by the cores), or {remedy}"
    )


def append_alarm(run: Path, alarm: Alarm) -> None:
    """Add an alarm to `run/alarms.jsonl`, one JSON object per line."""
    append_text(run / "alarms.jsonl", json.dumps(asdict(alarm)) + "\n")


def keep_alarms(run: Path, alarms: Iterable[Alarm]) -> None:
    """Write `run/alarms.jsonl` anew with these alarms; without any the file is removed."""
    lines = [json.dumps(asdict(alarm)) + "\n" for alarm in alarms]
    if lines:
        write_text(run / "alarms.jsonl", "".join(lines))
    else:
        (run / "alarms.jsonl").unlink(missing_ok=True)
