"""Training heads on stored features: views of each image are drawn and encoded once, by an encoder that stays frozen.

The encoder is most of a step's time. Where it does not change, a few views of each image, encoded once, stand for the
views that every epoch would draw anew; epochs then cost next to nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from densessl.data.normalisation import normalise_bytes
from densessl.data.single_views import ConsecutiveKeys, SingleViews, collate_single
from densessl.data.views import PairedViews, SampleKey
from densessl.errors import InputError
from densessl.files import read_json, state_of_files, write_atomically, write_json
from densessl.models.dense_encoder import state_sha256
from densessl.models.mask_contrast_model import MaskContrastModel, ViewMasks, masked_mean
from densessl.structures import ViewBatch
from densessl.training.batches import draw_batches
from densessl.training.sampler import BatchSampler

IDENTITY_FILE = "views.json"
_ABOUT_PAIRS = frozenset({"num_stored", "neighbours", "neighbours_size_px"})
_BATCH_SIZE = 32


@dataclass(frozen=True)
class StoredViews:
    """The pooled features of several views of each image.

    features: float32 (num_views, num_images, channels). is_usable: bool (num_views, num_images).
    neighbours: int64 (num_images, num_neighbours), where key views come from neighbours; None draws both from one.
    stems: of the images.
    """

    features: NDArray[np.float32]
    is_usable: NDArray[np.bool_]
    neighbours: NDArray[np.int64] | None
    stems: tuple[str, ...]

    def batches(self, sampler: BatchSampler, device: torch.device) -> Iterator[tuple[ViewBatch, int]]:
        """Yield batches of pairs, each with the number of images that were passed over for it.

        An image becomes (channels, 1, 1), its mask one cell that is foreground: what a network without encoder takes.
        """
        for keys in sampler:
            pairs = [self._pair(key) for key in keys]
            query, key = (
                torch.from_numpy(np.stack([pair[side] for pair in pairs]))[:, :, None, None].to(device)
                for side in (0, 1)
            )
            masks = torch.ones(len(pairs), 1, 1, dtype=torch.long, device=device)
            stems = tuple(self.stems[pair[2]] for pair in pairs)
            yield ViewBatch(query, masks, key, masks, stems), sum(pair[3] for pair in pairs)

    def _pair(self, key: SampleKey) -> tuple[NDArray[np.float32], NDArray[np.float32], int, int]:
        """Return query and key features (channels,), the image, and how many images were passed over for it."""
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        index = key.index
        for num_replaced in range(PairedViews.max_replacements + 1):
            other = index if self.neighbours is None else int(generator.choice(self.neighbours[index]))
            query, keys = np.flatnonzero(self.is_usable[:, index]), np.flatnonzero(self.is_usable[:, other])
            if len(query) and len(keys) > (other == index):
                first = int(generator.choice(query))
                second = int(generator.choice(keys[keys != first] if other == index else keys))
                return self.features[first, index], self.features[second, other], index, num_replaced
            index = int(generator.integers(len(self.stems)))
        raise InputError(
            f"no pair of usable stored views was found in {PairedViews.max_replacements + 1} images, the first being "
            f"{self.stems[key.index]!r}; raise views.num_stored, views.min_scale or views.max_tries, and look at the "
            "masks"
        )


def store_views(
    fabric: Fabric,
    encoder: nn.Module,
    views: PairedViews,
    folder: Path,
    num_views: int,
    num_workers: int,
    seed: int,
) -> StoredViews:
    """Draw and encode the views of all images, those that the folder does not hold yet; processes share the work.

    Each view of all images is a file, written as a whole, so that a killed run goes on with the next one. Views that
    were drawn or encoded otherwise, which another file tells, are encoded again.

    Args:
        fabric: device, precision and processes.
        encoder: maps images (batch, 3, size, size) to features (batch, channels, h, w); no part of it is trained.
        views: how views are drawn, and of which images.
        folder: of the files, view-N.npz, and of views.json.
        num_views: of each image.
        num_workers: loader processes; -1 chooses by the number of cores.
        seed: of the views.

    Raises:
        InputError: an encoder with a part that is trained, or an image that cannot be read.
    """
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    if trained:
        raise InputError(
            f"views.num_stored is {num_views}, but {len(trained)} tensors of the encoder are trained (such as "
            f"{trained[0]}); name all its parts in model.frozen, or set views.num_stored to 0"
        )
    if fabric.is_global_zero:
        _claim(folder, _identity(encoder, views, seed, fabric.strategy.precision.precision))
    fabric.barrier()
    encoder = encoder.to(fabric.device).eval()
    for number in range(fabric.global_rank, num_views, fabric.world_size):
        path = folder / f"view-{number}.npz"
        if not path.is_file():
            features, is_usable = _encode_view(fabric, encoder, views, number, num_workers, seed)
            write_atomically(path, lambda place, f=features, u=is_usable: _save(place, f, u))  # type: ignore[misc]
            if fabric.is_global_zero:
                text = f"view {number + 1} of {num_views} of {len(views)} images encoded"
                Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
    fabric.barrier()
    parts = [np.load(folder / f"view-{number}.npz", allow_pickle=False) for number in range(num_views)]
    features = np.stack([part["features"] for part in parts])
    is_usable = np.stack([part["is_usable"] for part in parts])
    stems = tuple(ref.stem for ref in views.images)
    return StoredViews(features, is_usable, views.neighbours, stems)


class GivenFeatures(nn.Module):
    """Stands in for an encoder whose features are given in place of images: (batch, channels, 1, 1), as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features."""
        return features


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Work on one thread of a CPU: a head's products are too small to share.

    Threads that wait for one another cost nothing on an idle machine, and on a busy one a hundred times the step.
    """
    num_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def with_encoder(
    encoder: nn.Module, evaluate: Callable[[MaskContrastModel], dict[str, float]]
) -> Callable[[MaskContrastModel], dict[str, float]]:
    """Return an evaluation that puts a network's encoder back for as long as it takes."""

    def judge(model: MaskContrastModel) -> dict[str, float]:
        given, model.encoder = model.encoder, encoder  # type: ignore[assignment]
        try:
            return evaluate(model)
        finally:
            model.encoder = given

    return judge


