"""Alarms: each rises on its fault, once, names its flag, and is silent on healthy lines and after a resumption."""

import errno
import json
import math
import os
import re
from pathlib import Path
from typing import Any, Literal

import pytest

from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.alarms import Alarm, AlarmWatch, append_alarm, keep_alarms
from densessl.training.settings import TrainingSettings

HEALTHY = {
    "masks_used": 16,
    "embedding_spread": 0.4,
    "effective_rank": 6.0,
    "contrastive_loss": 3.0,
    "data_wait": 0.05,
    "replaced_share": 0.0,
    "foreground_share": 0.2,
}
CHANCE = math.log(64 + 16)


def watch(num_steps: int = 40, **objective: Any) -> AlarmWatch:
    settings = ObjectiveSettings(**{"queue_length": 64, **objective})
    return AlarmWatch(TrainingSettings(num_workers=1), settings, ViewSettings(), num_steps)


def alarms(lines: list[dict[str, float]], over: AlarmWatch | None = None) -> list[Alarm]:
    over = over or watch()
    return [alarm for step, line in enumerate(lines, 1) for alarm in over.inspect({"step": step, **HEALTHY, **line})]


FAULTS = {
    "collapse": ({"embedding_spread": 0.01}, 3, r"spread 0.010 .*lower --training.learning_rate \(now 0.004\)"),
    "flat_loss": ({"contrastive_loss": CHANCE}, 310, r"flat: 4.382, .*raise --training.learning_rate \(now 0.004\)"),
    "data_bound": ({"data_wait": 0.8}, 3, r"data 80% of the time; raise --training.num_workers \(now 1,"),
    "one_sided_masks": ({"replaced_share": 0.3}, 10, r"0.30 images are passed.*--views.min_scale \(now 0.2\)"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_raises_its_alarm_once(kind: str) -> None:
    fault, step, message = FAULTS[kind]
    found = alarms([fault] * 340)
    assert [(alarm.kind, alarm.step) for alarm in found] == [(kind, step)]
    assert re.search(message, found[0].message)


def test_healthy_lines_raise_none() -> None:
    assert alarms([{}] * 100) == []
    assert alarms([{"effective_rank": 1.6, "embedding_spread": 0.06, "data_wait": 0.5}] * 40) == []


def test_the_rank_alone_says_collapse() -> None:
    assert [alarm.kind for alarm in alarms([{"effective_rank": 1.2}] * 12)] == ["collapse"]


def test_a_collapse_is_not_also_called_a_flat_loss() -> None:
    """The two would name opposite remedies."""
    lines = [{"embedding_spread": 0.01, "contrastive_loss": CHANCE}] * 340
    assert [alarm.kind for alarm in alarms(lines)] == ["collapse"]


def test_backgrounds_are_columns_too() -> None:
    """The loss of chance without them is better than chance with them."""
    lines = [{"contrastive_loss": CHANCE}] * 340
    assert alarms(lines, watch(background="negatives")) == []
    flat = [{"contrastive_loss": math.log(64 + 2 * 16)}] * 340
    assert [alarm.kind for alarm in alarms(flat, watch(background="negatives"))] == ["flat_loss"]


def test_a_few_vectors_are_not_judged() -> None:
    """The spread of one vector is 0; a memory bank that still holds random vectors is left out."""
    lines = [{"masks_used": 1, "embedding_spread": 0.0}] * 63
    assert alarms(lines) == []
    assert [alarm.step for alarm in alarms(lines + lines[:10])] == [66]


def test_an_alarm_that_ended_can_rise_again_and_a_flicker_does_not() -> None:
    bad, good = {"data_wait": 0.9}, {"data_wait": 0.1}
    assert [alarm.step for alarm in alarms([bad] * 4 + [good] * 2 + [bad] * 6)] == [3]
    assert [alarm.step for alarm in alarms([bad] * 4 + [good] * 3 + [bad] * 6)] == [3, 10]
    assert alarms([bad, bad, good] * 10) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"foreground_share": 0.01}, "1.0% of the views' pixels are foreground; raise --views.min_foreground"),
        ({"foreground_share": 0.97}, "97.0% of the views' pixels are foreground; lower --views.max_foreground"),
    ],
)
def test_views_of_one_side(line: dict[str, float], message: str) -> None:
    (alarm,) = alarms([line] * 20)
    assert message in alarm.message


def test_the_level_of_chance_knows_mode_and_excluded_negatives() -> None:
    lines = [{"contrastive_loss": 0.99 * math.log(1 + 32)}] * 340
    assert alarms(lines, watch()) == []
    assert len(alarms(lines, watch(mode="formula", exclude_similar=0.5))) == 1


@pytest.mark.parametrize(
    ("accumulate", "negatives", "num_processes", "num_masks"),
    [(1, "local", 4, 16), (4, "local", 1, 4), (1, "global", 4, 64), (2, "global", 4, 32)],
)
def test_the_level_of_chance_is_that_of_the_masks_that_one_loss_sees(
    accumulate: int, negatives: Literal["local", "global"], num_processes: int, num_masks: int
) -> None:
    """Lines count the 16 masks of one process; chance is ln(masks together + memory bank)."""
    training = TrainingSettings(accumulate=accumulate)
    objective = ObjectiveSettings(queue_length=64, negatives=negatives)
    for share, num_alarms in ((1.0, 1), (0.97, 0)):
        over = AlarmWatch(training, objective, ViewSettings(), 40, num_processes)
        lines = [{"contrastive_loss": share * math.log(64 + num_masks)}] * 340
        assert len(alarms(lines, over)) == num_alarms


def test_the_loss_may_be_flat_at_first() -> None:
    flat = {"contrastive_loss": CHANCE}
    assert alarms([flat] * 305) == []
    assert [alarm.step for alarm in alarms([flat] * 600, watch(1000))] == [510]
    assert [alarm.step for alarm in alarms([flat] * 1100, watch(100_000))] == [1010]


def test_lines_of_an_earlier_version_lack_quantities() -> None:
    over = watch()
    assert all(over.inspect({"step": step, "loss": 1.0}) == () for step in range(1, 50))


def test_an_alarm_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=r"cannot write to .* \(No space left on device\); free some space"):
        append_alarm(tmp_path, Alarm(1, "collapse", "the embeddings collapse"))


def test_alarms_file(tmp_path: Path) -> None:
    first, second = Alarm(3, "data_bound", "wait"), Alarm(5, "collapse", "point")
    path = tmp_path / "alarms.jsonl"
    keep_alarms(tmp_path, [])
    assert not path.exists()
    keep_alarms(tmp_path, [first])
    append_alarm(tmp_path, second)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [vars(first), vars(second)]
    keep_alarms(tmp_path, [])
    assert not path.exists()
