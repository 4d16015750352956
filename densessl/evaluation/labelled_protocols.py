"""Named protocols that use labels: linear probes, dense nearest neighbours, retrieval."""

from dataclasses import dataclass
from typing import Literal

from densessl.errors import InputError, check_at_least


@dataclass(frozen=True)
class LinearScheduleSettings:
    """How a 1x1 convolution on frozen features is trained by stochastic gradient descent; defaults as published.

    Args:
        epochs: passes over the images; the weights of the last one are used.
        batch_size: images per step; an epoch's last incomplete batch is dropped.
        learning_rate: of the epochs up to and with `decay_after`.
        decay_after: the epoch, counted from 0, after which the rate is multiplied by `decay`.
        decay: factor on the rate.
        momentum: of the gradient.
        weight_decay: L2 penalty on weights and bias.
        initial_deviation: standard deviation of the normal distribution that the first weights are drawn from.
        augmentation: as published, every epoch flips, turns and scales the training images anew and encodes them again,
            which takes a forward pass of all images each epoch. false trains on features computed once, without
            augmentation: far faster, and another number.
    """

    epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 0.1
    decay_after: int = 25
    decay: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    initial_deviation: float = 0.01
    augmentation: bool = True

    def __post_init__(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "decay_after": 0, "weight_decay": 0, "initial_deviation": 0}
        check_at_least("linear", self, at_least)
        if not self.learning_rate > 0:
            raise InputError(f"linear.learning_rate is {self.learning_rate}; it must be positive")
        for name in ("decay", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"linear.{name} is {getattr(self, name)}; it lies in [0, 1]")


@dataclass(frozen=True)
class ExactLinearSettings:
    """How multinomial logistic regression on the cells of cached features is solved.

    Args:
        strengths: of the L2 penalty, falling. With several, each is fitted without every `held_out_every`-th training
            image, beginning with the strongest, until the cross-entropy on those images rises; the best one is fitted
            again to all images. With one there is nothing to choose.
        held_out_every: a tenth of the training images by default.
        tolerance: the fit has converged where no entry of the gradient of the mean loss exceeds this, in standardised
            features.
        max_passes: the most passes over the data of one fit; one that ends so is said not to have converged.
        history: pairs of steps and gradients that L-BFGS keeps.
        precision: float32, or float64 to compare with other solvers.
    """

    strengths: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out_every: int = 10
    tolerance: float = 3e-5
    max_passes: int = 1000
    history: int = 20
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        check_at_least("exact", self, {"held_out_every": 2, "max_passes": 1, "history": 1})
        if not self.strengths or min(self.strengths) < 0 or list(self.strengths) != sorted(self.strengths)[::-1]:
            raise InputError(f"exact.strengths are {list(self.strengths)}; give one or several, falling, none below 0")
        if not self.tolerance > 0:
            raise InputError(f"exact.tolerance is {self.tolerance}; it must be positive")


@dataclass(frozen=True)
class HummingbirdSettings:
    """How labels are transferred from a memory of patches.

    Args:
        memory_size: the most patches in memory. Published for 102,400, 1,024,000 and 10,240,000.
        num_neighbours: patches of the memory that each patch attends to.
        temperature: of the softmax over their cosines.
        void: what becomes of ignored pixels in the memory: left_out (a patch's histogram is that of its labelled
            pixels, and a patch without any is not kept) or background (class 0, as the published code has it).
        rows_at_once: patches of the memory that are compared at a time, which bounds working memory.
    """

    memory_size: int = 102_400
    num_neighbours: int = 30
    temperature: float = 0.02
    void: Literal["left_out", "background"] = "left_out"
    rows_at_once: int = 16_384

    def __post_init__(self) -> None:
        check_at_least("hummingbird", self, {"memory_size": 1, "num_neighbours": 1, "rows_at_once": 1})
        if not self.temperature > 0:
            raise InputError(f"hummingbird.temperature is {self.temperature}; it must be positive")


