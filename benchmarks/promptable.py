"""Score promptable models by simulated clicks and boxes, as rows.

    python -m benchmarks.promptable objects --data ROOT --split val --weights RUN/network.safetensors --name NAME
    python -m benchmarks.promptable objects --data ROOT --split val --weights FILE --name NAME --refine grabcut
    python -m benchmarks.promptable objects --data ROOT --split val --weights FILE --name NAME --select fitting \
        --mirrored [--first_click anywhere]
    python -m benchmarks.promptable objects --data ROOT --split val --method grabcut
    python -m benchmarks.promptable nested --data NESTED --split val --weights RUN/network.safetensors --name NAME

`objects`: mean IoU over the objects of a split (of VOC the connected regions of the label maps, of COCO the annotated
instances; over 1 % of the image, void and crowds ignored) after 1, 3 and 5 clicks, and for the true box. `nested`:
share of rendered scenes in which the three masks of a click on the subpart are whole, part and subpart, each with an
IoU over 0.8. Rows go to results/promptable.jsonl. Labels are read to prompt and to score; the row says what trained
the model.
"""

import argparse
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.grabcut import grabcut_box, grabcut_clicks
from benchmarks.object_truth import open_truth
from benchmarks.rows import append_row
from densessl.data.images import read_image
from densessl.data.layouts import open_data_set
from densessl.data.object_masks import ChosenObjects, ObjectSettings, open_coco_objects
from densessl.data.worker_pool import in_order
from densessl.evaluation.image_objects import Instances
from densessl.evaluation.nested_masks import nested_match
from densessl.evaluation.simulated_clicks import Click, click_scores, counted_iou, next_click
from densessl.files import file_sha256
from densessl.mask_geometry import object_box
from densessl.promptable.mask_refinement import Refinement
from densessl.promptable.predicted_masks import Selection
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_weights import load_promptable_model
from densessl.structures import ImageArray, ImageRef, MaskArray

NUM_CLICKS = 5
NESTED_IOU = 0.8

FirstClick = Literal["middle", "anywhere"]


class Method(Protocol):
    """Segments an object of the image that was set last."""

    def set_image(self, image: ImageArray) -> None: ...
    def after_clicks(self, clicks: Sequence[Click]) -> MaskArray: ...
    def from_box(self, box: tuple[int, int, int, int]) -> MaskArray: ...


class ModelMethod:
    """A promptable model as it was trained: one of the three masks for a first prompt, then the single mask, fed with
    the one before. refine: of the masks; what is fed is never refined. select: which of the three.
    """

    def __init__(self, predictor: Predictor, refine: Refinement = "none", select: Selection = "best") -> None:
        self._predictor = predictor
        self._refine = refine
        self._select = select
        self._low_resolution: NDArray[np.float32] | None = None

    def set_image(self, image: ImageArray) -> None:
        self._predictor.set_image(image)

    def after_clicks(self, clicks: Sequence[Click]) -> MaskArray:
        points = [[click.x, click.y] for click in clicks]
        labels = [int(click.is_foreground) for click in clicks]
        if len(clicks) == 1:
            found = self._predictor.predict(points, labels, select=self._select, refine=self._refine)
        else:
            found = self._predictor.predict(
                points, labels, mask=self._low_resolution, multimask=False, refine=self._refine
            )
        self._low_resolution = found.low_resolution[0]
        return found.masks[0, 0]

    def from_box(self, box: tuple[int, int, int, int]) -> MaskArray:
        return self._predictor.predict(boxes=box, select=self._select, refine=self._refine).masks[0, 0]


class GrabCutMethod:
    """GrabCut, from the same clicks and boxes."""

    def set_image(self, image: ImageArray) -> None:
        self._image = image

    def after_clicks(self, clicks: Sequence[Click]) -> MaskArray:
        return grabcut_clicks(self._image, clicks)

    def from_box(self, box: tuple[int, int, int, int]) -> MaskArray:
        return grabcut_box(self._image, box)


@dataclass(frozen=True)
class ObjectScore:
    """IoU of one object: after each number of clicks, (NUM_CLICKS,), and from its box."""

    clicks: NDArray[np.float64]
    box: float


