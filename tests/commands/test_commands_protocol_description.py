"""Protocols in words: each setting that a card must not contradict."""

from dataclasses import replace

import pytest

from densessl.commands.finetune_run import finetune_run
from densessl.commands.protocol_description import NamedProtocol, describe
from densessl.evaluation.labelled_protocols import (
    HUMMINGBIRD,
    LINEAR,
    LINEAR_EXACT,
    RETRIEVAL_7,
    ExactLinearSettings,
    HummingbirdSettings,
    LinearScheduleSettings,
)
from densessl.evaluation.pixel_protocols import LEOPART, STEGO320
from densessl.evaluation.protocols import MASKCONTRAST, NATIVE, protocol_by_name
from densessl.training.finetuning import FinetuneSettings


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (NATIVE, ("prototypes summed over masks, 320x320, unit length, PCA 16 not whitened", "k-means with 50 starts")),
        (protocol_by_name("native", 96), ("96x96",)),
        (STEGO320, ("320x320 centre crop, unit length", "as many clusters as classes, one-to-one matching on pixel")),
        (replace(LEOPART, num_clusters=40), ("448x448, standardised, PCA 50", "40 clusters, many-to-one", "100x100")),
        (replace(LINEAR, settings=LinearScheduleSettings(epochs=3)), ("512x512, SGD 3 epochs on augmented images",)),
        (LINEAR_EXACT, ("penalty chosen on one of every 10 training images",)),
        (replace(LINEAR_EXACT, settings=ExactLinearSettings(strengths=(0.01,))), ("penalty 0.01 as given",)),
        (
            replace(HUMMINGBIRD, settings=HummingbirdSettings(5_000, 7, 0.1, "background")),
            ("7 nearest of at most 5,000", "temperature 0.1", "ignored pixels as background"),
        ),
        (replace(RETRIEVAL_7, image_size_px=(64, 64)), ("aeroplane", "without the background, 64x64")),
        (
            finetune_run(FinetuneSettings(epochs=3, decoder="unet", trained_stages=2, size_px=224), None),
            ("U-Net and the encoder's last 2 stages", "views of 224x224, epochs: 3"),
        ),
        (finetune_run(FinetuneSettings(trained_stages=0), 64), ("trained on a frozen encoder, views of 64x64",)),
    ],
)
def test_settings_are_named(protocol: NamedProtocol, words: tuple[str, ...]) -> None:
    text = describe(protocol, "masks", has_decoder=True)
    for word in words:
        assert word in text


def test_weights_and_features_are_those_that_are_used() -> None:
    assert describe(MASKCONTRAST, "head", has_decoder=True).startswith("prototypes weighted by saliency logits")
    assert describe(MASKCONTRAST, "masks", has_decoder=False).startswith("prototypes summed over masks")
    assert describe(MASKCONTRAST, "all", has_decoder=False).startswith("all pixels, 512x512, PCA 32 whitened")
    assert "on decoder features" in describe(LINEAR, None, has_decoder=True)
    assert "on the encoder's features" in describe(LINEAR, None, has_decoder=False)
