"""The daemon's side of the zygote: starts it, and hands it the control sockets of new runs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import slipform.core
import slipform.drivers
from slipform.core.errors import FailedPrecondition, Unavailable
from slipform.drivers.executor.zygote import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

_START: Final = (
    "import sys; sys.path[:0] = sys.argv[2:]; "
    "from slipform.drivers.executor.zygote import main; main(sys.argv[1])"
)
_GRACE_S: Final = 10.0


class Launcher:
    """Owns one zygote process; safe to use from several threads."""

    def __init__(self, admit: Callable[[int], None] = lambda _: None, directory: str = "") -> None:
        """Exec the zygote, and wait until it is ready.

        Args:
            admit: called with the process number of each zygote before it starts anything.
            directory: of the ``native`` driver, see ``monitor.prepare``.

        Raises:
            Unavailable: it did not start.
        """
        self._lock = threading.Lock()
        self._closed = False
        self._admit = admit
        self._directory = directory
        self._process, self._commands = self._start()

    def open_run(self) -> socket.socket:
        """A control socket with a fresh monitor at its other end.

        Raises:
            FailedPrecondition: the launcher is closed.
            Unavailable: no zygote can be had.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            if self._closed:
                ours.close()
                raise FailedPrecondition("the executor driver is closed")
            try:
                socket.send_fds(self._commands, [b"r"], [theirs.fileno()])
            except OSError:
                # Somebody killed it. Its runs died with it; later ones get a new one.
                self._end()
                self._process, self._commands = self._start()
                socket.send_fds(self._commands, [b"r"], [theirs.fileno()])
        return ours

    def close(self) -> None:
        """End the zygote and with it all runs; idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._end()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        process, commands = _spawn(self._directory)
        self._admit(process.pid)
        commands.send(b"g")
        return process, commands

    def _end(self) -> None:
        self._commands.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _spawn(directory: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    roots = dict.fromkeys(
        str(Path(package).parents[1])
        for module in (slipform.core, slipform.drivers)
        for package in module.__path__
    )
    # -I and -S: no environment, no site packages, nothing but the standard library and our roots.
    # Its commands come on one descriptor, whatever number that has here.
    code = f"import os; os.dup2({theirs.fileno()}, {COMMANDS}); {_START}"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, directory, *roots],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
        )
    ready = ours.recv(1)
    if not ready:
        ours.close()
        raise Unavailable(f"the executor's zygote ended with status {process.wait()}")
    return process, ours
