"""Builds: what a client asks of the builder, and what it hears of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from slipform.core.execution import Network, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from slipform.core.advice import Warning
    from slipform.core.context import ContextSource
    from slipform.core.oci.digest import Digest
    from slipform.core.oci.platform import Platform
    from slipform.core.source import SourceRange


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build of one platform.

    The Dockerfile is given as bytes, or by path relative to the context (default
    ``Dockerfile``). ``local_context`` is read in place by a builder on the same host; else a
    ``ContextSource`` comes with the call; else there is no context.
    """

    local_context: Path | None = None
    dockerfile: bytes | None = None
    dockerfile_name: str = ""
    """Path relative to the context, or a name for messages when ``dockerfile`` is given."""
    dockerfile_path: Path | None = None
    """Absolute path of a Dockerfile outside the context, on the builder's host."""
    references: tuple[str, ...] = ()
    target: str = ""
    build_args: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    platform: Platform | None = None
    network: Network = Network.HOST
    no_cache: bool = False
    extra_hosts: tuple[tuple[str, str], ...] = ()
    source_date_epoch: int | None = None
    max_parallelism: int = 0
    """Steps at once; 0 is the builder's default."""
    step_timeout_s: float = 0.0
    allow: tuple[str, ...] = ()
    """Entitlements, as BuildKit names them: a Dockerfile alone must not get out of the sandbox."""


class StepState(enum.Enum):
    """The life of a step; the last four are final."""

    QUEUED = "queued"
    STARTED = "started"
    CACHED = "cached"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A step changed its state; ``digest`` is the same in every build of the same step."""

    step: int
    digest: Digest
    name: str
    state: StepState
    at: datetime
    error: str = ""
    miss_reason: str = ""
    """For STARTED: why the cache did not have it, in one sentence; may be empty."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Bytes that a step's process wrote."""

    step: int
    stream: Stream
    data: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How far a long piece of work inside a step has come; ``total`` 0 is unknown."""

    step: int
    what: str
    current: int
    total: int
    unit: str
    """``bytes`` or ``files``."""
    at: datetime


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """A lint finding or other advice."""

    warning: Warning


@dataclass(frozen=True, slots=True)
class BuildFailed:
    """The build ended without an image: the last event.

    ``exit_code`` is None unless a process ended with it. ``tail`` is the last output of the step,
    at most 64 lines.
    """

    message: str
    step: int | None = None
    step_name: str = ""
    source: SourceRange | None = None
    source_text: str = ""
    exit_code: int | None = None
    tail: tuple[str, ...] = ()
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class BuildSucceeded:
    """The build made an image: the last event."""

    image_id: Digest
    manifest_digest: Digest
    references: tuple[str, ...]


BuildEvent = StepEvent | LogEvent | ProgressEvent | WarningEvent | BuildFailed | BuildSucceeded


class BuildHandle(Protocol):
    """A running build: iterate it for its events until one of the two last ones."""

    def __iter__(self) -> Iterator[BuildEvent]: ...

    def cancel(self) -> None:
        """Stop the build and its processes; safe from any thread; returns at once."""
        ...


class Builder(Protocol):
    """Builds images; several builds at once are fine."""

    def build(self, request: BuildRequest, context: ContextSource | None = None) -> BuildHandle:
        """Start a build.

        Raises:
            InvalidArgument: a fault of the request or of the Dockerfile; here, or by the first
                step of iteration. What happens later is a ``BuildFailed`` event.
        """
        ...

    def prune(self) -> int:
        """Forget the build cache; bytes freed. What images and running builds need stays."""
        ...


@runtime_checkable
class SupportsStaging(Protocol):
    """A builder that has a place for contexts which clients send."""

    def staging(self) -> AbstractContextManager[Path]:
        """A private directory on the builder's disk, gone afterwards."""
        ...
