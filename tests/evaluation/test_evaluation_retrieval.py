"""Retrieval: the published protocol as a slow script, the bank by hand, variants, and what is refused."""

import numpy as np
import pytest
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.confusion import accumulate_confusion
from densessl.evaluation.labelled_features import Classes
from densessl.evaluation.labelled_protocols import RETRIEVAL_7, RETRIEVAL_21, RetrievalProtocol
from densessl.evaluation.retrieval import (
    NO_CLASS,
    MaskVectors,
    averaged_classes,
    build_bank,
    predict_by_retrieval,
    retrieve_classes,
    scored_classes,
)
from densessl.evaluation.scores import averaged_over, scores_from_confusion
from densessl.structures import IGNORE, LabelMap

VOC = Classes(tuple(range(21)), 21)

Images = list[tuple[MaskVectors, LabelMap]]


def draw(num: int, seed: int, size: tuple[int, int] = (9, 11)) -> Images:
    """Images of one mask each, whose vector leans towards the class that fills most of the mask."""
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(21, 8))
    images = []
    for index in range(num):
        mask = np.zeros(size, dtype=np.int64)
        mask[2:7, 2:8] = 1
        labels = np.zeros(size, dtype=np.int64)
        label = int(generator.choice([1, 5, 8, 12, 15]))
        labels[1:6, 3:9] = label
        labels[4, 3:9] = int(generator.choice([2, 7, IGNORE]))
        vector = directions[label] + 1.5 * generator.normal(size=8)
        images.append((MaskVectors(f"{seed}/{index}", vector[None].astype(np.float32), np.array([True]), mask), labels))
    return images


def slow_ious(train: Images, val: Images, ignored: tuple[int, ...]) -> NDArray:
    """The protocol as one slow script: a vote, the nearest neighbour, a painted mask, an IoU for each class."""
    vectors, found = [], []
    for masks, labels in train:
        inside = [
            int(labels[y, x])
            for y, x in zip(*np.nonzero(masks.instances), strict=True)
            if labels[y, x] not in (0, IGNORE, *ignored)
        ]
        if inside:
            vectors.append(masks.vectors[0] / np.linalg.norm(masks.vectors[0]))
            found.append(max((inside.count(label), label) for label in inside)[1])
    right, either = np.zeros(21), np.zeros(21)
    for masks, labels in val:
        query = masks.vectors[0] / np.linalg.norm(masks.vectors[0])
        nearest = max(range(len(vectors)), key=lambda n: float(vectors[n] @ query))
        for y in range(labels.shape[0]):
            for x in range(labels.shape[1]):
                label = int(labels[y, x])
                if label == IGNORE or label in ignored:
                    continue
                predicted = found[nearest] if masks.instances[y, x] else 0
                right[label] += predicted == label
                either[label] += 1
                either[predicted] += predicted != label
    return np.array([r / e if e else np.nan for r, e in zip(right, either, strict=True)])


@pytest.mark.parametrize("protocol", [RETRIEVAL_21, RETRIEVAL_7], ids=lambda p: p.name)
def test_scores_equal_the_slow_script(protocol: RetrievalProtocol) -> None:
    train, val = draw(30, 0), draw(20, 1)
    counted = scored_classes(protocol, VOC)
    bank = build_bank(train, Classes(counted, 21))
    predictions = ((labels, predict_by_retrieval(bank, masks)) for masks, labels in val)
    scores = scores_from_confusion(accumulate_confusion(predictions, 21, 21), len(val), classes=counted)
    expected = slow_ious(train, val, tuple(set(range(21)) - set(counted)))
    by_class = dict(zip(scores.classes, scores.iou, strict=True))
    for label in counted:
        assert (by_class[label] if by_class[label] is not None else np.nan) == pytest.approx(
            expected[label], nan_ok=True
        )
    kept = expected if protocol.has_background else expected[list(counted[1:])]
    averaged = averaged_classes(protocol, counted)
    found = scores if averaged is None else averaged_over(scores, averaged)
    assert found.miou == pytest.approx(np.nanmean(kept))
    assert 0.1 < np.nanmean(kept) < 0.95


