"""Whose attention the saliency method `attention` takes."""

from dataclasses import dataclass
from typing import Literal

from densessl.errors import InputError

Head = int | Literal["mean", "best"]


@dataclass(frozen=True)
class AttentionSettings:
    """Which attention is taken, and how much of it.

    Args:
        layer: from 0, or from the end: -1 is the last.
        head: from 0; `mean` of all; or `best`, the one that agrees best with the default masks of a set of images.
        mass: the share of the attention that the mask keeps, in (0, 1].
    """

    layer: int = -1
    head: Head = "best"
    mass: float = 0.6


DEFAULT_ATTENTION = AttentionSettings()


def check_attention(chosen: AttentionSettings) -> None:
    """Raise `InputError` for settings that fit no network."""
    if not 0 < chosen.mass <= 1:
        raise InputError(f"attention_mass {chosen.mass} is not a share; choose one above 0 and at most 1, such as 0.6")
    if isinstance(chosen.head, int) and chosen.head < 0:
        raise InputError(f"attention_head {chosen.head} is negative; heads count from 0, or choose mean or best")
    if isinstance(chosen.head, str) and chosen.head not in ("mean", "best"):
        raise InputError(f"attention_head {chosen.head!r} is unknown; give a number from 0, mean or best")
