"""Options and fixtures shared by all tests."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on small tensors threads cost more than they save

if TYPE_CHECKING:
    from densessl.commands.export_promptable import PromptableExport


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _skip_without_gpu(items)
    if config.getoption("--run-slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --run-slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch  # costs a second, for those who collect such a test alone

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs, from the environment variable DENSESSL_REAL_DATA."""
    value = os.environ.get("DENSESSL_REAL_DATA")
    if not value:
        pytest.skip("DENSESSL_REAL_DATA is not set; point it at the real photographs to run this test")
    path = Path(value)
    if not path.is_dir():
        pytest.skip(f"DENSESSL_REAL_DATA={value} is not a folder")
    return path


@dataclass(frozen=True)
class Exported:
    """A small promptable model: its file, the folder of its export, and what the export returned and printed."""

    weights: Path
    folder: Path
    result: "PromptableExport"
    printed: str


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """SAM's architecture in small, exported in both formats and in int8; made once, since exporting takes long."""
    import contextlib
    import io

    import torch

    from densessl.commands.export_promptable import export_promptable
    from densessl.promptable.promptable_model import build_promptable_model
    from densessl.promptable.promptable_settings import PromptableSettings
    from densessl.promptable.promptable_weights import save_promptable_model
    from densessl.promptable.vision_transformer import VisionTransformerShape

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = VisionTransformerShape(32, 2, 2, (1,), 64, window=3)
    model = build_promptable_model(
        PromptableSettings(
            "vision_transformer", 96, vision_transformer=shape, dim=32, decoder_depth=1, decoder_heads=2, iou_depth=2
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # none stays at zero
    folder = tmp_path_factory.mktemp("exported")
    save_promptable_model(folder / "model.safetensors", model, "none (drawn for a test)")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = export_promptable(folder / "model.safetensors", folder / "export", quantise="int8", points_per_side=2)
    return Exported(folder / "model.safetensors", folder / "export", result, printed.getvalue())
