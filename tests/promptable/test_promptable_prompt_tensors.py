"""Prompts as tensors: their order, the frame, and parts of a batch."""

import numpy as np
import torch

from densessl.promptable.framing import Frame
from densessl.promptable.prompt_tensors import prompt_batch
from densessl.promptable.prompts import check_prompts

FRAME = Frame((40, 60), (171, 256), (256, 256))


def test_a_batch_lists_clicks_then_a_filling_or_the_corners() -> None:
    device = torch.device("cpu")
    batch = prompt_batch(check_prompts([[30, 20]], [0], None, None, FRAME), FRAME, device)
    torch.testing.assert_close(batch.points, torch.tensor([[[128, 85.5], [0, 0]]]))
    assert batch.labels.tolist() == [[0, -1]]
    assert batch.masks is None
    batch = prompt_batch(check_prompts([[30, 20]], None, [0, 0, 60, 40], None, FRAME), FRAME, device)
    torch.testing.assert_close(batch.points, torch.tensor([[[128, 85.5], [0, 0], [256, 171]]]))
    assert batch.labels.tolist() == [[1, 2, 3]]
    batch = prompt_batch(check_prompts(None, None, None, np.ones((2, 64, 64)), FRAME), FRAME, device)
    assert batch.points.shape == (2, 0, 2)
    assert batch.masks is not None
    assert batch.masks.shape == (2, 1, 64, 64)
