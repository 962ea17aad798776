"""Running processes in a root file system: what builder and CLI ask of the executor."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from slipform.core.errors import NotFound, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.mounts import Mount


class ExecutableNotFound(NotFound):
    """The executable, or the interpreter it names, does not exist in the root: docker's 127."""


class ExecutableNotRunnable(PermissionDenied):
    """The executable is there but cannot be executed: docker's 126."""


class Network(enum.Enum):
    """What a process sees of the network."""

    HOST = "host"
    NONE = "none"
    """Loopback only."""


class Security(enum.Enum):
    """SANDBOX is docker's default policy; INSECURE is docker's ``--privileged``."""

    SANDBOX = "sandbox"
    INSECURE = "insecure"


class Stream(enum.Enum):
    """Where a process wrote."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits; 0 means none."""

    memory: int = 0
    """Bytes."""
    pids: int = 0
    """Processes and threads."""
    cpu_quota_us: int = 0
    """Microseconds of CPU time per ``cpu_period_us``."""
    cpu_period_us: int = 100_000
    shm_size: int = 64 << 20
    """Bytes of /dev/shm."""
    ulimits: tuple[tuple[str, int, int], ...] = ()
    """(name without RLIMIT_, soft, hard)."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One process in one root.

    ``rootfs`` is what ``Snapshotter.prepare`` answered. ``user`` is docker's ``user[:group]``, by
    name or number, looked up in the rootfs's own passwd and group files. ``cwd`` is created
    (0755, owned by the user) when it is absent.
    """

    id: str
    """Unique among running processes: letters, digits, ``_``, ``.``, ``-``."""
    rootfs: tuple[Mount, ...]
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = "buildkitsandbox"
    network: Network = Network.HOST
    security: Security = Security.SANDBOX
    mounts: tuple[Mount, ...] = ()
    """Besides /proc, /dev, /sys and friends; performed in order, inside the root. ``bind``
    sources may be files; option ``ro`` makes them read-only. Targets that had to be made are
    gone afterwards and leave no trace in the snapshot."""
    resources: Resources = field(default_factory=Resources)
    read_only: bool = False
    """The root itself is mounted read-only."""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    """(name, address) for /etc/hosts."""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    timeout_s: float = 0.0
    """Seconds after the start at which everything is killed; 0 means never."""
    stdin: bytes = b""
    open_stdin: bool = False
    """Standard input is fed by ``RunHandle.write_stdin``; ``stdin`` must then be empty."""
    own_files: bool = False
    """/etc/hosts, /etc/hostname and /etc/resolv.conf are the run's own and writable, as with
    ``docker run``; otherwise they are shared and read-only, as in BuildKit's RUN."""


@dataclass(frozen=True, slots=True)
class Started:
    """The process runs; ``pid`` is its number on the host."""

    pid: int


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes that the process wrote, as they came, at most 64 KiB at once."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Exited:
    """How it ended; always the last event.

    ``code`` is docker's: the exit code, or 128 + ``signal``. Starting failures are not events but
    errors that ``Executor.run`` raises.
    """

    code: int
    signal: int = 0
    timed_out: bool = False
    cancelled: bool = False
    out_of_memory: bool = False


RunEvent = Started | Output | Exited


class RunHandle(Protocol):
    """A running process: iterate it for its events until ``Exited``."""

    def __iter__(self) -> Iterator[RunEvent]: ...

    def cancel(self) -> None:
        """Kill the process and all its children; returns at once; safe from any thread.

        The events end with ``Exited(cancelled=True)`` when nothing of it is left.
        """
        ...

    def signal(self, number: int) -> None:
        """Send a signal to the process. Does nothing when it has ended."""
        ...

    def write_stdin(self, data: bytes) -> None:
        """Feed standard input; blocks while the process does not read.

        Does nothing when nobody reads any more.

        Raises:
            FailedPrecondition: the request did not ask for ``open_stdin``.
        """
        ...

    def close_stdin(self) -> None:
        """The process sees the end of its input; idempotent."""
        ...


class Executor(Protocol):
    """Runs processes; safe to call from several threads."""

    def run(self, request: RunRequest) -> RunHandle:
        """Start a process.

        Errors of starting are raised here or by the first step of iteration.

        Raises:
            InvalidArgument: no such user or group in the rootfs, malformed request.
            ExecutableNotFound: the executable does not exist (docker's exit code 127).
            ExecutableNotRunnable: the executable cannot be executed (docker's exit code 126).
            AlreadyExists: the id is running.
            Unsupported: the driver or kernel cannot do what was asked.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bundle:
    """An OCI runtime-spec bundle as data: what executor drivers are given.

    ``spec`` is the ``config.json`` object. Its ``root.path`` is a mount point that the driver
    makes itself by performing ``rootfs`` there, in a private mount namespace where it can.
    ``process.user.username`` holds docker's ``user[:group]``; the driver resolves it inside the
    mounted root (``slipform.core.linux.accounts.settle``).
    """

    id: str
    spec: dict[str, Any]
    rootfs: tuple[Mount, ...]
    timeout_s: float = 0.0
    stdin: bytes = b""
    open_stdin: bool = False
