"""Score a file of mask proposals (COCO layout) against the objects of an image set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.data.coco_segments import SegmentError, segment_to_mask
from densessl.errors import InputError
from densessl.evaluation.label_map_folders import first_few
from densessl.evaluation.saliency_instances import InstanceSource
from densessl.evaluation.saliency_overlap import Candidates, ProposalScores, make_candidates, score_proposals
from densessl.files import read_json
from densessl.structures import ImageRef, MaskArray

_EXPECTED = "proposals in the COCO layout, as `densessl saliency` writes them (proposals.json)"


@dataclass(frozen=True)
class ProposalFile:
    """The proposals of each image by stem, as they stand in the file: (segmentation, score) pairs and the size."""

    path: Path
    sizes: Mapping[str, tuple[int, int]]
    proposals: Mapping[str, Sequence[tuple[Any, float]]]


def read_proposal_file(path: Path) -> ProposalFile:
    """Read a file of proposals: `images` with `stem` (or `file_name`), `height` and `width`, and `annotations` with
    `segmentation` and `score`.

    Masks are checked when they are used. Raises `MissingInputError` where there is no file, `InputError` where it is
    broken, an image stands there twice, or a score is no finite number.
    """
    content = read_json(path, _EXPECTED)
    sizes: dict[str, tuple[int, int]] = {}
    proposals: dict[str, list[tuple[Any, float]]] = {}
    stems: dict[Any, str] = {}
    try:
        for image in content["images"]:
            stem = _stem(image)
            if stem in sizes:
                raise InputError(f"{path} lists image {stem} twice; list every image once")
            stems[image["id"]] = stem
            sizes[stem] = (int(image["height"]), int(image["width"]))
            proposals[stem] = []
        for annotation in content["annotations"]:
            score = float(annotation["score"])
            if not np.isfinite(score):
                raise InputError(f"{path} holds the score {score}; scores must be finite numbers")
            proposals[stems[annotation["image_id"]]].append((annotation["segmentation"], score))
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} lacks a part ({type(error).__name__}: {error}); expected {_EXPECTED}") from error
    return ProposalFile(path, sizes, proposals)


def score_proposal_file(file: ProposalFile, images: Sequence[ImageRef], source: InstanceSource) -> ProposalScores:
    """Score the proposals of the given images against their objects.

    An image that the file does not list has no proposals, as those that `densessl saliency` rejected. Raises
    `InputError` where it lists none of the images, where sizes differ, and for a broken mask; all name the image.
    """
    if not any(ref.stem in file.sizes for ref in images):
        raise InputError(
            f"{file.path} lists none of the {len(images)} images: it holds {first_few(list(file.sizes)) or 'none'}, "
            f"the labels {first_few([ref.stem for ref in images])}; give the proposals of these images"
        )
    return score_proposals(_candidates(file, images, source))


def _candidates(file: ProposalFile, images: Sequence[ImageRef], source: InstanceSource) -> Iterator[Candidates]:
    for ref in images:
        instances = source.read(ref)
        size = instances.ignored.shape
        if file.sizes.get(ref.stem, size) != size:
            height, width = file.sizes[ref.stem]
            raise InputError(
                f"image {ref.stem}: its proposals in {file.path} are for {height}x{width} and its label is "
                f"{size[0]}x{size[1]} (height x width); make proposals and labels at the same size"
            )
        stored = file.proposals.get(ref.stem, ())
        masks = [_decode(file, ref, segmentation, instances.ignored) for segmentation, _ in stored]
        yield make_candidates(masks, [score for _, score in stored], instances.masks, instances.ignored)


def _decode(file: ProposalFile, ref: ImageRef, segmentation: Any, like: NDArray[np.bool_]) -> MaskArray:
    try:
        return segment_to_mask(segmentation, like.shape[0], like.shape[1])
    except SegmentError as error:
        raise InputError(f"a proposal of image {ref.stem} in {file.path} has {error}; write the file anew") from error


def _stem(image: Any) -> str:
    if "stem" in image:
        return str(image["stem"])
    return PurePosixPath(image["file_name"]).with_suffix("").as_posix()
