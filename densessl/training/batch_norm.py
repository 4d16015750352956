"""Batch norm over several processes: statistics of the whole batch, or key images shuffled between the processes."""

from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import nn

from densessl.models.mask_contrast_model import ViewMasks
from densessl.objectives.mask_prototypes import index_masks, mask_membership
from densessl.training.devices import count_rows, gather_rows, sum_over_processes


class SummedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose mean and variance are summed over all processes, on any device; torch's own is for GPUs alone.

    Its children are applied afterwards: dropout and activation, which timm keeps inside of its batch norms.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Normalise values (batch, channels, ...); in training mode all processes call together."""
        return _activate(self, self._normalise(values) if self.training else super().forward(values))

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass  # any number of dimensions

    def _normalise(self, values: torch.Tensor) -> torch.Tensor:
        precise = values.to(torch.promote_types(values.dtype, torch.float32))
        over = [0, *range(2, values.ndim)]
        shape = [1, -1] + [1] * (values.ndim - 2)
        own = precise.new_tensor([precise[:, 0].numel()])
        *sums, num = sum_over_processes(torch.cat([precise.sum(over), own])).split([self.num_features, 1])
        mean = sums[0] / num
        centred = precise - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(over)) / num
        self._track(mean.detach(), variance.detach() * num / (num - 1))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(values.dtype)

    def _track(self, mean: torch.Tensor, unbiased_variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased_variance, share)


class FusedBatchNorm(nn.SyncBatchNorm):
    """torch's synchronised batch norm, and its children as in `SummedBatchNorm`."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Normalise values (batch, channels, ...); in training mode all processes call together."""
        return _activate(self, super().forward(values))


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Let each batch norm of a network use the statistics of all processes' images, in place.

    Parameters and buffers stay the same objects under the same names. `device` is where the network will compute.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, _synchronised(child, device))


def _synchronised(original: nn.modules.batchnorm._BatchNorm, device: torch.device) -> nn.Module:
    kind = FusedBatchNorm if device.type == "cuda" else SummedBatchNorm
    norm = kind(original.num_features, original.eps, original.momentum, original.affine, original.track_running_stats)
    for name, parameter in original.named_parameters(recurse=False):
        norm.register_parameter(name, parameter)
    for name, buffer in original.named_buffers(recurse=False):
        norm.register_buffer(name, buffer)
    for name, inside in original.named_children():
        norm.add_module(name, inside)
    return norm.train(original.training)


def _activate(norm: nn.Module, values: torch.Tensor) -> torch.Tensor:
    for child in norm.children():
        values = child(values)
    return values


def embed_shuffled(
    fabric: Fabric,
    twin: nn.Module,
    images: torch.Tensor,
    query_masks: torch.Tensor,
    key_masks: torch.Tensor,
    key_confidence: torch.Tensor | None,
    embedding_of: Literal["pixels", "masks"],
    seed: int,
) -> torch.Tensor:
    """Embed key images on processes chosen at random, so that no batch norm sees the images of one query batch.

    Shuffling BN (MoCo, arXiv:1911.05722, section 3.3): the images of all processes are permuted, each process embeds
    its share, and the embeddings go back to where their images came from.

    Args:
        fabric: the processes; all call together.
        twin: the key network, on the device.
        images: (batch, 3, height, width) of this process.
        query_masks, key_masks: int64 (batch, height, width), their instance maps.
        key_confidence: (batch, height, width), so much of each pixel of the key view belongs to its mask; all of it
            where it is None.
        embedding_of: that of the network: the embedding has a row for each image, or for each of its masks.
        seed: of the permutation, the same on all processes.

    Returns:
        The embedding of this process's images: (batch, dim, h, w), or (num_masks, dim) in the order of `index_masks`.
    """
    counts = count_rows(fabric, images)
    parts = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(seed)).split(counts)
    lent = parts[fabric.global_rank].to(images.device)  # numbers of the images embedded here
    borrowed = gather_rows(fabric, images)[lent]
    if embedding_of == "pixels":
        embedding, image = twin(borrowed, None).embedding, lent
    else:
        index = index_masks(gather_rows(fabric, query_masks)[lent], gather_rows(fabric, key_masks)[lent])
        membership = mask_membership(index.key, index.image)
        if key_confidence is not None:
            membership = membership * gather_rows(fabric, key_confidence)[lent][index.image]
        masks = ViewMasks(membership, index.image)
        embedding, image = twin(borrowed, masks).embedding, lent[index.image]
    embedding, image = gather_rows(fabric, embedding), gather_rows(fabric, image)
    order = torch.argsort(image, stable=True)
    first = sum(counts[: fabric.global_rank])
    is_own = (image[order] >= first) & (image[order] < first + counts[fabric.global_rank])
    return embedding[order[is_own]]
