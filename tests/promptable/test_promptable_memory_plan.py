"""The bound on the memory of automatic masks, by the peak of a process."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np, torch
from densessl.promptable.automatic_masks import automatic_masks
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings

def held(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))

torch.set_num_threads(1)
torch.manual_seed(0)
settings = AutomaticSettings(points_per_side=2, predicted_iou_threshold=0, stability_threshold=1)  # restored, not kept
image = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), dtype=np.uint8)
small = Predictor(build_promptable_model(PromptableSettings("test_resnet", 64)), "cpu", "fp32")
automatic_masks(small, image[:50, :60].copy(), settings)  # loads code
predictor = Predictor(build_promptable_model(PromptableSettings("test_resnet", 1024)), "cpu", "fp32").set_image(image)
Path("/proc/self/clear_refs").write_text("5")
before = held("VmRSS")
assert not automatic_masks(predictor, image, settings, float(sys.argv[1]))
print(json.dumps(held("VmHWM") - before))
"""


def peak_bytes(max_memory_gb: float) -> int:
    """Return what automatic masks took above what the process held with model, image and embedding.

    Large blocks go back to the system as soon as they are freed: what the allocator keeps changes from run to run.
    """
    words = [sys.executable, "-c", PROGRAM, str(max_memory_gb)]
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **at_once})
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/status says how much memory is held")
def test_decoding_and_restoring_stay_within_the_bound() -> None:
    """Of 4 points at 2000 x 3000 pixels, two at a time fit into the first bound, all into the second."""
    two, four = peak_bytes(0.07), peak_bytes(0.2)
    assert two < 0.07e9
    assert two + 0.03e9 < four < 0.2e9
