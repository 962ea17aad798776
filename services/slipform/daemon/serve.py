"""The life of a serving process: start in the right order, serve, end cleanly."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition
from slipform.core.linux.mounting import private_mount_namespace
from slipform.daemon.assembly import Assembly
from slipform.rpc.address import Address

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.daemon.config import Config
    from slipform.rpc.server import Server

GRACE_S: Final = 5.0
"""What running calls get after SIGTERM."""

_SWITCH_INTERVAL_S: Final = 0.0005

_log = logging.getLogger(__name__)


class _End:
    """The one request to end; the first one to ask decides about the grace time."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.grace_s = GRACE_S

    def ask(self, grace_s: float = GRACE_S) -> None:
        if not self._asked.is_set():
            self.grace_s = grace_s
            self._asked.set()

    def wait(self, timeout_s: float | None) -> bool:
        return self._asked.wait(timeout_s)


def serve(config: Config, *, ready_fd: int = -1) -> int:
    """Serve until SIGTERM, SIGINT, a Shutdown call, or the idle time.

    Args:
        config: what to serve, where.
        ready_fd: a descriptor that gets one byte and is closed when calls are answered.

    Returns:
        The exit status of the process.

    Raises:
        DomainError: it cannot serve; says why.
    """
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # A step is many short waits in many threads; each would wait for the interpreter up to 5 ms.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    end = _End()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.ask())
    locks = [_own_directory(config.root, name) for name in config.serves]
    if os.geteuid() == 0:
        private_mount_namespace()
    assembly = Assembly(config)
    try:
        _run(config, assembly, end, ready_fd)
    finally:
        assembly.close()
        _leave_runtime(config)
        for lock in locks:
            os.close(lock)
    return 0


def _run(config: Config, assembly: Assembly, end: _End, ready_fd: int) -> None:
    # Imported only now: the zygote must be older than gRPC (DESIGN.md, decision 1).
    from slipform.daemon.service import DaemonServicer
    from slipform.daemon.wires import daemon_service, wire
    from slipform.rpc.server import Server

    address = Address.parse(config.address)
    wired = wire(assembly, address)
    server = Server([*wired.services, daemon_service(DaemonServicer(assembly, end.ask))])
    try:
        server.listen(address, config.tls)
        wired.start()
        server.start()
        _announce(ready_fd)
        _log.info("serving %s on %s", ", ".join(config.serves), address)
        _wait(server, end, config.idle_timeout_s)
    finally:
        server.stop(end.grace_s)
        wired.stop()


def _wait(server: Server, end: _End, idle_timeout_s: float) -> None:
    """Block until somebody asks for the end, or nobody has called for the idle time."""
    if not idle_timeout_s:
        end.wait(None)
        return
    seen, quiet_since = -1, time.monotonic()
    while not end.wait(min(1.0, idle_timeout_s / 4)):
        running, begun = server.activity.snapshot()
        now = time.monotonic()
        if running or begun != seen:
            seen, quiet_since = begun, now
        elif now - quiet_since >= idle_timeout_s:
            _log.info("idle for %.0f s, ending", idle_timeout_s)
            end.ask(0)


def _announce(ready_fd: int) -> None:
    if ready_fd >= 0:
        os.write(ready_fd, b"1")
        os.close(ready_fd)


def _leave_runtime(config: Config) -> None:
    """Remove a socket directory that lies outside the data directory: nobody else would."""
    runtime = config.locations.runtime
    if Address.parse(config.address).path == config.locations.socket and (
        runtime.parent != config.root
    ):
        shutil.rmtree(runtime, ignore_errors=True)


def _own_directory(root: Path, service: str) -> int:
    """Take the lock of one service's data, so that no two processes ever write it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / f"{service}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(descriptor)
        raise FailedPrecondition(f"another daemon serves {service} from {root}") from e
    return descriptor
