"""Progress on a terminal: redrawn while the build runs, then left as a readable record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from slipform.cli.progress.failure import explanation
from slipform.core.build import (
    BuildFailed,
    BuildSucceeded,
    LogEvent,
    ProgressEvent,
    StepEvent,
    StepState,
    WarningEvent,
)

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from rich.console import ConsoleOptions, RenderResult

    from slipform.core.build import BuildEvent

_LOG_LINES: Final = 6
_REDRAWS_PER_S: Final = 10
_STYLES: Final = {
    StepState.CACHED: "cyan",
    StepState.DONE: "blue",
    StepState.FAILED: "red",
    StepState.CANCELLED: "yellow",
}


@dataclass(slots=True)
class _Row:
    """One step as it is drawn."""

    name: str
    state: StepState = StepState.QUEUED
    began: float = 0.0
    started: datetime | None = None
    seconds: float = 0.0
    note: str = ""
    log: list[str] = field(default_factory=list)
    partial: str = ""


class TerminalProgress:
    """A list of steps with times, and the last lines of what the running ones print."""

    def __init__(self, out: TextIO) -> None:
        """Draw on ``out``, which is a terminal."""
        self._console = Console(file=out, highlight=False)
        self._rows: dict[int, _Row] = {}
        self._warnings: list[str] = []
        self._result: BuildSucceeded | None = None
        self._began = time.monotonic()
        self._live = Live(
            self,
            console=self._console,
            refresh_per_second=_REDRAWS_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        """Start to draw."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to draw; print all steps once more, whole, so that they can be scrolled to."""
        self._live.stop()
        for row in self._visible():
            self._console.print(_line(row, self._console.width), no_wrap=True, crop=True)
        for warning in self._warnings:
            self._console.print(Text(warning, "yellow"))
        if self._result is not None:
            self._console.print(Text(f" => writing image {self._result.image_id}", "blue"))
            for name in self._result.references:
                self._console.print(Text(f" => naming to {name}", "blue"))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The picture of this moment, never taller than the terminal."""
        rows = self._visible()
        done = sum(row.state in _STYLES for row in rows)
        seconds = time.monotonic() - self._began
        yield Text(f"[+] Building {seconds:.1f}s ({done}/{len(self._rows)})")
        room = max(4, console.height - 2)
        body = [line for row in rows for line in _lines(row, console.width)]
        yield from body[-room:]

    def show(self, event: BuildEvent) -> None:
        """Remember what the event says; the next redraw shows it."""
        if isinstance(event, StepEvent):
            self._step(event)
        elif isinstance(event, LogEvent):
            _append(self._rows[event.step], event.data.decode("utf-8", "replace"))
        elif isinstance(event, ProgressEvent):
            total = f"/{event.total}" if event.total else ""
            self._rows[event.step].note = f"{event.what} {event.current}{total} {event.unit}"
        elif isinstance(event, WarningEvent):
            self._warnings.append(f" ! {event.warning.rule}: {event.warning.message}")
        elif isinstance(event, BuildSucceeded):
            self._result = event

    def failed(self, failure: BuildFailed) -> None:
        """Explain the failure below the record."""
        self._console.print(Text(explanation(failure).rstrip("\n")), soft_wrap=True)

    def _step(self, event: StepEvent) -> None:
        row = self._rows.setdefault(event.step, _Row(event.name))
        row.state = event.state
        if event.state is StepState.STARTED:
            row.started, row.began, row.note = event.at, time.monotonic(), event.miss_reason
        elif row.started is not None:
            row.seconds = (event.at - row.started).total_seconds()

    def _visible(self) -> list[_Row]:
        return [row for row in self._rows.values() if row.state is not StepState.QUEUED]


def _append(row: _Row, text: str) -> None:
    *lines, row.partial = (row.partial + text.replace("\r\n", "\n")).split("\n")
    row.log = [*row.log, *lines][-_LOG_LINES:]


def _lines(row: _Row, width: int) -> list[Text]:
    """A running step also shows its latest output."""
    lines = [_line(row, width)]
    if row.state is StepState.STARTED:
        shown = [*row.log, row.partial] if row.partial else row.log
        lines += [Text(f" => => # {text}"[:width], "dim") for text in shown[-_LOG_LINES:]]
    return lines


def _line(row: _Row, width: int) -> Text:
    running = row.state is StepState.STARTED
    seconds = time.monotonic() - row.began if running else row.seconds
    mark = {
        StepState.CACHED: "CACHED ",
        StepState.FAILED: "ERROR ",
        StepState.CANCELLED: "CANCELED ",
    }.get(row.state, "")
    note = f"  ({row.note})" if running and row.note else ""
    left = f" => {mark}{row.name.splitlines()[0]}{note}"
    right = f"{seconds:.1f}s"
    room = max(8, width - len(right) - 1)
    if len(left) > room:
        left = left[: room - 1] + "…"
    return Text(f"{left:{room}} {right}", _STYLES.get(row.state, "bold"))
