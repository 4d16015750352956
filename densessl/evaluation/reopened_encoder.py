"""The encoder of a clusters folder, built again and checked to be the one that was clustered."""

from pathlib import Path

import torch

from densessl.errors import InputError, MissingInputError
from densessl.evaluation.encoder_features import CheckedFeatures
from densessl.evaluation.segmenter_file import EncoderReference, SegmenterHeader
from densessl.files import file_sha256
from densessl.models.dense_encoder import TimmSource, timm_encoder


def reopen_encoder(
    encoder: EncoderReference, header: SegmenterHeader, folder: Path, moved: str | Path | None, device: torch.device
) -> CheckedFeatures:
    """Build the encoder of a clusters folder that is no run.

    Args:
        encoder: of `header`, which the clusters folder holds.
        folder: the clusters folder.
        moved: the file of its weights, where it lies elsewhere now.
        device: where it will work.

    Raises:
        MissingInputError: no file of weights.
        InputError: other weights than those that were clustered, or an encoder that is code.
    """
    if encoder.kind != "timm":
        raise InputError(
            f"{folder} was clustered with {encoder.name}, which is code ({encoder.kind}); no code is run because a "
            "clusters folder names it, so that folders of strangers are safe to open: for `predict`, cluster a run, or "
            "a timm name with a file of weights"
        )
    weights = None
    if header.weights:
        weights = folder / header.weights if moved is None else Path(moved)
        check_weights(weights, header, folder)
    source = TimmSource(
        encoder.name, encoder.output_stride, weights, encoder.pretrained, encoder.normalisation, encoder.seed
    )
    dense = timm_encoder(source, device)
    if dense.fingerprint != header.weights_sha256:
        raise InputError(
            f"{dense.description} has the state {dense.fingerprint} here, but {folder} was clustered with "
            f"{header.weights_sha256}: another version of torch draws other random weights, and timm may publish "
            "others; cluster again, with a file of weights to be safe from that"
        )
    return CheckedFeatures(dense.function, dense.description)


def check_weights(weights: Path, header: SegmenterHeader, folder: Path) -> None:
    """Raise `InputError` unless a file holds the weights that were clustered."""
    if not weights.is_file():
        raise MissingInputError(
            f"no weights {weights} of the network that {folder} was clustered with; put its run folder back, or say "
            "where it is (run)"
        )
    digest = file_sha256(weights)
    if digest != header.weights_sha256:
        raise InputError(
            f"weights {weights} have SHA-256 {digest}, but {folder} was clustered with {header.weights_sha256}; "
            "cluster again, or bring the old weights back"
        )
