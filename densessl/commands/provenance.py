"""Which labels touched a result, in words."""

from pathlib import Path

from densessl.saliency.proposals import SaliencySettings


def masks_provenance(masks: Path | None, saliency: SaliencySettings) -> str:
    """Say where the masks came from and what supervision that implies."""
    if masks is None:
        return f"none (estimator {saliency.method}, no labels and no learned weights)"
    return f"made elsewhere ({masks.name}); whatever labels made them are theirs"
