"""densessl: segment images without labels. Importing it does nothing; see `densessl.commands` for the stages."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densessl.promptable.predictor import Predictor
    from densessl.segmenter import Segmenter

__all__ = ["Predictor", "Segmenter"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for, so that importing the package stays free of torch."""
    if name == "Predictor":
        from densessl.promptable.predictor import Predictor

        return Predictor
    if name == "Segmenter":
        from densessl.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
