"""The class selection: text, lists, one number, nothing, and what is refused."""

import numpy as np
import pytest

from densessl.commands.classes import ClassSelection, parse_classes
from densessl.errors import InputError


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("0,8,10", (0, 8, 10)),
        (" 0, 8 ,10", (0, 8, 10)),
        ("8", (8,)),
        (8, (8,)),
        ([0, 8], (0, 8)),
        ((0, 8), (0, 8)),
        ([], ()),
        (np.array([0, 8]), (0, 8)),
        (["0", "8"], (0, 8)),
        (None, None),
    ],
)
def test_class_selections(classes: ClassSelection, expected: tuple[int, ...] | None) -> None:
    assert parse_classes(classes) == expected


@pytest.mark.parametrize("classes", ["0,x", "0;8", "0,,8", "", "0.5", "true"])
def test_what_is_not_a_list_of_indices_is_refused(classes: str) -> None:
    with pytest.raises(InputError, match=f"classes '{classes}' is not a list of class indices such as 0,8,10"):
        parse_classes(classes)


@pytest.mark.parametrize("classes", [[8.9], [None], ["8.9"], [[1]]])
def test_numbers_that_are_no_indices_are_refused(classes: object) -> None:
    with pytest.raises(InputError, match="is not a list of class indices such as 0,8,10"):
        parse_classes(classes)  # type: ignore[arg-type]
