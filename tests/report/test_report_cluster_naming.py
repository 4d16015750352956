"""Naming clusters on the page: the fields, and the file that the script makes of them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from densessl.data.cluster_names import read_cluster_names
from densessl.report.cluster_naming import NAMING_SCRIPT, name_field, naming_form
from densessl.report.contents import Clustering, ClusterStrip

AWKWARD = ["cat", ' "quoted" \\ ', "3: dog # 1", "true", "- [x]", "Čeština 猫 🐈", "a\u2028b\u0085c\x7f", "", "  "]

PAGE = """
const form = { hidden: true, dataset: DATASET, addEventListener: (_, listener) => { form.submit = listener; } };
const fields = NAMES.map((value, index) => ({ hidden: true, value, dataset: { cluster: String(index) } }));
const link = { click: () => { link.isClicked = true; } };
globalThis.document = {
  getElementById: () => form, querySelectorAll: () => fields, createElement: () => link,
};
URL.createObjectURL = (blob) => { link.blob = blob; return "blob:1"; };
URL.revokeObjectURL = () => {};
globalThis.setTimeout = () => {};
"""
"""As much of a page as the script needs."""

PRESS = """
form.submit({ preventDefault: () => {} });
const isShown = !form.hidden && fields.every((field) => !field.hidden);
link.blob.text().then((text) => console.log(JSON.stringify([isShown && link.isClicked, link.download, text])));
"""


def test_fields_hold_the_names_and_are_hidden_without_script() -> None:
    strips = (ClusterStrip(1, 9, None, (), (), 'a "cat"'), ClusterStrip(0, 2, None, ()))
    form = naming_form(Clustering(3, strips=strips, names={1: "a cat", 2: "not <shown>"}))
    assert 'data-kept="{&quot;2&quot;: &quot;not &lt;shown&gt;&quot;}" hidden=""' in form
    assert "Save names.yaml</button>" in form
    named, unnamed = map(name_field, strips)
    assert 'data-cluster="1" value="a &quot;cat&quot;" aria-label="Name of cluster 1"' in named
    assert 'data-cluster="0" value=""' in unnamed
    assert named.endswith('hidden="">')


def test_the_saved_file_is_read_back(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node executable was found")
    dataset = {"kept": json.dumps({40: "kept"}), "file": "names.yaml"}
    page = PAGE.replace("DATASET", json.dumps(dataset)).replace("NAMES", json.dumps(AWKWARD))
    done = subprocess.run(
        [node, "-e", page + NAMING_SCRIPT + PRESS], capture_output=True, text=True, timeout=60, check=True
    )
    is_shown_and_clicked, name, text = json.loads(done.stdout)
    assert (is_shown_and_clicked, name) == (True, "names.yaml")
    (tmp_path / name).write_text(text, encoding="utf-8")
    expected = {index: " ".join(value.split()) for index, value in enumerate(AWKWARD) if value.strip()}
    assert read_cluster_names(tmp_path, 41) == {**expected, 40: "kept"}
