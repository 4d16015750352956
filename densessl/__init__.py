"""densessl: segment images without labels. Importing it does nothing; see `densessl.commands` for the stages."""

__version__ = "0.1.0"
