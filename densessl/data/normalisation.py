"""Images as networks want them: channels first, less the mean of ImageNet over its standard deviation."""

import numpy as np
import torch

from densessl.structures import ImageArray

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise_bytes(images: torch.Tensor) -> torch.Tensor:
    """Return `(x - 255 mean) / (255 std)` of uint8 images (..., 3, height, width), in albumentations' order."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).mul_(255).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).mul_(255).view(3, 1, 1)
    return images.float().sub_(mean).mul_(std.reciprocal_())


def normalise_image(image: ImageArray) -> torch.Tensor:
    """Turn an RGB image (height, width, 3), uint8, into the network's input (3, height, width), float32."""
    mean, std = np.array(IMAGENET_MEAN, dtype=np.float32), np.array(IMAGENET_STD, dtype=np.float32)
    values = (image.astype(np.float32) / 255.0 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
