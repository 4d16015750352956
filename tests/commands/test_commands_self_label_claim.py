"""What a folder of `self_label` was begun with: recorded, compared, refused with both values."""

from pathlib import Path

import pytest
from tiny_runs import draw_folder

from densessl.commands.self_label_claim import claim, fingerprint
from densessl.data.image_folder import open_image_folder
from densessl.data.masks import open_mask_folder
from densessl.errors import InputError

NOW = {"clusters": {"seed": 0, "num_clusters": 7}, "self_labelling": {"epochs": 2}}


def test_a_folder_is_claimed_once_and_resumed_on_request(tmp_path: Path) -> None:
    claim(tmp_path, NOW, resume=True)
    claim(tmp_path, NOW, resume=True)
    with pytest.raises(InputError, match="was already begun; add --resume true"):
        claim(tmp_path, NOW, resume=False)


def test_differences_are_named_with_both_values(tmp_path: Path) -> None:
    claim(tmp_path, NOW, resume=False)
    other = {"clusters": {"seed": 1, "num_clusters": 7}, "self_labelling": {"epochs": 3}}
    message = r"\(clusters.seed 0 there, 1 now; self_labelling.epochs 2 there, 3 now\)"
    with pytest.raises(InputError, match=message):
        claim(tmp_path, other, resume=True)


@pytest.mark.parametrize(("content", "message"), [("{", "not valid JSON"), ("[]", "no settings of"), ("{}", "no sett")])
def test_a_damaged_record(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "self_label.json").write_text(content)
    with pytest.raises(InputError, match=message):
        claim(tmp_path, NOW, resume=True)


def test_images_count_by_name_and_masks_by_content(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path, 3)
    images = open_image_folder(folder.images).images
    masks = open_mask_folder(folder.masks, images)
    before = fingerprint(images, masks)
    assert before["number"] == 3
    assert fingerprint(images[:2])["names_sha256"] != before["names_sha256"]
    (folder.masks / "soft").mkdir()
    (folder.masks / "soft" / "0.png").write_bytes(b"soft")
    with_soft = fingerprint(images, masks)
    assert with_soft["names_sha256"] == before["names_sha256"]
    assert with_soft["masks_sha256"] != before["masks_sha256"]
