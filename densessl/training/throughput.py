"""The speed of training between two log lines, and the time that it waited for data."""

import time


class ThroughputMeter:
    """Measures images per second and the share of time spent waiting for data since it was last read.

    Call `asked` when the next batch is wanted, `loaded` when it has arrived and `stepped` when its step is done, in
    turn. What lies between a step and the next `asked`, such as writing a checkpoint, counts to the next step but is
    no waiting for data.

    Args:
        batch_size: images per step over all processes.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._started = self._mark = self._asked = time.perf_counter()
        self._waited, self._steps = 0.0, 0

    def asked(self) -> None:
        """Note that the next batch is wanted from now on; the first is from the beginning."""
        self._asked = time.perf_counter()

    def loaded(self) -> None:
        """Note that a batch has arrived: the time since it was asked for was spent waiting for it."""
        self._waited += time.perf_counter() - self._asked

    def stepped(self) -> float:
        """Note that a step is done; returns its seconds, the wait for its batch included."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self._steps += 1
        return seconds

    def skip(self) -> None:
        """Leave out the time since the last step: it was spent on something else than training."""
        seconds = time.perf_counter() - self._mark
        self._started += seconds
        self._mark += seconds

    def read(self) -> dict[str, float]:
        """Return `images_per_second` and `data_wait` (a share, in [0, 1]) up to the last step, and start anew there."""
        seconds = self._mark - self._started
        values = {
            "images_per_second": self._batch_size * self._steps / max(seconds, 1e-9),
            "data_wait": self._waited / max(seconds, 1e-9),
        }
        self._started, self._waited, self._steps = self._mark, 0.0, 0
        return values
