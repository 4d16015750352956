"""The command `retrieve`: every mask takes the class of the most similar training mask."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.classes import ClassSelection, parse_classes
from densessl.commands.encoder import EncoderSettings
from densessl.commands.protocol_data import DataSettings
from densessl.commands.protocol_result import ProtocolSettings
from densessl.commands.single_protocol import ProtocolOutcome, run_alone
from densessl.evaluation.extraction import Foreground
from densessl.evaluation.network_features import FeatureMap
from densessl.models.dense_encoder import Normalisation
from densessl.models.precision import Precision


@checked_arguments
def retrieve(
    encoder: str | Callable[[torch.Tensor], torch.Tensor],
    data: Path,
    out: Path,
    foreground: Foreground | None = None,
    masks: Path | None = None,
    train_masks: Path | None = None,
    protocol: Literal["retrieval", "retrieval_7"] = "retrieval",
    split: str = "val",
    train_split: str | None = None,
    classes: ClassSelection = None,
    image_size: int | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
    store: Path | None = None,
    weights: Literal["final", "initial"] | Path = "final",
    pretrained: bool = False,
    output_stride: Literal[8, 16, 32] = 8,
    normalisation: Normalisation = "auto",
    features: FeatureMap = "embedding",
    trust_file: bool = False,
    precision: Precision = "auto",
    batch_size: int = 8,
    num_workers: int = -1,
) -> ProtocolOutcome:
    """Give every mask the class of the most similar mask of labelled images, and score the label maps.

    Args:
        encoder: a run folder, a timm name, a TorchScript or torch.export file, or module:function (docs/encoders.md).
        data: a data set in VOC or COCO layout.
        out: receives label_maps/ and scores.json.
        foreground: head (a run's saliency head), masks (with --masks and --train_masks) or labels (the true
            foreground: an oracle, and said to be one); by default masks where --masks is given, else head.
        masks: a folder of masks of the scored images.
        train_masks: a folder of masks of the training images; it may be the same.
        protocol: retrieval, or retrieval_7 for seven classes of VOC without the background.
        split: what is scored.
        train_split: whose masks make the bank; by default train.
        classes: the classes that are learned and scored, such as 0,8,10; pixels of others are ignored.
        image_size: height and width before the encoder; by default the protocol's, 512.
        seed: of the resamples.
        bootstrap: how many times the images are resampled for a 95 % interval; 0 for none.
        store: the folder of the features, such as features/ of a benchmark with the same encoder; by default
            features/ in out.
        weights: of a run: final or initial; of a timm name: a file.
        pretrained: let timm download its published weights for a timm name.
        output_stride: image pixels per cell of a timm name's convolutional network.
        normalisation: of the images that a timm name's network sees: imagenet, timm or auto.
        features: of a run: embedding, decoder or encoder (the backbone's last feature map).
        trust_file: open a TorchScript or torch.export file, which can run code when it is loaded.
        precision: of the encoder: fp32, bf16, or auto (bf16 for runs and timm names where the machine multiplies it in
            hardware).
        batch_size: images per call of the encoder; it does not change the result.
        num_workers: loader processes; -1 chooses by the number of cores.

    Raises:
        InputError: an encoder that cannot be opened, missing masks or labels; says what to change.
    """
    given = EncoderSettings(encoder, weights, pretrained, output_stride, normalisation, features, trust_file, precision)
    folder = out / "features" if store is None else store
    source = DataSettings(
        data,
        split,
        train_split,
        foreground,
        masks,
        train_masks,
        parse_classes(classes),
        folder,
        batch_size,
        num_workers,
    )
    settings = ProtocolSettings(image_size, range(seed, seed + 1), bootstrap)
    return run_alone(protocol, out, given, source, settings)
