"""What a build looks like, line by line and after the terminal has been redrawn."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

from slipform.cli.progress.failure import explanation
from slipform.cli.progress.json_lines import JsonProgress
from slipform.cli.progress.plain import PlainProgress
from slipform.cli.progress.terminal import TerminalProgress
from slipform.core.build import (
    BuildEvent,
    BuildFailed,
    BuildSucceeded,
    LogEvent,
    StepEvent,
    StepState,
)
from slipform.core.execution import Stream
from slipform.core.oci.digest import Digest
from slipform.core.source import SourceRange

START = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = Digest.of(b"step")
IMAGE = Digest.of(b"image")


def _step(number: int, name: str, state: StepState, after_s: float = 0.0) -> StepEvent:
    return StepEvent(number, DIGEST, name, state, START + timedelta(seconds=after_s))


EVENTS: tuple[BuildEvent, ...] = (
    _step(0, "[1/2] FROM base", StepState.QUEUED),
    _step(1, "[2/2] RUN make", StepState.QUEUED),
    _step(0, "[1/2] FROM base", StepState.CACHED),
    _step(1, "[2/2] RUN make", StepState.STARTED),
    LogEvent(1, Stream.STDOUT, b"one\ntw", START + timedelta(seconds=0.5)),
    LogEvent(1, Stream.STDERR, b"o\nno newline", START + timedelta(seconds=1)),
    _step(1, "[2/2] RUN make", StepState.DONE, 1.5),
    BuildSucceeded(IMAGE, DIGEST, ("docker.io/library/x:latest",)),
)


def test_plain_is_a_line_per_event() -> None:
    out = io.StringIO()
    with PlainProgress(out) as progress:
        for event in EVENTS:
            progress.show(event)
    assert out.getvalue() == (
        "#1 [1/2] FROM base\n#1 CACHED\n\n#2 [2/2] RUN make\n#2 0.500 one\n#2 1.000 two\n"
        f"#2 no newline\n#2 DONE 1.50s\n\nwriting image {IMAGE}\n"
        "naming to docker.io/library/x:latest\n"
    )


def test_json_is_an_object_per_event() -> None:
    out = io.StringIO()
    with JsonProgress(out) as progress:
        for event in EVENTS:
            progress.show(event)
    values = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [value["event"] for value in values[:2]] == ["StepEvent", "StepEvent"]
    assert values[4]["data"] == "one\ntw"
    assert values[-1]["image_id"] == str(IMAGE)


def test_terminal_leaves_a_readable_record() -> None:
    out = io.StringIO()
    with TerminalProgress(out) as progress:
        for event in EVENTS:
            progress.show(event)
    text = out.getvalue()
    assert "=> CACHED [1/2] FROM base" in text
    assert "=> [2/2] RUN make" in text
    assert "naming to docker.io/library/x:latest" in text


def test_failure_shows_output_place_and_reason() -> None:
    failure = BuildFailed(
        'process "/bin/sh -c false" did not complete successfully: exit code: 1',
        step=1,
        step_name="[2/2] RUN false",
        source=SourceRange("Dockerfile", 2, 2),
        source_text="RUN false",
        exit_code=1,
        tail=("last words",),
    )
    assert explanation(failure) == (
        "------\n > [2/2] RUN false:\nlast words\n------\nDockerfile:2\n"
        "--------------------\n   2 | >>> RUN false\n--------------------\n"
        'ERROR: process "/bin/sh -c false" did not complete successfully: exit code: 1\n'
    )
