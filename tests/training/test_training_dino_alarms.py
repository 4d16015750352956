"""Alarms of DINO: a collapse of either kind and waiting for data are told, once; healthy lines raise none."""

import math
import re

import pytest
from tiny_dino import RUN

from densessl.training.dino_alarms import DinoWatch

HIGHEST = math.log(16)
HEALTHY = {"kl_divergence": 0.2, "teacher_entropy": 2.0, "data_wait": 0.1}
FAULTS = {
    "even": ({"kl_divergence": 1e-5, "teacher_entropy": HIGHEST}, r"all outputs alike .*lower --dino.*temperature"),
    "one_sided": ({"kl_divergence": 1e-5, "teacher_entropy": 0.01}, r"few outputs alone .*lower --dino.*center_mom"),
    "data_bound": ({"data_wait": 0.8}, r"waits for data 80% .*or set --dino.crops.reduce_images"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_raises_its_alarm_once(kind: str) -> None:
    fault, message = FAULTS[kind]
    watch = DinoWatch(RUN)
    lines = [{**HEALTHY, **fault, "step": step} for step in range(301, 340)]
    found = [alarm for line in lines for alarm in watch.inspect(line)]
    assert len(found) == 1
    assert found[0].kind == ("data_bound" if kind == "data_bound" else "collapse")
    assert re.search(message, found[0].message)


def test_healthy_lines_and_the_first_steps_raise_none() -> None:
    watch = DinoWatch(RUN)
    start = [{**HEALTHY, "kl_divergence": 1e-5, "teacher_entropy": HIGHEST, "step": step} for step in range(1, 301)]
    later = [{**HEALTHY, "step": step} for step in range(301, 400)]
    assert [alarm for line in [*start, *later] for alarm in watch.inspect(line)] == []
    assert watch.inspect({"step": 400}) == ()