@dataclass(frozen=True)
class LinearProtocol:
    """A linear probe: image size (height, width) before the encoder, which features, and how it is fitted.

    The description holds what no setting changes, as in the other protocols here.
    """

    name: str
    description: str
    source: str
    image_size_px: tuple[int, int]
    feature_map: str
    settings: LinearScheduleSettings | ExactLinearSettings


@dataclass(frozen=True)
class NeighbourProtocol:
    """Dense nearest neighbours: image size before the encoder, and how labels are transferred."""

    name: str
    description: str
    source: str
    image_size_px: tuple[int, int]
    settings: HummingbirdSettings


@dataclass(frozen=True)
class RetrievalProtocol:
    """Retrieval of mask classes.

    train_split: whose images make the bank. classes: the foreground classes that count, None for all; pixels of the
    others are ignored. has_background: the background's IoU takes part in the mean.
    """

    name: str
    description: str
    source: str
    image_size_px: tuple[int, int]
    train_split: str
    classes: tuple[int, ...] | None
    has_background: bool


@dataclass(frozen=True)
class FinetuneProtocol:
    """Fine-tuning: the size (height, width) of training views; `FinetuneSettings` of `training` holds the rest."""

    name: str
    description: str
    source: str
    image_size_px: tuple[int, int]


LabelledProtocol = LinearProtocol | NeighbourProtocol | RetrievalProtocol | FinetuneProtocol

_MASKCONTRAST = "Van Gansbeke et al., ICCV 2021, arXiv:2102.06191, published evaluation"

LINEAR = LinearProtocol(
    name="linear",
    description="1x1 convolution on frozen features",
    source=_MASKCONTRAST,
    image_size_px=(512, 512),
    feature_map="decoder",
    settings=LinearScheduleSettings(),
)


LINEAR_EXACT = LinearProtocol(
    name="linear_exact",
    description="logistic regression on the cells of cached features",
    source="densessl; docs/protocols.md says what differs from the published schedule",
    image_size_px=(512, 512),
    feature_map="decoder",
    settings=ExactLinearSettings(),
)

HUMMINGBIRD = NeighbourProtocol(
    name="hummingbird",
    description="labels of the nearest patches in a memory of training patches",
    source="Balazevic et al., NeurIPS 2023, arXiv:2306.01667; Pariza et al., open-hummingbird-eval, 2024",
    image_size_px=(512, 512),
    settings=HummingbirdSettings(),
)

RETRIEVAL_21 = RetrievalProtocol(
    name="retrieval",
    description="nearest training prototype by cosine, painted on the predicted mask, all classes and background",
    source=_MASKCONTRAST,
    image_size_px=(512, 512),
    train_split="train",
    classes=None,
    has_background=True,
)

RETRIEVAL_7 = RetrievalProtocol(
    name="retrieval_7",
    description="nearest training prototype by cosine, painted on the predicted mask, aeroplane, bottle, bus, car, "
    "cat, cow and person without the background",
    source=_MASKCONTRAST,
    image_size_px=(512, 512),
    train_split="train",
    classes=(1, 5, 6, 7, 8, 10, 15),
    has_background=False,
)

FINETUNE = FinetuneProtocol(
    name="finetune",
    description="encoder and decoder trained with labels",
    source="densessl; layer-wise rates as in BEiT, Bao et al., ICLR 2022, arXiv:2106.08254",
    image_size_px=(320, 320),
)


def labelled_protocol_by_name(name: str) -> LabelledProtocol:
    """Return the protocol of that name; raises `InputError` for an unknown one."""
    match name:
        case "linear":
            return LINEAR
        case "linear_exact":
            return LINEAR_EXACT
        case "hummingbird":
            return HUMMINGBIRD
        case "retrieval":
            return RETRIEVAL_21
        case "retrieval_7":
            return RETRIEVAL_7
        case "finetune":
            return FINETUNE
    raise InputError(
        f"protocol {name!r} is unknown; choose linear, linear_exact, hummingbird, retrieval, retrieval_7 or finetune"
    )
