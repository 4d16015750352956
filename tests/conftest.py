"""Options and fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --run-slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


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
