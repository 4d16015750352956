"""Checked prompts as the model takes them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.promptable.framing import Frame
from densessl.promptable.prompt_encoder import point_prompts
from densessl.promptable.promptable_model import PromptBatch
from densessl.promptable.prompts import Prompts


def prompt_batch(prompts: Prompts, frame: Frame, device: torch.device) -> PromptBatch:
    """Bring prompts to the model's frame and device, in float32."""

    def tensor(values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(device)

    masks = None if prompts.masks is None else tensor(prompts.masks)[:, None]
    points = None if prompts.points is None else tensor(frame.to_frame(prompts.points).astype(np.float32))
    labels = None if prompts.labels is None else tensor(prompts.labels)
    boxes = None if prompts.boxes is None else tensor(frame.boxes_to_frame(prompts.boxes).astype(np.float32))
    if points is None and boxes is None:
        none = torch.zeros(len(prompts), 0, 2, device=device)
        return PromptBatch(none, none[..., 0].long(), masks)
    return PromptBatch(*point_prompts(points, labels, boxes), masks)
