"""Fixtures of the promptable model: the small published SAM, and ours with its weights."""

from pathlib import Path

import pytest
from published_sam import local_sam, saved, small_sam
from segment_anything.modeling import Sam

from densessl.promptable.promptable_model import PromptableModel
from densessl.promptable.promptable_weights import load_promptable_model


@pytest.fixture(scope="session")
def published() -> Sam:
    return small_sam()


@pytest.fixture(scope="session")
def published_file(published: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(published, tmp_path_factory.mktemp("weights") / "sam.pth")


@pytest.fixture(scope="session")
def model(published_file: Path) -> PromptableModel:
    """Shared by tests, which leave its weights alone."""
    return load_promptable_model(published_file)[0]


@pytest.fixture(scope="session")
def local() -> Sam:
    return local_sam()


@pytest.fixture(scope="session")
def local_file(local: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(local, tmp_path_factory.mktemp("local") / "sam.pth")


@pytest.fixture(scope="session")
def local_model(local_file: Path) -> PromptableModel:
    return load_promptable_model(local_file)[0]
