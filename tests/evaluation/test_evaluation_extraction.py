"""Embedding a data set: independent of batches and workers, faults told, every kind of foreground."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.image_folder import open_image_folder
from densessl.data.label_maps import write_label_map
from densessl.data.masks import open_mask_folder
from densessl.data.normalisation import normalise_image
from densessl.errors import InputError
from densessl.evaluation.extraction import EmbeddedImage, Extraction, decode_instances, embed_images
from densessl.evaluation.network_features import NetworkFeatures
from densessl.evaluation.protocols import MASKCONTRAST, NATIVE, ClusterProtocol
from densessl.evaluation.prototypes import DenseFeatures, pool_prototypes
from densessl.models.mask_contrast_model import ModelSettings, ViewMasks, build_model
from densessl.structures import ImageRef, Rejection

PROTOCOL = dataclasses.replace(NATIVE, image_size_px=(32, 48))
PUBLISHED = dataclasses.replace(MASKCONTRAST, image_size_px=(32, 48))


def _draw(root: Path, num: int = 5) -> tuple[ImageRef, ...]:
    """Images of different sizes, each with a bright box; `masks` holds the boxes."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    generator = np.random.default_rng(0)
    for index in range(num):
        size = (30 + 7 * index, 60 - 5 * index)
        image = generator.integers(0, 80, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, dtype=np.uint8)
        mask[5:22, 6 : 20 + index] = 255
        image[mask > 0] = (250, 200, 10 * index)
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(mask).save(root / "masks" / f"{index}.png")
    return open_image_folder(root / "images").images


def _network() -> NetworkFeatures:
    torch.manual_seed(0)
    settings = ModelSettings(encoder="test_resnet", output_stride=16, decoder_channels=8, embedding_dim=4)
    model = build_model(settings)
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(4, 3, 32, 48))  # gives the batch norms statistics of some size
        model.saliency_head.weight.mul_(20)  # logits of both signs, well apart
    return NetworkFeatures(model, "embedding")


def _colours(images: torch.Tensor) -> DenseFeatures:
    """A feature function that can be checked by eye: the colours; bright pixels are foreground."""
    return DenseFeatures(images, images.mean(1) * 4)


