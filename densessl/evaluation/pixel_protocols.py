"""Protocols that cluster every pixel: named choices from the features of images to label maps of one size."""

from dataclasses import dataclass, replace
from typing import Literal

from densessl.errors import InputError, check_at_least
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.protocols import ClusterProtocol


@dataclass(frozen=True)
class PixelProtocol:
    """How dense features of images are clustered, painted and matched.

    name, description, source: what to print beside a score; what settings change is not in the description.
    framing: how images and labels come to `clusters.image_size_px`: `stretch` (anisotropic) or `crop` (the shorter
        side to the size, then the centre).
    clusters: the algorithm and the projection before it; its weighting is not used.
    is_standardised: each dimension is divided by its standard deviation before the PCA.
    fitted_on: the images that clusters are fitted to, `train` or `scored`.
    vectors_per_cluster: k-means is fitted to a random sample of that many vectors for each cluster; None for all.
    num_clusters: None for as many as there are classes.
    upsampling: `similarities` (those of clusters are brought to the label maps' size bilinearly, and the highest wins)
        or `labels` (the clusters of the grid, by nearest neighbour).
    label_size_px: height and width at which pixels are scored.
    match: the rule where the numbers of clusters and classes differ. match_equal: where they are the same.
    num_seeds: published repetitions; the score is their mean.
    """

    name: str
    description: str
    source: str
    framing: Literal["stretch", "crop"]
    clusters: ClusterProtocol
    is_standardised: bool
    fitted_on: Literal["train", "scored"]
    vectors_per_cluster: int | None
    num_clusters: int | None
    upsampling: Literal["similarities", "labels"]
    label_size_px: tuple[int, int]
    match: MatchRule
    match_equal: MatchRule
    num_seeds: int

    def number_of_clusters(self, num_classes: int, asked: int | None = None) -> int:
        """Return how many clusters are fitted: as asked, else the protocol's own, else one for each class."""
        number = asked or self.num_clusters or num_classes
        if number < 2:
            raise InputError(f"num_clusters is {number}; every pixel is clustered, so ask for at least 2")
        return number

    def match_rule(self, num_clusters: int, num_classes: int) -> MatchRule:
        """Return the rule by which so many clusters are matched with so many classes."""
        return self.match_equal if num_clusters == num_classes else self.match


@dataclass(frozen=True)
class LeopartSettings:
    """What protocol `leopart` leaves open.

    Args:
        num_clusters: how many clusters; published for 500, and for as many as there are classes, background included,
            which are matched one-to-one. Many-to-one, more clusters score higher by themselves.
    """

    num_clusters: int = 500

    def __post_init__(self) -> None:
        check_at_least("leopart", self, {"num_clusters": 2})


_STEGO_SOURCE = "Hamilton et al., ICLR 2022, arXiv:2203.08414, published evaluation"
STEGO320 = PixelProtocol(
    name="stego320",
    description="clusters of all pixels by cosine, fitted to the training split",
    source=_STEGO_SOURCE,
    framing="crop",
    clusters=ClusterProtocol(
        name="stego320",
        description="k-means by cosine over a stream of pixels",
        source=_STEGO_SOURCE,
        image_size_px=(320, 320),
        weighting="mask_mean",
        is_input_normalised=True,
        pca_dim=None,
        is_whitened=False,
        is_projection_normalised=False,
        algorithm="streaming",
        num_initialisations=8,
        num_iterations=2,
    ),
    is_standardised=False,
    fitted_on="train",
    vectors_per_cluster=None,
    num_clusters=None,
    upsampling="similarities",
    label_size_px=(320, 320),
    match="hungarian_counts",
    match_equal="hungarian_counts",
    num_seeds=5,
)

_LEOPART_SOURCE = "Ziegler and Asano, CVPR 2022, arXiv:2204.13101, published evaluation"
LEOPART = PixelProtocol(
    name="leopart",
    description="over-clusters of all pixels of the scored images",
    source=_LEOPART_SOURCE,
    framing="stretch",
    clusters=ClusterProtocol(
        name="leopart",
        description="k-means (faiss), best of 5 starts of 100 iterations on 256 vectors for each cluster",
        source=_LEOPART_SOURCE,
        image_size_px=(448, 448),
        weighting="mask_mean",
        is_input_normalised=False,
        pca_dim=50,
        is_whitened=False,
        is_projection_normalised=False,
        algorithm="faiss",
        num_initialisations=5,
        num_iterations=100,
    ),
    is_standardised=True,
    fitted_on="scored",
    vectors_per_cluster=256,
    num_clusters=LeopartSettings().num_clusters,
    upsampling="labels",
    label_size_px=(100, 100),
    match="majority",
    match_equal="hungarian",
    num_seeds=5,
)


def over_clustered(settings: LeopartSettings) -> PixelProtocol:
    """Return protocol `leopart` with these settings."""
    return replace(LEOPART, num_clusters=settings.num_clusters)
