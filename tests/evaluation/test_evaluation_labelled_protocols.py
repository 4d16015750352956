"""Labelled protocols: found by their names, each with a description and a source, and a page in the docs."""

from pathlib import Path

import pytest

from densessl.errors import InputError
from densessl.evaluation.labelled_protocols import FINETUNE, RETRIEVAL_7, labelled_protocol_by_name
from densessl.training.finetuning import FinetuneSettings

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"


@pytest.mark.parametrize("name", ["linear", "linear_exact", "hummingbird", "retrieval", "retrieval_7", "finetune"])
def test_each_has_a_name_a_source_and_a_page(name: str) -> None:
    protocol = labelled_protocol_by_name(name)
    assert protocol.name == name
    assert protocol.description
    assert protocol.source
    headings = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("### ")]
    assert any(f"`{name}`" in heading for heading in headings)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"protocol 'knn' is unknown; choose linear, linear_exact, hummingbird"):
        labelled_protocol_by_name("knn")


def test_numbers_of_the_published_protocols() -> None:
    assert RETRIEVAL_7.classes == (1, 5, 6, 7, 8, 10, 15)
    assert FINETUNE.image_size_px == (FinetuneSettings().size_px,) * 2
