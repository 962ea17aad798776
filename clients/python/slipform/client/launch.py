"""Starting the embedded daemon when none answers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from slipform.core.errors import PermissionDenied, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.locations import Locations

IDLE_TIMEOUT_S: Final = 900.0
"""Seconds after which a daemon that nobody calls ends by itself."""

_START_TIMEOUT_S: Final = 30.0


def answers(path: Path) -> bool:
    """Whether something listens on a unix socket.

    Raises:
        PermissionDenied: there is a socket, but this user may not connect to it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except PermissionError as e:
            raise PermissionDenied(f"the daemon's socket {path} is another user's") from e
        except OSError:
            return False
    return True


def ensure_daemon(locations: Locations, *, idle_timeout_s: float = IDLE_TIMEOUT_S) -> None:
    """Start a daemon for a data directory unless one answers; returns when calls are answered.

    Several clients may ask at once: one of them starts it, the others wait for that.

    Raises:
        Unavailable: it did not come up; carries the last line of its log.
        PermissionDenied: the directory belongs to somebody else.
    """
    if answers(locations.socket):
        return
    with _one_at_a_time(locations):
        if not answers(locations.socket):
            _start(locations, idle_timeout_s)


def wait_for_end(pid: int, timeout_s: float) -> bool:
    """Wait until a process is gone; False when it is still there after ``timeout_s``."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], timeout_s)[0])
    finally:
        os.close(watched)


@contextlib.contextmanager
def _one_at_a_time(locations: Locations) -> Iterator[None]:
    try:
        locations.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(locations.root / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as e:
        raise PermissionDenied(f"data directory {locations.root} cannot be written") from e
    except OSError as e:
        raise Unavailable(f"data directory {locations.root} cannot be used: {e.strerror}") from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _start(locations: Locations, idle_timeout_s: float) -> None:
    readable, writable = os.pipe()
    environment = dict(os.environ, SLIPFORM_ROOT=str(locations.root))
    environment.pop("SLIPFORM_HOST", None)
    command = [
        sys.executable,
        "-m",
        "slipform.daemon",
        f"--address=unix:{locations.socket}",
        f"--idle-timeout={idle_timeout_s}",
        f"--ready-fd={writable}",
        "--detach",
    ]
    with locations.log.open("ab") as log:
        starter = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writable,),
            start_new_session=True,
            cwd="/",
            env=environment,
        )
    os.close(writable)
    # The daemon is its child and stays in its process group.
    starter.wait()
    try:
        ready = _wait(readable, starter.pid)
    finally:
        os.close(readable)
    if not ready:
        raise Unavailable(f"the daemon did not start: {_last_line(locations.log)}")


def _wait(readable: int, group: int) -> bool:
    if not select.select([readable], [], [], _START_TIMEOUT_S)[0]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        return False
    # End of file without a byte: the process died before it was ready.
    return os.read(readable, 1) == b"1"


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"{log} is empty"
