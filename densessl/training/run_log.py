"""The log of a run: one JSON object per line, TensorBoard beside it, and a progress bar."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from densessl.files import append_text, writable_folder, write_text
from densessl.training.alarms import Watch, append_alarm, keep_alarms

_EVALUATIONS = {
    "cluster_stability": "agreement of clusterings {:.3f} (no labels)",
    "kmeans_miou_with_labels": "mIoU of k-means {:.3f} (labels used, for monitoring only)",
}


class RunLog:
    """Writes log lines to `run/metrics.jsonl` and `run/tensorboard`, and shows progress; use it as a context manager.

    On resume, lines after the checkpoint's step are dropped first, because those steps are done again. With a `watch`,
    the alarms that a line raises are printed and kept in `run/alarms.jsonl`.
    """

    def __init__(
        self,
        run: Path,
        num_steps: int,
        first_step: int,
        watch: Watch | None = None,
        *,
        is_shown: bool = True,
        title: str = "pretrain",
    ) -> None:
        self._path = run / "metrics.jsonl"
        self._is_shown = is_shown
        self._first_step = first_step
        self._watch = watch
        if is_shown:
            _truncate(self._path, first_step)
            if watch is not None:
                keep_alarms(run, [alarm for line in read_metrics(run) for alarm in watch.inspect(line)])
            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)
        self._progress = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not is_shown,
        )
        self._task = self._progress.add_task(title, total=num_steps, completed=first_step, note="")

    def __enter__(self) -> "RunLog":
        self._progress.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Close the files; where an error ends the run already, a full disk has nothing to add to it."""
        self._progress.stop()
        if self._is_shown:
            with writable_folder(self._path.parent) if error is None else contextlib.suppress(OSError):
                self._writer.close()

    def advance(self, step: int) -> None:
        """Move the progress bar to `step` steps done."""
        self._progress.update(self._task, completed=step)

    def write(self, line: dict[str, Any]) -> None:
        """Log one line; numbers other than step and epoch also go to TensorBoard."""
        if not self._is_shown:
            return
        append_text(self._path, json.dumps(line) + "\n")
        with writable_folder(self._path.parent):  # TensorBoard's thread writes; what befell it comes out here
            for key, value in line.items():
                if key not in {"step", "epoch"}:
                    self._writer.add_scalar(key, value, line["step"])
        note = f"loss {line['loss']:.3f}  {line['images_per_second']:.1f} images/s"
        self._progress.update(self._task, note=note)
        if not self._progress.console.is_terminal:
            self._progress.console.print(f"step {line['step']}  epoch {line['epoch']}  {note}", highlight=False)
        judged = [text.format(line[key]) for key, text in _EVALUATIONS.items() if key in line]
        if judged:
            self.say(f"step {line['step']}  evaluation: {', '.join(judged)}")
        for alarm in self._watch.inspect(line) if self._watch is not None else ():
            append_alarm(self._path.parent, alarm)
            self.say(f"alarm after step {alarm.step}: {alarm.message}")

    def say(self, text: str) -> None:
        """Print one line to standard error, above the progress bar."""
        if self._is_shown:
            self._progress.console.print(text, soft_wrap=True, highlight=False, markup=False)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the log lines of a run, in order; an unfinished last line is left out."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def last_logged_loss(run: Path) -> float:
    """Return the loss of the last log line of a run, NaN where there is none."""
    lines = read_metrics(run)
    return float(lines[-1]["loss"]) if lines else math.nan


def _truncate(path: Path, first_step: int) -> None:
    if path.is_file():
        kept = [line for line in read_metrics(path.parent) if line["step"] <= first_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