def main() -> None:
    """Score one method on one split."""
    arguments = _parse()
    row: dict[str, Any] = {"data": arguments.data.name, "split": arguments.split, "task": arguments.task}
    row |= _method_record(arguments)
    if arguments.first_click != "middle":
        row["first_click"] = arguments.first_click
    if arguments.task == "objects":
        weights = None if arguments.method == "grabcut" else arguments.weights
        scorer = ObjectScorer(
            arguments.data, arguments.split, arguments.num_images, weights, _choice(arguments), arguments.first_click
        )
        row |= score_objects(scorer, arguments.num_workers)
    elif _choice(arguments) != MaskChoice() or arguments.first_click != "middle":
        raise SystemExit("--refine, --select, --mirrored and --first_click are for the task objects; leave them out")
    elif arguments.num_workers:
        raise SystemExit(
            f"--num_workers is {arguments.num_workers}, but nested scenes are scored in this process; leave it out"
        )
    else:
        image_set = open_data_set(arguments.data, arguments.split)
        images = image_set.images[: arguments.num_images]
        annotations = arguments.data / "annotations" / f"instances_{image_set.name}.json"
        row |= score_nested(_predictor(arguments.weights), annotations, images)
    print(append_row(arguments.results, {"benchmark": "promptable", **row}))


@dataclass(frozen=True)
class MaskChoice:
    """refine, select: as `Predictor.predict` takes them. mirrored: as `Predictor` does."""

    refine: Refinement = "none"
    select: Selection = "best"
    mirrored: bool = False

    def record(self) -> dict[str, Any]:
        """Return what is not the default."""
        return {name: value for name, value in asdict(self).items() if value != getattr(MaskChoice, name)}


@dataclass(frozen=True)
class ObjectScorer:
    """Scores the objects of the image at a place of a split; each process that it is sent to opens what it needs.

    num_images: the first ones alone. weights: of a promptable model; GrabCut without. choice: of its masks.
    first_click: middle, as the protocol has it, or anywhere in the object, drawn by the places of image and object.
    """

    data: Path
    split: str
    num_images: int | None
    weights: Path | None
    choice: MaskChoice = MaskChoice()
    first_click: FirstClick = "middle"

    def __call__(self, index: int) -> list[ObjectScore]:
        images, truth_of, method = _opened(self)
        truth = truth_of(images[index])
        method.set_image(read_image(images[index].path))
        return [
            score_object(method, mask, truth.ignored, self._first_click(index, number, mask & ~truth.ignored))
            for number, mask in enumerate(truth.masks)
        ]

    def _first_click(self, image: int, number: int, clickable: MaskArray) -> Click | None:
        if self.first_click == "middle":
            return None
        pixels = np.argwhere(clickable)
        if not len(pixels):
            return None
        y, x = pixels[np.random.default_rng([image, number]).integers(len(pixels))]
        return Click(int(x), int(y), True)


@functools.cache
def _opened(scorer: ObjectScorer) -> tuple[tuple[ImageRef, ...], Callable[[ImageRef], Instances], Method]:
    if parent_process() is not None:  # the processes share the cores
        torch.set_num_threads(1)
    image_set = open_data_set(scorer.data, scorer.split)
    images = image_set.images[: scorer.num_images]
    return images, open_truth(image_set, images), _method(scorer)


def _method(scorer: ObjectScorer) -> Method:
    if scorer.weights is None:
        return GrabCutMethod()
    choice = scorer.choice
    return ModelMethod(_predictor(scorer.weights, choice.mirrored), choice.refine, choice.select)


def score_objects(scorer: ObjectScorer, num_workers: int) -> dict[str, Any]:
    """Return the mean IoU over all objects of the images, with its standard error over images."""
    num_images = len(open_data_set(scorer.data, scorer.split).images[: scorer.num_images])
    by_image = list(in_order(scorer, range(num_images), num_workers))
    scores = [score for scores in by_image for score in scores]
    row: dict[str, Any] = {"num_images": num_images, "num_objects": len(scores)}
    values = {f"click_{count}": [score.clicks[count - 1] for score in scores] for count in (1, 3, 5)}
    values["box"] = [score.box for score in scores]
    counts = [len(scores) for scores in by_image]
    for name, of_objects in values.items():
        row[name] = round(float(np.mean(of_objects)), 4)
        row[f"{name}_error"] = round(_standard_error(np.array(of_objects), counts), 4)
    return row


