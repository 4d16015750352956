"""The meter of throughput against a clock that is set by hand."""

import time

import pytest

from densessl.training.throughput import ThroughputMeter


class _Clock:
    """Stands in for `time.perf_counter`; `now` is set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def _step(meter: ThroughputMeter, clock: _Clock, wait: float, work: float) -> float:
    meter.asked()
    clock.now += wait
    meter.loaded()
    clock.now += work
    return meter.stepped()


def test_two_steps_by_hand(clock: _Clock) -> None:
    meter = ThroughputMeter(batch_size=8)
    assert _step(meter, clock, wait=1.0, work=3.0) == pytest.approx(4.0)  # the wait is part of a step
    assert _step(meter, clock, wait=2.0, work=2.0) == pytest.approx(4.0)
    assert meter.read() == pytest.approx({"images_per_second": 16 / 8, "data_wait": 3 / 8})


def test_reading_starts_anew_at_the_last_step(clock: _Clock) -> None:
    meter = ThroughputMeter(batch_size=4)
    _step(meter, clock, wait=9.0, work=1.0)
    clock.now += 5.0  # a checkpoint is written after the step: that takes time, but is no waiting for data
    meter.read()
    assert _step(meter, clock, wait=2.0, work=3.0) == pytest.approx(10.0)
    assert meter.read() == pytest.approx({"images_per_second": 4 / 10, "data_wait": 0.2})


def test_a_clock_that_stands_still_does_not_divide_by_zero(clock: _Clock) -> None:
    meter = ThroughputMeter(batch_size=4)
    assert meter.read() == {"images_per_second": 0.0, "data_wait": 0.0}


def test_time_spent_otherwise_is_left_out(clock: _Clock) -> None:
    meter = ThroughputMeter(batch_size=4)
    _step(meter, clock, wait=0.0, work=1.0)
    clock.now += 50.0  # an evaluation
    meter.skip()
    assert _step(meter, clock, wait=1.0, work=2.0) == pytest.approx(3.0)
    assert meter.read() == pytest.approx({"images_per_second": 8 / 4, "data_wait": 1 / 4})
