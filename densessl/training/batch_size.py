"""The largest batch that fits into memory."""

from dataclasses import replace

import torch
from lightning_fabric import Fabric

from densessl.models.mask_contrast_model import build_model
from densessl.training.batch_probe import fitting_batch_size, measured_peak, synthetic_batch, usable_memory
from densessl.training.gradients import find_gradients, set_up
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.state import new_state


def find_batch_size(fabric: Fabric, settings: PretrainSettings, num_images: int) -> int:
    """Return the largest power of two of images per step, over all processes, that fits into memory.

    Small steps are taken with a network of its own; what they need tells the rest. At least one image for each process
    and part of a step, and at most `num_images`.

    Raises:
        InputError: the system does not say how much memory a step needs (a CPU under another system than Linux).
    """

    views = settings.views

    def peak_bytes(num: int) -> float:
        training = replace(settings.training, batch_size=num, accumulate=1, compile=False)
        probed = replace(settings, training=training)
        model = build_model(settings.model)
        state = new_state(model, settings.model.embedding_dim, settings.objective, training, settings.seed)
        wrapped, optimizer = set_up(fabric, state, probed)
        wrapped.train()
        with measured_peak(fabric.device) as peak:
            for _ in range(2):  # the optimiser has moments from the second step on
                optimizer.zero_grad()
                is_weighted = settings.objective.confidence_weighted
                batch = synthetic_batch(num, views, has_confidence=is_weighted)
                find_gradients(fabric, state, wrapped, batch, probed)
                optimizer.step()
        most = fabric.all_reduce(torch.tensor(peak.bytes, dtype=torch.float64, device=fabric.device), reduce_op="max")
        return float(torch.as_tensor(most))  # the same in all processes, which must agree on whether to measure again

    num_parts = fabric.world_size * settings.training.accumulate
    fitting = fitting_batch_size(peak_bytes, usable_memory(fabric.device), max(1, num_images // num_parts))
    fewest = fabric.all_reduce(torch.tensor(fitting, device=fabric.device) * -1.0, reduce_op="max")
    return num_parts * round(-float(torch.as_tensor(fewest)))
