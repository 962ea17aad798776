"""Golden files: what is on disk is expected; ``pytest --update-golden`` rewrites it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with a file, or writes it there when the option says so."""
    update = bool(request.config.getoption("--update-golden"))

    def check(path: Path, found: str) -> None:
        if update:
            path.write_text(found)
        assert path.exists(), f"{path} is missing: run pytest --update-golden and read the diff"
        assert path.read_text() == found

    return check
