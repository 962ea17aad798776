"""Advice about a Dockerfile: what lint finds, and what a build warns of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipform.core.source import SourceRange


@dataclass(frozen=True, slots=True)
class Warning:
    """A lint finding or other advice; never fails a build by itself."""

    rule: str
    message: str
    source: SourceRange | None = None
