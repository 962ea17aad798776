"""What every test here can use; the words are in tests/README.md."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports the shipped suites: a failed assertion there shows its values too.
pytest.register_assert_rewrite("slipform.testing")

pytest_plugins = [
    "testkit.requires",
    "testkit.leaks",
    "testkit.bases",
    "testkit.docker",
    "testkit.slipform",
    "testkit.builds",
]

# No deadline: two busy cores are no finding. Derandomized: what is red stays red for others.
# To search for new examples: --hypothesis-profile=search.
settings.register_profile(
    "slipform", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("slipform")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Stands here, since pytest asks only the conftest files it knows at its start."""
    text = "rewrite the expected files below tests/golden with what the code says now"
    parser.addoption("--update-golden", action="store_true", help=text)
