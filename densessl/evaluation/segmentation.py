"""From clusters to label maps: paint masks with the cluster of their prototype, or pixels with their own."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from densessl.errors import InputError
from densessl.evaluation.clustering import Clustering, cluster_distances
from densessl.evaluation.projection import project
from densessl.structures import IGNORE, InstanceMap, LabelMap, MaskArray

NO_CLUSTER = -1
"""The cluster id of a mask that has no prototype; it is painted as background."""


def paint(
    instances: InstanceMap | MaskArray, cluster_ids: Sequence[int], size: tuple[int, int] | None = None
) -> LabelMap:
    """Return the label map in which every mask shows its cluster: cluster c as c + 1, background as 0.

    instances: (height, width), 0 or False for background, m for mask m (True is mask 1).
    cluster_ids: the cluster of masks 1, 2, ...; `NO_CLUSTER` (-1) paints a mask as background.
    size: (height, width) of the result, by nearest neighbour; None keeps the size of `instances`.

    Raises `InputError` for a mask without a cluster id, and for ids that would collide with the ignore value
    255.
    """
    ids = np.asarray(cluster_ids, dtype=np.int64).reshape(-1)
    masks = np.asarray(instances).astype(np.int64)
    if masks.min(initial=0) < 0:
        raise InputError(f"instance {int(masks.min())} is negative; masks are numbered from 1, background is 0")
    if masks.max(initial=0) > len(ids):
        raise InputError(f"the image has mask {int(masks.max())} but only {len(ids)} cluster ids; give one per mask")
    if ids.size and (ids.min() < NO_CLUSTER or ids.max() + 1 >= IGNORE):
        wrong = int(ids.min() if ids.min() < NO_CLUSTER else ids.max())
        raise InputError(f"cluster {wrong} cannot be painted; clusters are 0-{IGNORE - 2}, or {NO_CLUSTER} for none")
    colours = np.concatenate([[0], ids + 1])  # value painted for each instance number
    label_map: LabelMap = colours[masks]
    return label_map if size is None else resize_nearest(label_map, size)


def segment_pixels(features: Tensor, clustering: Clustering, size: tuple[int, int]) -> LabelMap:
    """Return the cluster of every pixel, painted as its id (no background is set apart), at `size`.

    features: float (dim, height, width) of one image. Distances to the centroids are upsampled bilinearly and
        the
    nearest centroid is taken per pixel. (Where nothing is normalised after the PCA, projection and distance
    are affine up to a constant, so this equals upsampling the features.)
    """
    if clustering.num_clusters > IGNORE:
        raise InputError(f"{clustering.num_clusters} clusters cannot be painted; at most {IGNORE} fit a label map")
    grid = (features.shape[1], features.shape[2])
    vectors = features.detach().flatten(1).T.float().cpu().numpy()  # (height*width, dim)
    projected = project(vectors, clustering.projection)
    distances = cluster_distances(projected, clustering)
    maps = torch.from_numpy(distances.T.reshape(1, clustering.num_clusters, *grid))
    upsampled = functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return upsampled[0].argmin(dim=0).numpy()


def resize_nearest(values: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Resize (height, width) to `size`: each output pixel takes the input pixel its centre falls into."""
    rows, columns = (_nearest_index(now, then) for now, then in zip(values.shape, size, strict=True))
    return values[np.ix_(rows, columns)]


def _nearest_index(num_in: int, num_out: int) -> NDArray[np.int64]:
    centres = (2 * np.arange(num_out, dtype=np.int64) + 1) * num_in  # twice num_out times the position
    return centres // (2 * num_out)
