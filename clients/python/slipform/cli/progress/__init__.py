"""Showing a build while it runs: redrawn on a terminal, or line by line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from slipform.core.build import BuildEvent, BuildFailed


class Progress(Protocol):
    """Takes the events of one build, shows them, and leaves a readable record."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, event: BuildEvent) -> None:
        """Show one event."""
        ...

    def failed(self, failure: BuildFailed) -> None:
        """Explain how the build failed; called after ``__exit__``."""
        ...


def chosen(name: str) -> Progress:
    """The display of that name; "auto" redraws on a terminal and prints lines elsewhere."""
    if name == "auto":
        name = "tty" if sys.stderr.isatty() else "plain"
    if name == "tty":
        from slipform.cli.progress.terminal import TerminalProgress

        return TerminalProgress(sys.stderr)
    if name == "json":
        from slipform.cli.progress.json_lines import JsonProgress

        return JsonProgress(sys.stdout)
    from slipform.cli.progress.plain import PlainProgress, QuietProgress

    return QuietProgress(sys.stderr) if name == "quiet" else PlainProgress(sys.stderr)
