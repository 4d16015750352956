"""Activation checkpointing: features inside the encoder are computed again for the backward pass, not kept for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel


def recompute_activations(model: MaskContrastModel, encoder_name: str) -> None:
    """Let the encoder keep the input of each of its blocks alone (Chen et al. 2016, arXiv:1604.06174).

    One more forward pass of the encoder for less memory. Gradients are the same; wrap the backward pass in
    `unchanged_statistics`.

    Raises:
        InputError: an encoder that timm cannot run in this way.
    """
    try:
        model.encoder.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise InputError(
            f"training.recompute_activations is true, but {encoder_name} does not support it ({error}); set it to "
            "false and lower training.batch_size, or raise training.accumulate"
        ) from error


@contextmanager
def unchanged_statistics(model: nn.Module) -> Iterator[None]:
    """Keep batch norm from moving its running statistics a second time when features are computed again."""
    moving = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.track_running_stats
    ]
    kept = [(module.momentum, module.num_batches_tracked) for module in moving]
    for module in moving:
        module.momentum = 0.0
        module.num_batches_tracked = None  # it is not counted then
    try:
        yield
    finally:
        for module, (momentum, num_batches) in zip(moving, kept, strict=True):
            module.momentum, module.num_batches_tracked = momentum, num_batches
