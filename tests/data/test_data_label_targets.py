"""Views with label maps as targets: image and labels move together, the same key draws the same view."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.label_maps import write_label_map
from densessl.data.label_targets import LabelFolder, LabelViews, collate_labels
from densessl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from densessl.data.view_settings import ViewSettings
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import IGNORE, ImageRef

PLAIN = ViewSettings(size_px=16, min_scale=0.3, jitter=0, grayscale=0)


@pytest.fixture
def ref(tmp_path: Path) -> ImageRef:
    """An image of grey levels that are ten times its labels: 0, 3 and ignored (grey 200)."""
    labels = np.zeros((24, 32), dtype=np.int64)
    labels[6:20, 4:18] = 3
    labels[:, 26:] = IGNORE
    grey = np.where(labels == IGNORE, 200, 10 * labels).astype(np.uint8)
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(tmp_path / "a.png")
    write_label_map(tmp_path / "labels" / "a.png", labels)
    return ImageRef("a", tmp_path / "a.png")


def test_labels_lie_where_their_pixels_do(ref: ImageRef, tmp_path: Path) -> None:
    views = LabelViews((ref,), LabelFolder(tmp_path / "labels"), PLAIN)
    assert len(views) == 1
    seen = set()
    for epoch in range(8):
        view = views[SampleKey(0, epoch, 0)]
        assert (view.image.shape, view.target.shape, view.target.dtype) == ((3, 16, 16), (16, 16), torch.uint8)
        grey = 255 * (view.image[0] * IMAGENET_STD[0] + IMAGENET_MEAN[0])
        expected = torch.where(view.target == IGNORE, 200.0, 10.0 * view.target)
        assert float((grey - expected).abs().median()) < 1  # outlines are interpolated
        seen |= set(view.target.unique().tolist())
    assert seen == {0, 3, IGNORE}


def test_a_key_draws_the_same_view_again(ref: ImageRef, tmp_path: Path) -> None:
    views = LabelViews((ref,), LabelFolder(tmp_path / "labels"), ViewSettings(size_px=16))
    first, again, other = (views[SampleKey(0, epoch, 0)] for epoch in (1, 1, 2))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first.image, other.image)
    batch = collate_labels([first, other])
    assert (batch.image.shape, batch.target.shape) == ((2, 3, 16, 16), (2, 16, 16))


def test_a_label_map_of_another_size(ref: ImageRef, tmp_path: Path) -> None:
    write_label_map(tmp_path / "labels" / "a.png", np.zeros((5, 5), dtype=np.int64))
    with pytest.raises(InputError, match=r"a\.png is \(5, 5\), the image \(24, 32\)"):
        LabelViews((ref,), LabelFolder(tmp_path / "labels"), PLAIN)[SampleKey(0, 0, 0)]
