"""The layer rule: imports go downward only, and some libraries stay in their room."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "densessl"

FOUNDATION = {"structures", "errors", "files", "machine", "mask_geometry", "changed_settings", "__version__"}
ALLOWED = {
    "structures": set(),
    "errors": set(),
    "files": {"errors"},
    "machine": set(),
    "changed_settings": set(),
    "mask_geometry": {"structures"},
    "data": FOUNDATION,
    "models": FOUNDATION,
    "objectives": FOUNDATION,
    "saliency": FOUNDATION | {"data", "models", "attention"},
    "training": FOUNDATION | {"data", "models", "objectives", "promptable"},
    "evaluation": FOUNDATION | {"data", "models"},
    "promptable": FOUNDATION | {"data", "models"},
    "attention": FOUNDATION | {"data", "models"},
    "report": FOUNDATION | {"data"},
    "segmenter": FOUNDATION | {"data", "models", "saliency", "training", "evaluation"},
}
"""What each room may import of densessl besides itself; the command line may import everything."""

TOP = {"commands", "command_line", "__main__", "__init__"}

NUMBERS_ALONE = (
    *("confusion", "matching", "scores", "cluster_scores", "projection", "protocols", "clustering"),
    *("agreement", "boundary", "bootstrap", "named_maps", "image_scores"),
    *("coco_evaluation", "image_objects", "instance_scores", "named_objects"),
    *("labelled_features", "labelled_protocols", "linear_probe", "linear_schedule", "logistic_regression", "curvature"),
    *("probe_cells", "patch_memory", "dense_neighbours", "retrieval", "segmentation"),
    *("cluster_algorithms", "cluster_merging", "spectral_groups", "streaming_kmeans", "cluster_number"),
    *("fast_kmeans", "bounded_lloyd", "kmeans_start", "pixel_protocols", "pixel_clusters", "streaming_pca"),
    *("nested_masks", "simulated_clicks", "plane", "typical_masks"),
    *("saliency_measures", "saliency_structure", "saliency_scores", "saliency_overlap"),
)
"""Modules of evaluation that know neither networks nor files of data."""

OWNED = {
    "lightning_fabric": {"training"},
    "torch.distributed": {"training"},
    "torch.utils.tensorboard": {"training"},
    "matplotlib": {"report"},
    "timm": {"models"},
    "segmentation_models_pytorch": {"models"},
    "albumentations": {"data"},
    "sklearn": {"evaluation"},
    "jsonargparse": {"command_line"},
}
"""Libraries and the only rooms that import them."""


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, anywhere in it, as `package.module.name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{_name(path)} line {node.lineno} imports relatively; write the full name")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _rooms_imported(path: Path) -> set[str]:
    parts = [name.split(".") for name in _imports(path)]
    return {part[1] for part in parts if part[0] == "densessl" and len(part) > 1}


def test_every_room_is_known() -> None:
    assert {_room(path) for path in _modules()} <= ALLOWED.keys() | TOP


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_imports_go_downward(path: Path) -> None:
    room = _room(path)
    if room in TOP:
        return
    upward = _rooms_imported(path) - ALLOWED[room] - {room}
    assert not upward, f"{_name(path)} imports densessl.{', densessl.'.join(sorted(upward))}"


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_libraries_stay_in_their_room(path: Path) -> None:
    for name in _imports(path):
        for library, rooms in OWNED.items():
            if name == library or name.startswith(library + "."):
                assert _room(path) in rooms, f"{_name(path)} imports {name}, which belongs to {', '.join(rooms)}"


@pytest.mark.parametrize("module", NUMBERS_ALONE)
def test_scores_know_neither_models_nor_data(module: str) -> None:
    assert _rooms_imported(PACKAGE / "evaluation" / f"{module}.py") <= {
        "errors",
        "structures",
        "machine",
        "mask_geometry",
        "evaluation",
    }


def test_scores_import_only_each_other_within_evaluation() -> None:
    """So that nothing that knows data or models is reached through a neighbour."""
    for module in NUMBERS_ALONE:
        for name in _imports(PACKAGE / "evaluation" / f"{module}.py"):
            if name.startswith("densessl.evaluation."):
                assert name.split(".")[2] in NUMBERS_ALONE, f"{module} imports {name}"


def test_commands_are_imported_by_the_command_line_alone() -> None:
    for path in _modules():
        if "commands" in _rooms_imported(path):
            assert _room(path) in {"commands", "command_line"}, _name(path)


def test_importing_the_package_does_nothing() -> None:
    assert set(_rooms_imported(PACKAGE / "__init__.py")) == {"promptable", "segmenter"}  # where they are asked for
    program = "import sys, densessl; sys.exit('torch' in sys.modules or 'densessl.segmenter' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=PACKAGE.parent).returncode == 0
