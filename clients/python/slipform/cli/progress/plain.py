"""Progress line by line, as ``docker buildx build --progress=plain`` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

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

    from slipform.core.build import BuildEvent


class QuietProgress:
    """Shows nothing but failures."""

    def __init__(self, out: TextIO) -> None:
        """Write to ``out``."""
        self._out = out

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to put away."""

    def show(self, event: BuildEvent) -> None:
        """Show nothing."""

    def failed(self, failure: BuildFailed) -> None:
        """Explain the failure."""
        self._out.write(explanation(failure))
        self._out.flush()


class PlainProgress(QuietProgress):
    """One line per event; steps are numbered in the order in which they are first heard of."""

    def __init__(self, out: TextIO) -> None:
        """Write to ``out``."""
        super().__init__(out)
        self._numbers: dict[int, int] = {}
        self._started: dict[int, datetime] = {}
        self._partial: dict[int, bytes] = {}
        self._last = 0

    def show(self, event: BuildEvent) -> None:
        """Print what the event says."""
        if isinstance(event, StepEvent):
            self._step(event)
        elif isinstance(event, LogEvent):
            self._log(event)
        elif isinstance(event, ProgressEvent):
            total = f" / {event.total}" if event.total else ""
            self._line(event.step, f"{event.what} {event.current}{total} {event.unit}")
        elif isinstance(event, WarningEvent):
            at = f" ({event.warning.source})" if event.warning.source else ""
            self._out.write(f"WARN: {event.warning.rule}: {event.warning.message}{at}\n")
        elif isinstance(event, BuildSucceeded):
            names = "".join(f"naming to {name}\n" for name in event.references)
            self._out.write(f"\nwriting image {event.image_id}\n{names}")
        self._out.flush()

    def _step(self, event: StepEvent) -> None:
        if event.state is StepState.QUEUED:
            return
        if event.step not in self._numbers:
            self._numbers[event.step] = len(self._numbers) + 1
            self._line(event.step, event.name)
        if event.state is StepState.STARTED:
            self._started[event.step] = event.at
            if event.miss_reason:
                self._line(event.step, f"why: {event.miss_reason}")
            return
        self._flush_log(event.step)
        self._line(event.step, self._outcome(event))

    def _outcome(self, event: StepEvent) -> str:
        if event.state is StepState.CACHED:
            return "CACHED"
        if event.state is StepState.DONE:
            return f"DONE {self._seconds(event):.2f}s"
        return f"ERROR: {event.error}" if event.error else event.state.value.upper()

    def _seconds(self, event: StepEvent) -> float:
        return (event.at - self._started.get(event.step, event.at)).total_seconds()

    def _log(self, event: LogEvent) -> None:
        started = self._started.get(event.step, event.at)
        *lines, rest = (self._partial.pop(event.step, b"") + event.data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r")
            self._line(event.step, f"{(event.at - started).total_seconds():.3f} {text}")
        if rest:
            self._partial[event.step] = rest

    def _flush_log(self, step: int) -> None:
        if rest := self._partial.pop(step, b""):
            self._line(step, rest.decode("utf-8", "replace"))

    def _line(self, step: int, text: str) -> None:
        number = self._numbers.get(step, 0)
        if self._last not in (0, number):
            self._out.write("\n")
        self._last = number
        self._out.write(f"#{number} {text}\n")
