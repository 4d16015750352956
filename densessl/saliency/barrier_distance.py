"""The minimum barrier distance to the image's edge.

Source: Zhang, Sclaroff, Lin, Shen, Price, Mech, "Minimum barrier salient object detection at 80 FPS", ICCV 2015.
"""

import cv2
import numpy as np

from densessl.saliency.colour import FloatMap, LabImage


def barrier_distance(image: LabImage, num_passes: int = 2) -> FloatMap:
    """Return the barrier distance of each pixel to the image's edge, (height, width), in the units of `image`.

    The barrier of a path is the largest minus the smallest value on it; the distance is the smallest barrier over
    all paths to the edge, summed over the channels of `image` (height, width, 1 to 4 channels). Approximated as in the
    paper's algorithm 1, with one deviation that lets whole lines be updated at once: a pass is four sweeps (down, up,
    right, left) that relax each line from the one before it, in place of two raster scans with two neighbours each.
    The result is never below the exact distance.
    """
    distance = np.full(image.shape, np.inf, dtype=np.float32)
    distance[[0, -1]] = 0
    distance[:, [0, -1]] = 0
    highest, lowest = image.copy(), image.copy()
    turned = _transpose(image)
    for _ in range(num_passes):
        _sweep_down_and_up(image, distance, highest, lowest)
        distance, highest, lowest = _transpose(distance), _transpose(highest), _transpose(lowest)
        _sweep_down_and_up(turned, distance, highest, lowest)
        distance, highest, lowest = _transpose(distance), _transpose(highest), _transpose(lowest)
    return np.asarray(distance.sum(axis=2), dtype=np.float32)


def _sweep_down_and_up(image: LabImage, distance: LabImage, highest: LabImage, lowest: LabImage) -> None:
    _sweep(image, distance, highest, lowest)
    _sweep(image[::-1], distance[::-1], highest[::-1], lowest[::-1])


def _sweep(image: LabImage, distance: LabImage, highest: LabImage, lowest: LabImage) -> None:
    """Relax every line from the line before it, in place."""
    for line in range(1, len(image)):
        high = np.maximum(highest[line - 1], image[line])
        low = np.minimum(lowest[line - 1], image[line])
        barrier = high - low
        shorter = barrier < distance[line]
        np.copyto(distance[line], barrier, where=shorter)
        np.copyto(highest[line], high, where=shorter)
        np.copyto(lowest[line], low, where=shorter)


def _transpose(array: LabImage) -> LabImage:
    """Return a copy with columns as lines, (width, height, channels): sweeps are quickest over adjacent memory."""
    height, width, num_channels = array.shape
    return np.asarray(cv2.transpose(array), dtype=np.float32).reshape(width, height, num_channels)
