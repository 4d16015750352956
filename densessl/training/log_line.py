"""What a log line says of a step: its losses, its embeddings, its masks, and memory."""

import torch

from densessl.objectives.memory_bank import MemoryBank
from densessl.structures import ViewBatch
from densessl.training.diagnostics import count_masks, effective_rank, embedding_spread, peak_memory_mib, queue_age
from densessl.training.state import TrainingState
from densessl.training.step import StepResult


def describe_step(result: StepResult, bank: MemoryBank) -> dict[str, float]:
    """Return the losses of a step and how far its embeddings spread.

    The spread is that of the memory bank, or of the batch's own prototypes while the bank still holds random vectors.
    """
    reference = bank.prototypes if bank.is_filled and bank.length > 1 else result.term.prototypes
    return {
        "loss": float(result.loss.detach()),
        "contrastive_loss": float(result.term.loss.detach()),
        "saliency_loss": float(result.saliency_loss),
        **({} if result.swav_loss is None else {"swav_loss": float(result.swav_loss)}),
        "positive_similarity": float(result.term.positive_similarity),
        "negative_similarity": float(result.term.negative_similarity),
        "embedding_spread": embedding_spread(reference),
        "effective_rank": effective_rank(reference),
        "false_negative_share": float(result.term.false_negative_share),
    }


def describe_batch(batch: ViewBatch, state: TrainingState, device: torch.device) -> dict[str, float]:
    """Return what the log says of this process's masks, of the age of the memory bank, and of memory.

    `replaced_share` counts the images passed over so far, for want of usable views, per image used. Stored views, a
    pooled feature each and so a mask of one cell, have no share of foreground.
    """
    masks_used, masks_skipped = count_masks(batch.query_masks, batch.key_masks)
    foreground = [(masks > 0).float().mean() for masks in (batch.query_masks, batch.key_masks)]
    is_pooled = batch.query_masks.shape[-2:] == (1, 1)
    memory = peak_memory_mib(device)
    return {
        "queue_age": queue_age(int(state.bank.num_enqueued), state.bank.length, state.step),
        "masks_used": masks_used,
        "masks_skipped": masks_skipped,
        **({} if is_pooled else {"foreground_share": float(sum(foreground)) / 2}),
        "replaced_share": state.num_replaced / (state.step * len(batch.stems)),
        **({} if memory is None else {"memory_mib": memory}),
    }
