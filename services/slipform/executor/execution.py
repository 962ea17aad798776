"""The core of the executor service: requests in, bundles to the driver, handles out."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core.errors import AlreadyExists, InvalidArgument
from slipform.core.execution import Bundle, RunEvent, RunHandle, RunRequest
from slipform.executor.spec import ProvidedFiles, write_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slipform.core.executor_driver import DriverInfo, ExecutorDriver

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOSTS: Final = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_RESOLV_CONF: Final = Path("/etc/resolv.conf")


class Execution:
    """An ``Executor`` over one driver."""

    def __init__(self, driver: ExecutorDriver, state: Path) -> None:
        """Take over a state directory; what an unclean death left in it is removed.

        Args:
            driver: what runs the bundles; not closed by this class.
            state: a directory of this service alone.
        """
        self._driver = driver
        self._runs = state / "runs"
        shutil.rmtree(self._runs, ignore_errors=True)
        self._runs.mkdir(mode=0o700, parents=True)
        self._lock = threading.Lock()
        self._running: dict[str, RunHandle | None] = {}

    def info(self) -> DriverInfo:
        """What the driver is and can do."""
        return self._driver.info()

    def run(self, request: RunRequest) -> RunHandle:
        """Start a process; see ``Executor.run``. Starting failures are raised here."""
        if not _ID.fullmatch(request.id):
            raise InvalidArgument(
                f"run id {request.id!r}: want up to 128 letters, digits, '_', '.', '-'"
            )
        if request.stdin and request.open_stdin:
            raise InvalidArgument("run: stdin and open_stdin exclude each other")
        self._reserve(request.id)
        try:
            directory = self._runs / request.id
            directory.mkdir(mode=0o700)
            spec = write_spec(request, _provide(request, directory))
            bundle = Bundle(
                request.id,
                spec,
                request.rootfs,
                request.timeout_s,
                request.stdin,
                request.open_stdin,
            )
            handle = self._driver.start(bundle)
        except BaseException:
            self._forget(request.id)
            raise
        with self._lock:
            self._running[request.id] = handle
        return _Tracked(handle, lambda: self._forget(request.id))

    def signal(self, run_id: str, number: int) -> bool:
        """Send a signal to a run by its id; False when none of that id runs."""
        with self._lock:
            handle = self._running.get(run_id)
        if handle is None:
            return False
        handle.signal(number)
        return True

    def _reserve(self, run_id: str) -> None:
        with self._lock:
            if run_id in self._running:
                raise AlreadyExists(f"run {run_id} is running already")
            self._running[run_id] = None

    def _forget(self, run_id: str) -> None:
        shutil.rmtree(self._runs / run_id, ignore_errors=True)
        with self._lock:
            self._running.pop(run_id, None)


@dataclass(slots=True)
class _Tracked:
    """A driver's handle that tells the executor when it is done."""

    _handle: RunHandle
    _done: Callable[[], None]
    _finished: bool = field(default=False)

    def __iter__(self) -> Iterator[RunEvent]:
        events = iter(self._handle)
        try:
            yield from events
        finally:
            close_events(events)
            self._finish()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._done()

    def cancel(self) -> None:
        """See ``RunHandle``."""
        self._handle.cancel()

    def signal(self, number: int) -> None:
        """See ``RunHandle``."""
        self._handle.signal(number)

    def write_stdin(self, data: bytes) -> None:
        """See ``RunHandle``."""
        self._handle.write_stdin(data)

    def close_stdin(self) -> None:
        """See ``RunHandle``."""
        self._handle.close_stdin()


def close_events(events: Iterator[RunEvent]) -> None:
    """Stop iterating early: kills the process and waits until it is gone, where it still runs."""
    if isinstance(events, Generator):
        events.close()


def _provide(request: RunRequest, directory: Path) -> ProvidedFiles:
    """Write the files that a container gets by bind mount, world-readable in a private place."""
    lines = [_HOSTS, f"127.0.1.1\t{request.hostname}\n" if request.hostname else ""]
    for name, address in request.extra_hosts:
        if not name or re.search(r"[\s#\0]", f"{name}{address}"):
            raise InvalidArgument(f"extra host {name!r} {address!r} is malformed")
        lines.append(f"{address}\t{name}\n")
    resolver = b""
    with contextlib.suppress(OSError):
        resolver = _RESOLV_CONF.read_bytes()
    files = ProvidedFiles(directory / "hosts", directory / "hostname", directory / "resolv.conf")
    files.hosts.write_text("".join(lines), "utf-8")
    files.hostname.write_text(f"{request.hostname}\n", "utf-8")
    files.resolv_conf.write_bytes(resolver)
    for path in (files.hosts, files.hostname, files.resolv_conf):
        path.chmod(0o644)
    return files
