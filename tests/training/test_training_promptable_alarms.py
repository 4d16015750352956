"""The alarms of promptable training begin with patience and name what to change."""

from densessl.training.alarms import PATIENCE
from densessl.training.promptable_alarms import JUDGED_AFTER_STEPS, PromptableWatch
from densessl.training.promptable_settings import PromptableTrainingSettings


def _lines(num: int, first_step: int, **values: float) -> list[dict[str, float]]:
    return [{"step": first_step + number, **values} for number in range(num)]


def test_masks_that_leave_the_objects_are_told_once() -> None:
    watch = PromptableWatch(PromptableTrainingSettings(learning_rate=0.5))
    lines = _lines(3 * PATIENCE["empty_masks"], JUDGED_AFTER_STEPS + 1, last_iou=0.01)
    alarms = [alarm for line in lines for alarm in watch.inspect(line)]
    assert [alarm.kind for alarm in alarms] == ["empty_masks"]
    assert alarms[0].step == JUDGED_AFTER_STEPS + PATIENCE["empty_masks"]
    assert "IoU 0.010 after the last round" in alarms[0].message
    assert "lower --training.learning_rate (now 0.5)" in alarms[0].message


def test_the_beginning_and_healthy_runs_are_not_judged() -> None:
    watch = PromptableWatch(PromptableTrainingSettings())
    lines = _lines(50, 1, last_iou=0.0) + _lines(50, JUDGED_AFTER_STEPS + 1, last_iou=0.4, data_wait=0.1)
    assert not any(watch.inspect(line) for line in lines)


def test_waiting_for_data_is_told() -> None:
    watch = PromptableWatch(PromptableTrainingSettings())
    alarms = [alarm for line in _lines(5, 1, data_wait=0.8) for alarm in watch.inspect(line)]
    assert [alarm.kind for alarm in alarms] == ["data_bound"]
    assert alarms[0].message.endswith("or set --training.cache_gb")
