"""The flag `--choose_clusters 2,30` of `cluster`: try numbers of clusters, write the curves, take one."""

from dataclasses import dataclass
from pathlib import Path

from densessl.errors import InputError
from densessl.evaluation.cluster_number import NumberChoice, choose_num_clusters
from densessl.evaluation.cluster_segmentation import fitted_vectors
from densessl.evaluation.extraction import Extraction
from densessl.evaluation.protocols import ClusterProtocol
from densessl.files import write_json
from densessl.report.cluster_number_plot import write_cluster_number_plot

NUMBER_FILES = ("num_clusters.json", "num_clusters.png")


@dataclass(frozen=True)
class ChosenNumber:
    """The choice, and how many clusters besides the fitted ones there are: the background, where it is set apart."""

    choice: NumberChoice
    num_besides: int

    def write(self, out: Path) -> None:
        """Write num_clusters.json and num_clusters.png; numbers there count the background, as --num_clusters does."""
        record = self.choice.to_json()
        besides, scores = self.num_besides, self.choice.scores
        for item in record["scores"]:
            item["num_clusters"] += besides
        record["chosen"] += besides
        if record["highest_silhouette"] is not None:
            record["highest_silhouette"] += besides
        record["counts_background"] = besides > 0
        write_json(out / NUMBER_FILES[0], record)
        write_cluster_number_plot(
            out / NUMBER_FILES[1],
            [score.num_clusters + besides for score in scores],
            [score.stability for score in scores],
            [score.stability_std for score in scores],
            [score.silhouette for score in scores],
            record["chosen"],
        )


def parse_range(text: str | None, num_clusters: int | None) -> tuple[int, int] | None:
    """Turn `2,30` into (2, 30); raises `InputError` for what is no range, and beside a given number of clusters."""
    if text is None:
        return None
    if num_clusters is not None:
        raise InputError(f"num_clusters {num_clusters} and choose_clusters {text} exclude each other; give one of them")
    try:
        low, high = (int(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(
            f"choose_clusters {text!r} is not a range; write the least and the most, as in 2,30"
        ) from error
    if not 2 <= low < high:
        raise InputError(f"choose_clusters {text} must go from at least 2 to a larger number, as in 2,30")
    return low, high


def choose_number(
    bounds: tuple[int, int], extraction: Extraction, protocol: ClusterProtocol, seed: int
) -> ChosenNumber:
    """Choose the number of fitted clusters; the bounds count the background where masks set it apart."""
    besides = int(not extraction.is_pixelwise)
    numbers = [number - besides for number in range(bounds[0], bounds[1] + 1) if number - besides >= 2]
    if not numbers:
        raise InputError(
            f"choose_clusters {bounds[0]},{bounds[1]} counts the background, which leaves fewer than 2; raise the most"
        )
    return ChosenNumber(choose_num_clusters(fitted_vectors(extraction), numbers, protocol, seed), besides)
