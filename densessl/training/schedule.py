"""Learning-rate schedules, as pure functions of the step."""

import math
from typing import Literal


def learning_rate_factor(
    schedule: Literal["poly", "cosine", "constant", "step"],
    step: int,
    *,
    steps_per_epoch: int,
    epochs: int,
    warmup_steps: int = 0,
) -> float:
    """Return what the learning rate is multiplied by at a step (0-based), in [0, 1].

    poly: (1 - epoch / epochs) ** 0.9 with the epoch a whole number, as in the published MaskContrast schedule.
    cosine: (1 + cos(pi * step / steps)) / 2 (Loshchilov and Hutter, arXiv:1608.03983, equation 5). step: 1, then 0.1
    from 60,000 / 90,000 of the steps on and 0.01 from 86,666 / 90,000, as SAM was trained (arXiv:2304.02643, appendix
    A). During warm-up the factor is also multiplied by (step + 1) / warmup_steps.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    match schedule:
        case "poly":
            return warmup * (1.0 - (step // steps_per_epoch) / epochs) ** 0.9
        case "cosine":
            return warmup * 0.5 * (1.0 + math.cos(math.pi * step / (steps_per_epoch * epochs)))
        case "constant":
            return warmup
        case "step":
            done = step / (steps_per_epoch * epochs)
            return warmup * 0.1 ** sum(done >= drop / 90_000 for drop in (60_000, 86_666))
