"""What a named protocol is with the settings that it runs with, in one line of words, for cards."""

from densessl.commands.finetune_run import FinetuneRun, trains_encoder
from densessl.evaluation.extraction import Foreground, mask_weighting
from densessl.evaluation.labelled_protocols import (
    ExactLinearSettings,
    LinearProtocol,
    LinearScheduleSettings,
    NeighbourProtocol,
    RetrievalProtocol,
)
from densessl.evaluation.pixel_protocols import PixelProtocol
from densessl.evaluation.protocols import ClusterProtocol

NamedProtocol = ClusterProtocol | PixelProtocol | LinearProtocol | NeighbourProtocol | RetrievalProtocol | FinetuneRun

_WEIGHTINGS = {
    "mask_mean": "prototypes averaged over masks",
    "mask_sum": "prototypes summed over masks",
    "saliency_logit": "prototypes weighted by saliency logits",
}
_ALGORITHMS = {"kmeans": "k-means", "faiss": "k-means (faiss)", "minibatch": "mini-batch k-means"}
_MATCHING = {
    "hungarian": "one-to-one matching on IoU",
    "hungarian_counts": "one-to-one matching on pixel counts",
    "majority": "many-to-one by precision",
}
_DECODERS = {"linear": "1x1 convolution", "deeplabv3": "DeepLabV3", "unet": "U-Net"}


def describe(protocol: NamedProtocol, foreground: Foreground | None, *, has_decoder: bool) -> str:
    """Return the protocol in words.

    Args:
        protocol: with the settings that it runs with.
        foreground: where masks come from, which decides how prototypes are weighted.
        has_decoder: the encoder is a run, whose decoder's features linear probes take.
    """
    features = "decoder features" if has_decoder else "the encoder's features"
    match protocol:
        case ClusterProtocol():
            return _of_clusters(protocol, foreground)
        case PixelProtocol():
            return _of_pixels(protocol)
        case LinearProtocol():
            return _of_probe(protocol, features)
        case NeighbourProtocol():
            return _of_transfer(protocol)
        case RetrievalProtocol():
            return f"{protocol.description}, {_size(protocol.image_size_px)}"
        case FinetuneRun():
            return _of_finetuning(protocol)


def _of_clusters(protocol: ClusterProtocol, foreground: Foreground | None) -> str:
    is_pixelwise = foreground == "all"
    pooling = "all pixels" if is_pixelwise else _WEIGHTINGS[mask_weighting(protocol, foreground or "masks")]
    starts = f"{protocol.num_initialisations} start{'s' if protocol.num_initialisations > 1 else ''}"
    algorithm = _ALGORITHMS.get(protocol.algorithm, protocol.algorithm)
    parts = [pooling, _size(protocol.image_size_px), *_projection(protocol), f"{algorithm} with {starts}"]
    return ", ".join(parts)


def _of_pixels(protocol: PixelProtocol) -> str:
    clusters = protocol.clusters
    crop = " centre crop" if protocol.framing == "crop" else ""
    number = "as many clusters as classes" if protocol.num_clusters is None else f"{protocol.num_clusters} clusters"
    rule = _MATCHING[protocol.match]
    if protocol.match_equal != protocol.match:
        rule += f" ({_MATCHING[protocol.match_equal]} where there are as many clusters as classes)"
    parts = [
        f"all pixels, {_size(clusters.image_size_px)}{crop}",
        *(["standardised"] if protocol.is_standardised else []),
        *_projection(clusters),
        f"{clusters.description}, {number}, {rule}",
        f"scored at {_size(protocol.label_size_px)}",
    ]
    return ", ".join(parts)


def _of_probe(protocol: LinearProtocol, features: str) -> str:
    size = _size(protocol.image_size_px)
    match protocol.settings:
        case ExactLinearSettings() as how:
            return f"logistic regression on the cells of cached {features}, {size}, {_exact(how)}"
        case LinearScheduleSettings() as how:
            images = "augmented images" if how.augmentation else "cached features without augmentation"
            return f"1x1 convolution on {features}, {size}, SGD {how.epochs} epochs on {images}, last epoch"


def _of_transfer(protocol: NeighbourProtocol) -> str:
    how = protocol.settings
    void = ", ignored pixels as background" if how.void == "background" else ""
    return (
        f"{how.num_neighbours} nearest of at most {how.memory_size:,} training patches, attention at temperature "
        f"{how.temperature:g}{void}, {_size(protocol.image_size_px)}"
    )


def _of_finetuning(protocol: FinetuneRun) -> str:
    how, decoder = protocol.settings, _DECODERS[protocol.settings.decoder]
    if trains_encoder(how):
        encoder = "encoder" if how.trained_stages < 0 else f"the encoder's last {how.trained_stages} stages"
        learned = f"{decoder} and {encoder} trained together, rates falling by stage"
    else:
        learned = f"{decoder} trained on a frozen encoder"
    return f"{learned}, views of {_size((how.size_px, how.size_px))}, epochs: {how.epochs}, the last one used"


def _projection(protocol: ClusterProtocol) -> list[str]:
    parts = ["unit length"] if protocol.is_input_normalised else []
    if protocol.pca_dim is not None:
        parts.append(f"PCA {protocol.pca_dim} {'whitened' if protocol.is_whitened else 'not whitened'}")
    return [*parts, "unit length"] if protocol.is_projection_normalised else parts


def _exact(how: ExactLinearSettings) -> str:
    if len(how.strengths) == 1:
        penalty = f"penalty {how.strengths[0]:g} as given"
    else:
        penalty = f"penalty chosen on one of every {how.held_out_every} training images"
    return f"{penalty}, solved to a gradient of {how.tolerance:g} in at most {how.max_passes} passes"


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]}x{size_px[1]}"
