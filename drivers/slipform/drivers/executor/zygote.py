"""The zygote: forks one monitor for each process to run, and does nothing else.

It is exec'd before gRPC is imported, has one thread and imports the standard library and core
only, so a fork of it is small, quick and safe. Its parent sends one byte and one descriptor, the
control socket of the new run; everything else is between the run's handle and its monitor.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slipform.core.linux import cgroups, mountapi, process
from slipform.core.linux.namespaces import CLONE_NEWNS, unshare
from slipform.drivers.executor import monitor

if TYPE_CHECKING:
    from slipform.drivers.executor.spare import Spare

COMMANDS = 3
"""The descriptor on which the zygote is commanded."""
_TAKEN = b"T"
_NO_MORE = b"E"
_SPARES = 2
_YOUTH_MS = 20
_BEHIND = 10
"""Steps of niceness."""


def main(directory: str) -> None:
    """Serve until the parent closes its end or dies.

    Args:
        directory: see ``monitor.prepare``; empty when runs are started by a runtime.
    """
    process.set_name("slipform-zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Monitors are nobody's business but their control socket's: the kernel reaps them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    unshare(CLONE_NEWNS)
    mountapi.mount("", "/", "", mountapi.MS_REC | mountapi.MS_SLAVE)
    os.umask(0o022)
    # Asked once here, so that no run has to.
    process.last_capability()
    process.permitted_mask()
    cgroups.hierarchies()
    gc.collect()
    gc.freeze()
    commands = socket.socket(fileno=COMMANDS)
    commands.set_inheritable(False)
    commands.send(b"+")
    # The parent now puts us where runs are to be born; what is forked before that is elsewhere.
    if commands.recv(1):
        _Pool(commands, Path(directory) if directory else None).serve()
    _wait_for_monitors()


class _Pool:
    """Monitors that are forked and prepared before anybody waits for them.

    A new one is forked when a run has ended, or lasts, rather than when it has been asked for: the
    preparation would be in its way. Unless none is left.
    """

    def __init__(self, commands: socket.socket, directory: Path | None) -> None:
        self._commands = commands
        self._directory = directory
        self._zygote = os.getpid()
        self._poll = select.poll()
        self._idle: set[int] = set()
        self._young: set[int] = set()
        """Of the others, those whose run may be over in a moment."""
        self._others: set[int] = set()

    def serve(self) -> None:
        """Return when no more runs will come."""
        more = True
        while more:
            while not self._idle or (len(self._idle) < _SPARES and not self._young):
                if not self._fork():
                    return
            heard = self._poll.poll(_YOUTH_MS if self._young else None)
            for said, _ in heard:
                more = self._hear(said) and more
            if not heard:
                self._young.clear()

    def _fork(self) -> bool:
        said, tell = os.pipe()
        try:
            pid = os.fork()
        except OSError as e:
            os.close(said)
            os.close(tell)
            return _refuse(self._commands, e)
        if pid == 0:
            self._wait_for_a_run(tell)
        os.close(tell)
        self._poll.register(said, select.POLLIN)
        self._idle.add(said)
        return True

    def _hear(self, said: int) -> bool:
        """What a monitor has to say; False when no more runs will come."""
        word = os.read(said, 1)
        self._idle.discard(said)
        if word == _TAKEN:
            self._others.add(said)
            self._young.add(said)
            return True
        # It has ended, or somebody has killed it.
        self._young.discard(said)
        self._others.discard(said)
        self._poll.unregister(said)
        os.close(said)
        return word != _NO_MORE

    def _prepare(self) -> Spare | None:
        """Prepare, and let runs go first meanwhile."""
        if not _may_raise_priority():
            return monitor.prepare(self._directory)
        before = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, min(before + _BEHIND, 19))
        spare = monitor.prepare(self._directory)
        for pid in (0, spare.pid) if spare is not None else (0,):
            # Gone when preparing has failed; the one who gives it a run will hear why.
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, pid, before)
        return spare

    def _wait_for_a_run(self, tell: int) -> NoReturn:
        """Life of a monitor until it is taken."""
        process.die_with_parent()
        if os.getppid() != self._zygote:
            os._exit(1)
        for said in (*self._idle, *self._others):
            os.close(said)
        spare = self._prepare()
        _, fds, _, _ = socket.recv_fds(self._commands, 1, 1)
        if not fds:
            os.write(tell, _NO_MORE)
            os._exit(0)
        # From here on the death of the zygote is noticed in another way, which cleans up.
        process.outlive_parent()
        os.write(tell, _TAKEN)
        self._commands.close()
        monitor.run_and_exit(socket.socket(fileno=fds[0]), self._zygote, spare)


def _may_raise_priority() -> bool:
    return bool(process.permitted_mask() & process.mask_of(("CAP_SYS_NICE",)))


def _refuse(commands: socket.socket, error: OSError) -> bool:
    """Answer one run with the reason why it can't be."""
    _, fds, _, _ = socket.recv_fds(commands, 1, 1)
    if not fds:
        return False
    with contextlib.suppress(OSError), socket.socket(fileno=fds[0]) as control:
        message = f"fork: {os.strerror(error.errno or 0)}"
        control.sendall(monitor.failure("ResourceExhausted", message))
    return True


def _wait_for_monitors() -> None:
    """The daemon is gone or going: each monitor sees that itself, and cleans up."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
