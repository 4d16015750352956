"""Names of clusters: what a file may hold, and what it may not."""

from pathlib import Path

import pytest

from densessl.data.cluster_names import read_cluster_names
from densessl.errors import InputError


def read(folder: Path, text: str, num_clusters: int = 4) -> dict[int, str]:
    (folder / "names.yaml").write_text(text, encoding="utf-8")
    return read_cluster_names(folder, num_clusters)


def test_names(tmp_path: Path) -> None:
    assert read_cluster_names(tmp_path, 4) == {}
    assert read(tmp_path, "") == {}
    assert read(tmp_path, "# nothing yet\n") == {}
    assert read(tmp_path, "0: cat\n3: '  große   Katze '\n1: cat\n") == {0: "cat", 3: "große Katze", 1: "cat"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- cat\n", "holds no mapping from cluster id to name; write one line"),
        ("0: [cat\n", "is no valid YAML"),
        ("4: cat\n", "names cluster 4; cluster ids are 0-3"),
        ("-1: cat\n", "names cluster -1"),
        ("'0': cat\n", "names cluster '0'"),
        ("true: cat\n", "names cluster True"),
        ("0: no\n", "gives cluster 0 the name False, which is no text; write it in quotes"),
        ("0: ' '\n", "the name ' ', which is no text"),
        ("0:\n", "gives cluster 0 the name None"),
        ("0: cat\n0: dog\n", "names cluster 0 twice \\('cat' and 'dog'\\); keep one"),
        ("? [1]\n: cat\n", "names cluster \\[1\\]"),
        ("0: !!python/object/apply:os.getcwd []\n", "is no valid YAML"),
    ],
)
def test_unusable_names(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_no_text_at_all(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_bytes(b"0: \xff\xfe\n")
    with pytest.raises(InputError, match="is no valid YAML"):
        read_cluster_names(tmp_path, 4)
