"""Counting labels under masks once, and scoring many clusterings from the counts."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.cluster_scores import confusion_of_clusters, mask_label_counts, score_repeatedly
from densessl.evaluation.confusion import confusion_matrix
from densessl.evaluation.scores import scores_from_confusion
from densessl.evaluation.segmentation import paint
from densessl.structures import IGNORE


def _scene(seed: int, num_masks: int, size: tuple[int, int] = (9, 14)):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, size)
    labels[generator.random(size) < 0.1] = IGNORE
    return labels, generator.integers(0, num_masks + 1, size)


@pytest.mark.parametrize("seed", range(4))
def test_counts_by_cluster_equal_painting_and_counting(seed: int) -> None:
    num_masks = [3, 1, 0, 5]
    scenes = [_scene(10 * seed + index, num, (9, 14 + index)) for index, num in enumerate(num_masks)]
    generator = np.random.default_rng(seed)
    ids = [generator.integers(-1, 6, num) for num in num_masks]  # several masks may share a cluster, -1 is background
    counts = [mask_label_counts(labels, instances, "a") for labels, instances in scenes]
    expected = sum(
        confusion_matrix(labels, paint(instances, own.tolist()), IGNORE, 7)
        for (labels, instances), own in zip(scenes, ids, strict=True)
    )
    assert np.array_equal(confusion_of_clusters(counts, ids, 7), expected)


def test_counts_by_hand() -> None:
    labels = np.array([[0, 0, 2], [2, IGNORE, 2]])
    instances = np.array([[0, 1, 1], [0, 1, 2]])
    counts = mask_label_counts(labels, instances, "a")
    assert counts.shape == (IGNORE, 3)
    assert counts[0].tolist() == [1, 1, 0]
    assert counts[2].tolist() == [1, 1, 1]
    assert counts.sum() == 5
    total = confusion_of_clusters([counts], [np.array([4, -1])], 6)
    assert total[2].tolist() == [2, 0, 0, 0, 0, 1]  # mask 2 has no cluster and counts as background


def test_the_last_masks_may_be_missing_from_the_map() -> None:
    labels = np.zeros((2, 2), dtype=np.int64)
    counts = mask_label_counts(labels, np.array([[0, 1], [0, 1]]), "a")
    total = confusion_of_clusters([counts], [np.array([0, 1, 1])], 3)
    assert total[0].tolist() == [2, 2, 0]


def test_sizes_must_agree() -> None:
    with pytest.raises(InputError, match=r"image 'cats/1' has a label map of \(2, 3\) and masks of \(3, 2\)"):
        mask_label_counts(np.zeros((2, 3), dtype=np.int64), np.zeros((3, 2), dtype=np.int64), "cats/1")


def test_scores_over_seeds() -> None:
    confusions = [np.zeros((IGNORE, 2), dtype=np.int64) for _ in range(2)]
    confusions[0][:2] = [[6, 0], [0, 4]]
    confusions[1][:2] = [[6, 0], [2, 2]]
    repeated = score_repeatedly(confusions, 3, "hungarian", (0, 1))
    each = [scores_from_confusion(confusion, 3, "hungarian", (0, 1)) for confusion in confusions]
    assert [scores.miou for scores in repeated.per_seed] == [scores.miou for scores in each]
    second = (6 / 8 + 2 / 4) / 2
    assert repeated.miou == pytest.approx((1 + second) / 2)
    assert repeated.miou_std == pytest.approx(abs(1 - second) / 2**0.5)
    assert repeated.iou == pytest.approx(((1 + 0.75) / 2, (1 + 0.5) / 2))
    record = repeated.to_json()
    assert record["miou_per_seed"] == pytest.approx([1, second])
    assert record["pixel_accuracy"] == pytest.approx((1 + 0.8) / 2)
    assert record["mean_accuracy"] == pytest.approx((1 + (1 + 2 / 4) / 2) / 2)
    assert record["frequency_weighted_iou"] == pytest.approx((1 + (6 * 6 / 8 + 4 * 2 / 4) / 10) / 2)
    for key in ("adjusted_rand_index", "normalised_mutual_information"):
        assert record[key] == pytest.approx(np.mean([getattr(scores, key) for scores in each]))
    assert score_repeatedly(confusions[:1], 3, "hungarian", (0, 1)).miou_std == 0.0
