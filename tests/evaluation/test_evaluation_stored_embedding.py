"""Prototypes from a feature store are those of a forward pass, up to the rounding of what is stored."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from densessl.data.image_folder import open_image_folder
from densessl.data.masks import open_mask_folder
from densessl.errors import InputError
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.extraction import EmbeddedImage, Foreground, embed_images
from densessl.evaluation.feature_writing import store_features
from densessl.evaluation.framed_images import MaskSource
from densessl.evaluation.framing import Framing
from densessl.evaluation.protocols import MASKCONTRAST, NATIVE, ClusterProtocol
from densessl.evaluation.prototypes import DenseFeatures
from densessl.evaluation.stored_embedding import embed_stored
from densessl.structures import ImageRef

SIZE = (32, 48)


def encode(images: torch.Tensor) -> DenseFeatures:
    """Logits are multiples of 1/8, which float16 holds, none at the threshold of 0.5."""
    pooled = torch.nn.functional.avg_pool2d(images, 8)
    return DenseFeatures(torch.cat([pooled, pooled.roll(1, 3) * 100], 1), (images.mean(1) * 4).round() / 4 + 0.125)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index in range(5):
        size = (40, 50 + index)
        cv2.imwrite(str(tmp_path / f"images/{index}.png"), generator.integers(0, 256, (*size, 3)).astype(np.uint8))
        mask = np.zeros(size, np.uint8)
        mask[5 : 20 + index, 8:30] = 255
        cv2.imwrite(str(tmp_path / f"masks/{index}.png"), mask * (index != 3))
    return tmp_path


def truth(ref: ImageRef) -> np.ndarray:
    mask = cv2.imread(str(ref.path.parent.parent / "masks" / ref.path.name), cv2.IMREAD_UNCHANGED)
    return np.where(mask > 0, 2, 0).astype(np.int64)


@pytest.mark.parametrize("protocol", [NATIVE, MASKCONTRAST], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("foreground", ["head", "masks", "all", "labels"])
def test_equal_to_a_forward_pass(protocol: ClusterProtocol, foreground: Foreground, folder: Path) -> None:
    protocol = replace(protocol, image_size_px=SIZE)
    images = open_image_folder(folder / "images").images
    (folder / "masks/1.png").unlink()
    masks = open_mask_folder(folder / "masks", images)
    labels = None if foreground != "labels" else truth
    used = [ref for ref in images if ref.stem != "1"] if foreground == "labels" else list(images)
    encoder = FeatureEncoder(encode, "colours", "f" * 64, "none", has_saliency=True)
    store = store_features(folder / "store", used, encoder, Framing(SIZE), batch_size=2)
    source = MaskSource(masks if foreground == "masks" else None, labels)
    found = embed_stored(store, used[::-1], protocol, foreground, source)
    wanted = list(embed_images(used, encode, protocol, foreground, masks, labels=labels))
    assert [item.stem for item in found.rejected] == (["1"] if foreground == "masks" else [])
    expected = [item for item in wanted if isinstance(item, EmbeddedImage)]
    assert [image.stem for image in found.images] == [image.stem for image in expected]
    for image, other in zip(found.images, expected, strict=True):
        assert (image.size, image.instances) == (other.size, other.instances)
        assert np.array_equal(image.has_prototype, other.has_prototype)
        np.testing.assert_allclose(image.vectors, other.vectors, atol=2e-3)
        if foreground == "all":
            np.testing.assert_allclose(image.grid(), other.grid(), rtol=2e-3, atol=1e-3)


def test_a_store_of_another_frame_is_refused(folder: Path) -> None:
    images = open_image_folder(folder / "images").images
    encoder = FeatureEncoder(encode, "colours", "f" * 64, "none", has_saliency=True)
    store = store_features(folder / "store", images, encoder, Framing(SIZE, "crop"))
    with pytest.raises(InputError, match=r"protocol native wants them stretched to \(32, 48\); compute them"):
        embed_stored(store, images, replace(NATIVE, image_size_px=SIZE), "head", MaskSource())
