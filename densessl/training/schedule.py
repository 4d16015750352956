"""Learning-rate schedules, as pure functions of the step."""

import math
from typing import Literal


def learning_rate_factor(
    schedule: Literal["poly", "cosine", "constant"],
    step: int,
    *,
    steps_per_epoch: int,
    epochs: int,
    warmup_steps: int = 0,
) -> float:
    """Return what the learning rate is multiplied by at a step (0-based), in [0, 1].

    poly: (1 - epoch / epochs) ** 0.9 with the epoch a whole number, as in the published MaskContrast schedule.
    cosine: (1 + cos(pi * step / steps)) / 2 (Loshchilov and Hutter, arXiv:1608.03983, equation 5). During warm-up the
    factor is also multiplied by (step + 1) / warmup_steps.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    match schedule:
        case "poly":
            return warmup * (1.0 - (step // steps_per_epoch) / epochs) ** 0.9
        case "cosine":
            return warmup * 0.5 * (1.0 + math.cos(math.pi * step / (steps_per_epoch * epochs)))
        case "constant":
            return warmup
