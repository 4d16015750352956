"""Named clustering protocols: every choice between features and clusters that moves a score."""

from dataclasses import dataclass, replace
from typing import Literal

from densessl.errors import InputError

Weighting = Literal["mask_mean", "mask_sum", "saliency_logit"]
Algorithm = Literal["kmeans", "faiss", "minibatch", "fast", "streaming", "spherical", "spectral", "agglomerative"]


@dataclass(frozen=True)
class ClusterProtocol:
    """How masks become prototypes and prototypes become clusters.

    name, description, source: what to print beside a score; what settings change is not in the description.
    image_size_px: images are resized to this height and width (anisotropically) before the encoder.
    weighting: how a mask pools features, see `densessl.evaluation.prototypes.pool_prototypes`.
    is_input_normalised: prototypes are L2-normalised before the PCA.
    pca_dim: dimensions kept by the PCA; None for no PCA.
    is_whitened: the PCA divides each kept direction by its standard deviation.
    is_projection_normalised: vectors are L2-normalised after the PCA.
    algorithm: `kmeans` (Lloyd from k-means++, scikit-learn), `faiss` (Lloyd from random points, faiss),
        `minibatch` (MiniBatchKMeans, scikit-learn), `fast` (Lloyd from the best of starts on samples, for millions of
        vectors), `streaming` (mini-batch k-means that never holds the data set), `spherical` (by cosine), `spectral`
        (k-nearest-neighbour graph) or `agglomerative` (Ward merging of over-clusters).
    num_initialisations: starts, of which the one with the lowest inertia is kept (`minibatch`: the lowest on a sample,
        before its batches).
    num_iterations: the most passes over the data per start.
    batch_size: vectors per step of `minibatch`; the others do not use it.
    """

    name: str
    description: str
    source: str
    image_size_px: tuple[int, int]
    weighting: Weighting
    is_input_normalised: bool
    pca_dim: int | None
    is_whitened: bool
    is_projection_normalised: bool
    algorithm: Algorithm
    num_initialisations: int
    num_iterations: int
    batch_size: int = 1000


MASKCONTRAST = ClusterProtocol(
    name="maskcontrast",
    description="clusters of one prototype for each mask, as published",
    source="Van Gansbeke et al., ICCV 2021, arXiv:2102.06191, published evaluation",
    image_size_px=(512, 512),
    weighting="saliency_logit",
    is_input_normalised=False,
    pca_dim=32,
    is_whitened=True,
    is_projection_normalised=False,
    algorithm="minibatch",
    num_initialisations=3,
    num_iterations=100,
)

NATIVE = ClusterProtocol(
    name="native",
    description="clusters of one prototype for each mask, stable between seeds",
    source="densessl default; docs/protocols.md says how it was chosen and which scores had been seen",
    image_size_px=(320, 320),
    weighting="mask_sum",
    is_input_normalised=True,
    pca_dim=16,
    is_whitened=False,
    is_projection_normalised=True,
    algorithm="kmeans",
    num_initialisations=50,
    num_iterations=300,
)


def protocol_by_name(name: str, image_size_px: int | None = None) -> ClusterProtocol:
    """Return the protocol of that name, at another image size if one is given.

    Raises `InputError` for an unknown name or a size below 16 pixels.
    """
    match name:
        case "maskcontrast":
            protocol = MASKCONTRAST
        case "native":
            protocol = NATIVE
        case _:
            raise InputError(f"clustering protocol {name!r} is unknown; choose native or maskcontrast")
    if image_size_px is None:
        return protocol
    if image_size_px < 16:
        raise InputError(f"image_size is {image_size_px}; images are clustered at 16 pixels or more (default 320)")
    return replace(protocol, image_size_px=(image_size_px, image_size_px))