def _identity(encoder: nn.Module, views: PairedViews, seed: int, precision: str) -> dict[str, Any]:
    """Return what decides the stored views: their number does not, nor which images are neighbours."""
    settings = {key: value for key, value in asdict(views.settings).items() if key not in _ABOUT_PAIRS}
    files = views.sources.masks.files
    return {
        "images": state_of_files(ref.path for ref in views.images),
        "masks": state_of_files(files[ref.stem] for ref in views.images),
        "encoder": state_sha256(encoder),
        "precision": precision,
        "seed": seed,
        **settings,
    }


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Empty the folder where its views are others, and write down what the new ones are."""
    path = folder / IDENTITY_FILE
    found = read_json(path, "what views are stored") if path.is_file() else {}
    if found == identity:
        return
    stored = sorted(folder.glob("view-*.npz"))
    if stored:
        differing = [key for key, value in identity.items() if found.get(key) != value]
        text = f"{folder} holds views of other {', '.join(differing)}; they are encoded again"
        Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
    for view in stored:
        view.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)


@torch.no_grad()
def _encode_view(
    fabric: Fabric, encoder: nn.Module, views: PairedViews, number: int, num_workers: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the pooled features of one view of every image, (num_images, channels), and which of them are usable."""
    keys = ConsecutiveKeys(len(views), _BATCH_SIZE, seed, number)
    features, is_usable = [], []
    for batch in draw_batches(SingleViews(views), keys, num_workers, collate_single, fabric.device):
        images = normalise_bytes(fabric.to_device(batch.image)).contiguous(memory_format=torch.channels_last)
        with fabric.autocast():
            maps = encoder(images)
        own = ViewMasks(fabric.to_device(batch.mask), torch.arange(len(images), device=fabric.device))
        features.append(masked_mean(maps, own).float().cpu().numpy())
        is_usable.append(np.asarray(batch.is_usable))
    return np.concatenate(features), np.concatenate(is_usable)


def _save(path: Path, features: NDArray[np.float32], is_usable: NDArray[np.bool_]) -> None:
    with path.open("wb") as handle:
        np.savez(handle, features=features, is_usable=is_usable)