def _embed(
    refs: tuple[ImageRef, ...],
    encode: Callable[[torch.Tensor], DenseFeatures],
    foreground: str,
    protocol: ClusterProtocol = PROTOCOL,
    masks: Path | None = None,
    **options: int,
) -> list[EmbeddedImage | Rejection]:
    folder = open_mask_folder(masks, refs) if masks else None
    return list(embed_images(refs, encode, protocol, foreground, folder, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("foreground", "protocol"), [("head", PROTOCOL), ("head", PUBLISHED), ("masks", PROTOCOL)])
def test_prototypes_do_not_depend_on_batches_and_workers(
    tmp_path: Path, foreground: str, protocol: ClusterProtocol
) -> None:
    refs, network = _draw(tmp_path), _network()
    masks = tmp_path / "masks" if foreground == "masks" else None
    alone = _embed(refs, network, foreground, protocol, masks, batch_size=1)
    assert any(image.has_prototype.any() for image in alone if isinstance(image, EmbeddedImage))
    for batch_size, num_workers in ((3, 0), (8, 0), (3, 2)):
        options = {"batch_size": batch_size, "num_workers": num_workers}
        for one, other in zip(alone, _embed(refs, network, foreground, protocol, masks, **options), strict=True):
            assert isinstance(one, EmbeddedImage)
            assert isinstance(other, EmbeddedImage)
            assert (one.stem, one.size, one.instances) == (other.stem, other.size, other.instances)
            assert np.array_equal(one.has_prototype, other.has_prototype)
            assert one.vectors == pytest.approx(other.vectors, abs=1e-4)


def test_a_prototype_by_hand(tmp_path: Path) -> None:
    (refs, masks) = _draw(tmp_path, 1), tmp_path / "masks"
    (image,) = _embed(refs, _colours, "masks", dataclasses.replace(PROTOCOL, image_size_px=(30, 60)), masks)
    assert isinstance(image, EmbeddedImage)
    colour = normalise_image(np.array([[[250, 200, 0]]], dtype=np.uint8)).flatten().numpy()
    assert image.vectors == pytest.approx(colour[None] / np.linalg.norm(colour), abs=1e-5)
    assert image.size == (30, 60)
    expected = cv2.imread(str(masks / "0.png"), cv2.IMREAD_UNCHANGED) > 0
    assert np.array_equal(decode_instances(image), expected.astype(np.int64))
    with pytest.raises(InputError, match=r"image '0' was embedded without its pixels; embed it with foreground all"):
        image.grid()


def test_the_head_finds_the_foreground_at_native_size(tmp_path: Path) -> None:
    refs = _draw(tmp_path)
    for index, image in enumerate(_embed(refs, _colours, "head", PUBLISHED)):
        assert isinstance(image, EmbeddedImage)
        assert image.size == (30 + 7 * index, 60 - 5 * index)
        found = decode_instances(image) > 0
        box = cv2.imread(str(tmp_path / "masks" / f"{index}.png"), cv2.IMREAD_UNCHANGED) > 0
        assert found.shape == box.shape
        assert (found & box).sum() / (found | box).sum() > 0.8  # nearest and bilinear differ along the edge
        assert np.linalg.norm(image.vectors, axis=1) == pytest.approx([1.0])


def test_an_image_without_foreground_has_no_prototype(tmp_path: Path) -> None:
    refs = _draw(tmp_path, 2)

    def dark(images: torch.Tensor) -> DenseFeatures:
        return DenseFeatures(images, torch.full_like(images[:, 0], -1.0))

    for protocol in (PROTOCOL, PUBLISHED):
        for image in _embed(refs, dark, "head", protocol):
            assert isinstance(image, EmbeddedImage)
            assert image.has_prototype.tolist() == [False]
            assert decode_instances(image).max() == 0


def test_several_masks_have_a_prototype_each(tmp_path: Path) -> None:
    refs = _draw(tmp_path, 2)
    numbers = np.zeros((30, 60), dtype=np.int64)
    numbers[5:22, 6:20], numbers[25:, 40:] = 1, 3
    write_label_map(tmp_path / "masks/0.png", numbers)
    write_label_map(tmp_path / "masks/1.png", np.zeros((37, 55), dtype=np.int64))
    several, none = _embed(refs, _colours, "masks", masks=tmp_path / "masks")
    assert isinstance(several, EmbeddedImage)
    assert several.has_prototype.tolist() == [True, False, True]
    assert np.array_equal(decode_instances(several), numbers)
    assert isinstance(none, EmbeddedImage)
    assert none.vectors.shape == (0, 3)


def test_all_pixels(tmp_path: Path) -> None:
    refs = _draw(tmp_path, 2)
    images = _embed(refs, _network(), "all")
    for index, image in enumerate(images):
        assert isinstance(image, EmbeddedImage)
        assert image.grid().shape == (4, 2, 3)
        assert image.grid().dtype == np.float16
        assert (image.vectors.shape, image.instances) == ((0, 4), b"")
        assert image.size == (30 + 7 * index, 60 - 5 * index)
        with pytest.raises(InputError, match=r"embedded without masks; embed it with foreground head or masks"):
            decode_instances(image)
    assert Extraction(tuple(images), ()).is_pixelwise  # type: ignore[arg-type]
    assert not Extraction((), ()).is_pixelwise


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_images_and_missing_masks_are_rejected_in_place(tmp_path: Path, num_workers: int) -> None:
    refs = _draw(tmp_path)
    (tmp_path / "masks/3.png").unlink()
    refs[1].path.write_bytes(refs[1].path.read_bytes()[:60])
    found = _embed(refs, _colours, "masks", masks=tmp_path / "masks", num_workers=num_workers, batch_size=2)
    assert [item.stem for item in found] == ["0", "1", "2", "3", "4"]
    assert [isinstance(item, Rejection) for item in found] == [False, True, False, True, False]
    assert "1.png" in found[1].reason  # type: ignore[union-attr]
    assert found[3].reason == "no mask"  # type: ignore[union-attr]


def test_a_batch_of_broken_images_alone(tmp_path: Path) -> None:
    refs = _draw(tmp_path, 2)
    for ref in refs:
        ref.path.write_bytes(b"")
    assert all(isinstance(item, Rejection) for item in _embed(refs, _colours, "head"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_mask_of_another_size_is_refused(tmp_path: Path, num_workers: int) -> None:
    refs = _draw(tmp_path, 2)
    Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(tmp_path / "masks/1.png")
    with pytest.raises(InputError, match=r"20 x 20, its image 37 x 55 \(height x width\); make the mask"):
        _embed(refs, _colours, "masks", masks=tmp_path / "masks", num_workers=num_workers)


def test_foreground_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refs = _draw(tmp_path, 1)
    with pytest.raises(InputError, match=r"foreground masks needs a mask folder; give one, or use foreground head"):
        _embed(refs, _colours, "masks")
    for protocol in (PROTOCOL, PUBLISHED):
        with pytest.raises(InputError, match=r"without saliency logits"):
            _embed(refs, lambda images: DenseFeatures(images), "head", protocol)


@pytest.mark.parametrize(("feature_map", "dim"), [("embedding", 4), ("decoder", 8), ("encoder", 96)])
def test_every_feature_map_of_a_network(feature_map: str, dim: int) -> None:
    network = dataclasses.replace(_network(), feature_map=feature_map)
    with torch.no_grad():
        dense = network(torch.zeros(1, 3, 32, 40))
    assert dense.features.shape == (1, dim, 2, 3)
    assert dense.saliency is not None
    assert dense.saliency.shape == (1, 32, 40)
    assert not network.model.training


def test_masks_are_embedded_as_in_training(tmp_path: Path) -> None:
    """A network that embeds masks gives the same vector for a mask as the term that trained it."""
    torch.manual_seed(0)
    settings = ModelSettings(
        encoder="test_resnet",
        output_stride=16,
        decoder="none",
        embedding_dim=4,
        embedding_hidden=6,
        embedding_of="masks",
    )
    model = build_model(settings).eval()
    membership = torch.rand(2, 32, 48) > 0.4
    images = torch.randn(2, 3, 32, 48)
    trained = model(images, ViewMasks(membership, torch.arange(2))).embedding
    dense = NetworkFeatures(model, "embedding")(images)
    pooled = pool_prototypes(dense, [mask[None] for mask in membership], "mask_sum")
    for one, other in zip(trained, pooled, strict=True):
        assert torch.allclose(torch.nn.functional.normalize(one, dim=0), other.vectors[0], atol=1e-5)
    assert dense.pixels().shape == (2, 4, 2, 3)


def test_the_true_foreground_is_one_mask(tmp_path: Path) -> None:
    refs = _draw(tmp_path, 2)

    def labels(ref: ImageRef) -> np.ndarray:
        label_map = np.zeros((30, 60) if ref.stem == "0" else (37, 55), dtype=np.int64)
        label_map[5:22, 6:20], label_map[25:, 40:], label_map[0] = 1, 3, 255
        return label_map

    for ref, image in zip(refs, embed_images(refs, _colours, PROTOCOL, "labels", None, labels=labels), strict=True):
        assert isinstance(image, EmbeddedImage)
        assert image.has_prototype.tolist() == [True]
        expected = (labels(ref) > 0) & (labels(ref) != 255)
        assert np.array_equal(decode_instances(image), expected.astype(np.int64))
    with pytest.raises(InputError, match=r"foreground labels needs a data set with labels"):
        _embed(refs, _colours, "labels")
    wrong = embed_images(refs[1:], _colours, PROTOCOL, "labels", None, labels=lambda ref: labels(refs[0]))
    with pytest.raises(InputError, match=r"label map of image '1' is 30 x 60, the image 37 x 55"):
        list(wrong)


def test_features_that_are_not_finite_name_the_image(tmp_path: Path) -> None:
    refs = _draw(tmp_path, 3)

    def broken(images: torch.Tensor) -> DenseFeatures:
        features = images.clone()
        features[1, 0, 3, 3] = torch.nan
        return DenseFeatures(features)

    with pytest.raises(InputError, match=r"features of image '1' hold NaN, infinity or values beyond 65504"):
        _embed(refs, broken, "all")


def test_a_transformer_of_a_run_sees_whole_patches() -> None:
    model = build_model(ModelSettings(encoder="test_vit", decoder_channels=8, embedding_dim=4)).eval()
    dense = NetworkFeatures(model, "embedding")(torch.randn(1, 3, 33, 50))
    assert dense.features.shape == (1, 4, 2, 3)  # patches of 16
    assert dense.saliency is not None
    assert dense.saliency.shape == (1, 33, 50)
