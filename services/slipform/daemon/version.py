"""The version of Slipform; pyproject.toml says the same, and a test holds them together."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
