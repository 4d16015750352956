"""Settings of saliency that were given where no mask is proposed: they would be passed over, so they are refused."""

from pathlib import Path
from typing import Any

from densessl.errors import InputError
from densessl.saliency.proposals import SaliencySettings


def changed_saliency(saliency: SaliencySettings) -> dict[str, Any]:
    """Return the settings of saliency that are not what the defaults settle to."""
    usual = SaliencySettings().plain()
    return {name: value for name, value in saliency.plain().items() if value != usual[name]}


def refuse_saliency_beside_masks(masks: Path | None, saliency: SaliencySettings, free: tuple[str, ...] = ()) -> None:
    """Raise `InputError` where masks are given, and settings by which others would be proposed, those `free` aside."""
    given = [f"{name} {value}" for name, value in changed_saliency(saliency).items() if name not in free]
    if masks is not None and given:
        raise InputError(
            f"masks {masks} are given, and settings of saliency too ({', '.join(given)}), which would propose others; "
            "leave one of the two out"
        )