def score_object(method: Method, mask: MaskArray, ignored: MaskArray, first: Click | None = None) -> ObjectScore:
    """Click on an object NUM_CLICKS times, then give its box. first: in place of the protocol's first click."""
    clicks = click_scores(method.after_clicks, mask, NUM_CLICKS, ignored, first)
    return ObjectScore(clicks, counted_iou(method.from_box(object_box(mask)), mask, ignored))


def score_nested(predictor: Predictor, annotations: Path, images: Sequence[ImageRef]) -> dict[str, Any]:
    """Return in how many scenes the masks of a click on the innermost object are all of its nested objects."""
    objects = ChosenObjects(open_coco_objects(annotations, images), ObjectSettings(min_area=0.0, max_area=1.0))
    matched = [match_scene(predictor, ref, objects) for ref in images]
    hits = [float((iou > NESTED_IOU).all()) for iou in matched]
    names = ("whole", "part", "subpart")
    mean_iou = {name: round(float(np.mean([iou[level] for iou in matched])), 4) for level, name in enumerate(names)}
    return {"num_images": len(images), "all_three": round(statistics.mean(hits), 4), **mean_iou}


def match_scene(predictor: Predictor, ref: ImageRef, objects: ChosenObjects) -> NDArray[np.float64]:
    """Return the IoU of whole, part and subpart with the masks of a click in the middle of the subpart."""
    image = read_image(ref.path)
    nested = objects.read(ref, (image.shape[0], image.shape[1]))  # the largest first
    click = next_click(np.zeros_like(nested[-1]), nested[-1])
    if click is None:
        raise SystemExit(f"image {ref.stem} has no subpart to click on")
    found = predictor.set_image(image).predict([[click.x, click.y]], [1])
    return nested_match(list(found.masks[0]), nested, NESTED_IOU)


def _standard_error(values: NDArray[np.float64], counts: Sequence[int]) -> float:
    """Return the standard error of a mean over objects, images being drawn and not objects (a ratio of sums)."""
    ends = np.cumsum(counts)
    sums = np.array([values[end - count : end].sum() for end, count in zip(ends, counts, strict=True)])
    residuals = sums - values.mean() * np.array(counts)
    return float(np.sqrt((residuals**2).sum() * len(counts) / max(1, len(counts) - 1)) / len(values))


def _predictor(weights: Path, mirrored: bool = False) -> Predictor:
    return Predictor.from_weights(weights, precision="fp32", mirrored=mirrored)


def _method_record(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.method == "grabcut":
        if _choice(arguments) != MaskChoice():
            raise SystemExit(
                "--refine, --select and --mirrored are for a model's masks; leave them out with --method grabcut"
            )
        return {"method": "grabcut", "supervision": "none"}
    if arguments.weights is None or arguments.name is None:
        raise SystemExit("give --weights FILE and --name NAME, or --method grabcut")
    _, report = load_promptable_model(arguments.weights)
    return {
        "method": arguments.name,
        "supervision": report.supervision,
        "weights_sha256": file_sha256(arguments.weights)[:16],
        **_choice(arguments).record(),
        "selection": arguments.selection,
    }


def _choice(arguments: argparse.Namespace) -> MaskChoice:
    return MaskChoice(arguments.refine, arguments.select, arguments.mirrored)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task", choices=("objects", "nested"))
    parser.add_argument("--data", type=Path, required=True, help="VOC or COCO layout")
    parser.add_argument("--split", default="val")
    parser.add_argument("--method", choices=("model", "grabcut"), default="model")
    parser.add_argument("--weights", type=Path, help="any file of a promptable model")
    parser.add_argument("--refine", choices=get_args(Refinement), default="none", help="cut the model's masks anew")
    parser.add_argument("--select", choices=("best", "fitting"), default="best", help="of the masks of a first prompt")
    parser.add_argument("--mirrored", action="store_true", help="average the masks with those of the mirror image")
    parser.add_argument("--first_click", choices=get_args(FirstClick), default="middle", help="where in the object")
    parser.add_argument("--name", help="of the model, in the table")
    parser.add_argument("--selection", default="none: scored once", help="which scores were seen before it was chosen")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that share the images")
    parser.add_argument("--num_images", type=int, help="the first ones alone, to try it")
    parser.add_argument("--results", type=Path, default=Path("results/promptable.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
