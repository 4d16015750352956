"""Pseudo-labels on disk: masks by hand, soft maps beside them, and what a network finds in masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.commands.self_label_pseudo_labels import (
    LabelledMasks,
    Teacher,
    read_selection,
    write_labels_of_masks,
)
from densessl.data.label_maps import read_label_map
from densessl.data.masks import open_mask_folder
from densessl.errors import InputError
from densessl.structures import IGNORE, ImageRef
from densessl.training.self_labelling import SelfLabellingSettings


def _teacher(folder: Path, masks: dict[str, np.ndarray], num_clusters: int, **settings: float) -> Teacher:
    (folder / "masks").mkdir(parents=True)
    images = []
    for stem, values in masks.items():
        Image.fromarray(values.astype(np.uint8)).save(folder / "masks" / f"{stem}.png")
        images.append(ImageRef(stem, folder / f"{stem}.jpg"))
    chosen = SelfLabellingSettings(**settings)  # type: ignore[arg-type]
    return Teacher(folder / "out", tuple(images), open_mask_folder(folder, images), num_clusters, chosen)


def _labelled(teacher: Teacher, clusters: list[list[int]], confidences: list[list[float]]) -> list[LabelledMasks]:
    return [
        LabelledMasks(ref, np.array(own, dtype=np.int64), np.array(sure))
        for ref, own, sure in zip(teacher.images, clusters, confidences, strict=True)
    ]


def test_masks_are_chosen_one_by_one(tmp_path: Path) -> None:
    instances = np.array([[0, 1], [2, 3]])
    teacher = _teacher(tmp_path, dict.fromkeys("abc", instances), 2, kept_share=0.5, band_px=0)
    clusters = [[0, 0, 1], [0, 0, -1], [0, 1, 1]]
    confidences = [[0.9, 0.1, 0.2], [0.3, 0.8, 0.9], [0.7, 0.6, 0.5]]
    write_labels_of_masks(teacher, 1, _labelled(teacher, clusters, confidences), "clusters")
    # cluster 0 keeps two of five (a1, b2), cluster 1 two of three (c2, c3)
    labels = teacher.folder(1) / "pseudo_labels"
    assert read_label_map(labels / "a.png").tolist() == [[0, 1], [IGNORE, IGNORE]]
    assert read_label_map(labels / "b.png").tolist() == [[0, IGNORE], [1, IGNORE]]
    assert read_label_map(labels / "c.png").tolist() == [[0, IGNORE], [2, 2]]
    content = json.loads((teacher.folder(1) / "selection.json").read_text())
    assert content["classes"] == [{"class": 1, "found": 5, "kept": 2}, {"class": 2, "found": 3, "kept": 2}]
    assert read_selection(teacher.folder(1))[0]["kept"] == [True, False, False]


def test_a_soft_map_beside_the_mask_says_what_is_unsure(tmp_path: Path) -> None:
    teacher = _teacher(tmp_path, {"a": np.array([[0, 0, 255, 255]])}, 1, unsure=0.1, band_px=1)
    found = _labelled(teacher, [[0]], [[1.0]])
    write_labels_of_masks(teacher, 1, found, "clusters")
    written = teacher.folder(1) / "pseudo_labels" / "a.png"
    assert read_label_map(written).tolist() == [[0, IGNORE, IGNORE, 1]]  # a band, where there is none
    (tmp_path / "soft").mkdir()
    Image.fromarray(np.array([[0, 100, 140, 160]], np.uint8)).save(tmp_path / "soft" / "a.png")
    write_labels_of_masks(teacher, 1, found, "clusters")
    assert read_label_map(written).tolist() == [[0, 0, IGNORE, 1]]  # 0.39, 0.55, 0.63
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "soft" / "a.png")
    with pytest.raises(InputError, match=r"soft map of image 'a' .* is \(2, 2\), its mask \(1, 4\)"):
        write_labels_of_masks(teacher, 1, found, "clusters")


def test_too_few_images(tmp_path: Path) -> None:
    teacher = _teacher(tmp_path, {"a": np.array([[0, 1, 2]]), "b": np.array([[0, 1, 0]])}, 3)
    found = _labelled(teacher, [[0, 1], [2]], [[1.0, 1.0], [1.0]])
    with pytest.raises(InputError, match="round 1: 2 confident images cannot teach 3 clusters"):
        write_labels_of_masks(teacher, 1, found, "clusters")
    assert not teacher.has_labels(1)


def test_a_class_without_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {stem: np.array([[0, 1]]) for stem in "abc"}
    teacher = _teacher(tmp_path, masks, 3, kept_share=1.0)
    write_labels_of_masks(teacher, 2, _labelled(teacher, [[0], [2], [0]], [[1.0]] * 3), "network of round 1")
    assert "round 2: no image was found for class 2, which this round will not learn" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", '{"images": [{"stem": "a"}]}'])
def test_a_damaged_selection(content: str, tmp_path: Path) -> None:
    (tmp_path / "selection.json").write_text(content)
    with pytest.raises(InputError, match="holds no selection of images"):
        read_selection(tmp_path)
