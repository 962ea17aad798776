"""Where in a text file something stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceRange:
    """A range of lines in one file; lines and columns count from 1, ends are inclusive."""

    file: str
    start_line: int
    end_line: int
    start_column: int = 1
    """First column (in characters) of what is meant on ``start_line``."""

    def __str__(self) -> str:
        return f"{self.file}:{self.start_line}:{self.start_column}"