def test_the_variants_count_the_published_classes() -> None:
    assert scored_classes(RETRIEVAL_21, VOC) == tuple(range(21))
    assert scored_classes(RETRIEVAL_7, VOC) == (0, 1, 5, 6, 7, 8, 10, 15)
    animals = Classes((0, 8, 10, 12, 13, 15, 17), 21)
    assert scored_classes(RETRIEVAL_7, animals) == (0, 8, 10, 15)
    without = Classes((8, 10, 12), 21)
    assert scored_classes(RETRIEVAL_21, without) == (8, 10, 12)
    assert averaged_classes(RETRIEVAL_7, scored_classes(RETRIEVAL_7, without)) is None
    with pytest.raises(InputError, match=r"protocol retrieval_7 counts classes .* none of which is among \[0, 2\]"):
        scored_classes(RETRIEVAL_7, Classes((0, 2), 21))


def one_mask(vector: list[float], instances: list[list[int]], has: bool = True, stem: str = "a") -> MaskVectors:
    return MaskVectors(stem, np.array([vector], dtype=np.float32), np.array([has]), np.array(instances))


def test_the_bank_by_hand() -> None:
    mask = [[1, 1, 1, 0]]
    images = [
        (one_mask([3, 4], mask, stem="majority"), np.array([[0, 0, 5, 8]])),  # background has no vote
        (one_mask([0, 2], mask, stem="tie"), np.array([[5, 8, IGNORE, 0]])),  # the highest class wins
        (one_mask([1, 0], mask, stem="nothing"), np.array([[0, IGNORE, 3, 8]])),  # class 3 does not count
        (one_mask([0, 0], mask, has=False, stem="empty"), np.array([[5, 5, 5, 5]])),
    ]
    bank = build_bank(images, Classes((0, 5, 8, 10), 21))
    assert bank.classes.tolist() == [5, 8]
    assert bank.stems == ("majority", "tie")
    assert bank.vectors == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))
    assert [(item.stem, item.reason) for item in bank.left_out] == [
        ("nothing", "mask 1 holds no pixel of the classes that count"),
        ("empty", "mask 1 has no prototype"),
    ]
    assert bank.notes == ("classes [10] have no mask in the bank and are never retrieved",)


def test_masks_take_their_own_classes_and_none_is_background() -> None:
    bank = build_bank(
        [(one_mask([1, 0], [[1]]), np.array([[5]])), (one_mask([0, 1], [[1]]), np.array([[8]]))],
        Classes((0, 5, 8), 21),
    )
    masks = MaskVectors(
        "b",
        np.array([[1, 9], [9, 1], [0, 0]], dtype=np.float32),
        np.array([True, True, False]),
        np.array([[0, 1, 2, 3]]),
    )
    assert retrieve_classes(bank, masks).tolist() == [8, 5, NO_CLASS]
    assert predict_by_retrieval(bank, masks).tolist() == [[0, 8, 5, 0]]
    assert predict_by_retrieval(bank, masks, (2, 8)).tolist() == [[0, 0, 8, 8, 5, 5, 0, 0]] * 2
    nothing = MaskVectors("c", np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=bool), np.zeros((2, 2), dtype=int))
    assert predict_by_retrieval(bank, nothing).tolist() == [[0, 0], [0, 0]]


def test_bad_input() -> None:
    good = (one_mask([1, 0], [[1]]), np.array([[5]]))
    classes = Classes((0, 5), 21)
    with pytest.raises(InputError, match=r"no training mask .* \(1 masks were left out\)"):
        build_bank([(one_mask([1, 0], [[1]]), np.array([[0]]))], classes)
    with pytest.raises(InputError, match="a prototype of image 'cats/1' holds NaN"):
        build_bank([good, (one_mask([np.nan, 0], [[1]], stem="cats/1"), np.array([[5]]))], classes)
    with pytest.raises(InputError, match=r"labels of image 'a' have shape \(2, 1\), its masks \(1, 1\)"):
        build_bank([(good[0], np.array([[5], [5]]))], classes)
    with pytest.raises(InputError, match="image 'a' has label 21; labels are 0-20"):
        build_bank([(good[0], np.array([[21]]))], classes)
    with pytest.raises(InputError, match="image 'a' has mask 2, 1 prototypes"):
        build_bank([(one_mask([1, 0], [[2]]), np.array([[5]]))], classes)
    bank = build_bank([good], classes)
    with pytest.raises(InputError, match="prototypes of image 'a' have 3 dimensions, those of the bank 2"):
        retrieve_classes(bank, one_mask([1, 0, 0], [[1]]))
    with pytest.raises(InputError, match="a prototype of image 'a' holds NaN"):
        retrieve_classes(bank, one_mask([np.inf, 0], [[1]]))
