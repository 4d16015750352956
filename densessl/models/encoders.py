"""Image encoders by timm name, with one output: a dense feature map."""

from typing import Any

import timm
import torch
from torch import nn

from densessl.errors import InputError

_TRANSFORMER_MODULES = {"vision_transformer", "deit", "eva", "beit"}
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
_PROBE_CELLS = (5, 7)


class Encoder(nn.Module):
    """A timm network whose last feature map is returned as (batch, channels, grid height, grid width).

    Convolutional networks are dilated to `output_stride`; a vision transformer's stride is its patch size, its
    position embeddings are resampled to the image, and images are padded to whole patches at the bottom and right.

    Attributes:
        num_channels: channels of the feature map.
        stride: pixels of the image per cell of the feature map.
        has_patches: it is a vision transformer, whose cells are patches of the image.
    """

    def __init__(self, backbone: nn.Module, num_channels: int, stride: int, *, has_patches: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_channels = num_channels
        self.stride = stride
        self.has_patches = has_patches

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (batch, 3, height, width), normalised, to (batch, channels, grid height, grid width)."""
        features = self.backbone.forward_features(images)  # type: ignore[operator]
        if features.ndim == 4:
            if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
                features = features.permute(0, 3, 1, 2)
            return features
        height, width = ((side + self.stride - 1) // self.stride for side in images.shape[-2:])
        tokens = features[:, getattr(self.backbone, "num_prefix_tokens", 0) :]  # (batch, height * width, channels)
        return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def whole_patches(images: torch.Tensor, encoder: Encoder) -> torch.Tensor:
    """Return images (batch, 3, height, width) of whole patches, so that the cells of a transformer cover them exactly.

    Sides that are no multiple of the patch become the largest multiple below (bilinear, antialiased; at least one
    patch). Otherwise the last cells would lie on padding in part, and a map that is read as covering the image would be
    shifted. Other images, and those for convolutional networks, are returned as they are.
    """
    sides = (images.shape[-2], images.shape[-1])
    whole = tuple(max(side // encoder.stride, 1) * encoder.stride for side in sides)
    if not encoder.has_patches or whole == sides:
        return images
    return nn.functional.interpolate(images, size=whole, mode="bilinear", align_corners=False, antialias=True)


def patch_note(encoder: Encoder) -> str:
    """Return what to add to a description where usual image sizes, multiples of 32, are no whole number of patches."""
    if not encoder.has_patches or 32 % encoder.stride == 0:
        return ""
    return f", images brought to multiples of {encoder.stride} px"


def build_encoder(name: str, *, output_stride: int = 8, pretrained: bool = False) -> Encoder:
    """Build the encoder of a timm name with random weights, or with timm's published ones (a download).

    Args:
        name: a timm model name such as "resnet18", "mobilenetv2_100" or "vit_small_patch16_224".
        output_stride: 8, 16 or 32 pixels per cell; not used by vision transformers, whose patch size decides.
        pretrained: let timm download its published weights for that name.

    Raises:
        InputError: unknown name, or an output stride that the network does not support.
    """
    if output_stride not in {8, 16, 32}:
        raise InputError(f"output_stride {output_stride} is not one of 8, 16, 32; choose one of them")
    check_encoder_name(name)
    is_token_model = timm.models.is_model_in_modules(name, _TRANSFORMER_MODULES)
    options = (
        {"dynamic_img_size": True, "dynamic_img_pad": True} if is_token_model else {"output_stride": output_stride}
    )
    try:
        backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except TypeError as error:
        raise InputError(
            f"encoder {name!r} does not take {options} ({error}); choose a ResNet, a MobileNet or a ViT"
        ) from error
    except (NotImplementedError, AssertionError) as error:
        raise InputError(f"encoder {name!r} does not support output_stride {output_stride} ({error})") from error
    stride = backbone.patch_embed.patch_size[0] if is_token_model else output_stride
    return Encoder(backbone, int(backbone.num_features), int(stride), has_patches=is_token_model)


def build_undilated_encoder(name: str, *, pretrained: bool = False) -> Encoder:
    """Build the encoder of a timm name at the stride of its own last map, often 32, for networks without dilation.

    Channels and stride are found by encoding a blank image of 5 x 7 cells, a size that no network is built for. Images
    must then have sides that are multiples of the stride.

    Raises:
        InputError: an unknown name, or a network without a last map, or with one for images of a single size.
    """
    check_encoder_name(name)
    backbone = _backbone_of_any_size(name, pretrained=pretrained)
    try:
        stride = _reduction(backbone)
        encoder = Encoder(backbone, int(backbone.num_features), stride).eval()
        with torch.no_grad():
            features = encoder(torch.zeros(1, 3, _PROBE_CELLS[0] * stride, _PROBE_CELLS[1] * stride))
    except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError, LookupError) as error:
        raise InputError(
            f"encoder {name!r} cannot encode images of any size to one feature map ({_first_line(error)}); choose a "
            "ResNet, a MobileNet, a ViT, a Swin transformer or a PVT v2"
        ) from error
    if tuple(features.shape[-2:]) != _PROBE_CELLS:
        raise InputError(
            f"encoder {name!r} gives {features.shape[-2]} x {features.shape[-1]} cells for an image of "
            f"{_PROBE_CELLS[0]} x {_PROBE_CELLS[1]} cells of {stride} pixels, so that they lie on no regular grid; "
            "choose another network"
        )
    return Encoder(backbone, features.shape[1], stride).train()


def _backbone_of_any_size(name: str, *, pretrained: bool) -> Any:
    """Build a timm network with the first of the options for images of any size that it takes, if there is one."""
    for options in _ANY_SIZE:
        try:
            return timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        except TypeError:  # an option that the network does not know
            continue
    raise InputError(f"encoder {name!r} cannot be built without a classifier; choose another network")


def _reduction(backbone: Any) -> int:
    """Return the pixels per cell of the last feature map, by timm's own description."""
    info = backbone.feature_info
    return int(info[-1]["reduction"] if isinstance(info, list) else info.reduction()[-1])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def check_encoder_name(name: str) -> None:
    """Raise `InputError`, with similar names, for what is no timm model name."""
    if not timm.is_model(name):
        similar = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "resnet18, mobilenetv2_100"
        raise InputError(f"encoder {name!r} is not a timm model name; similar names: {similar}")
