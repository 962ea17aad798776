"""The zygote: forks one monitor for each process to run, and does nothing else.

It is exec'd before gRPC is imported, has one thread and imports the standard library and core
only, so a fork of it is small, quick and safe. Its parent sends one byte and one descriptor, the
control socket of the new run; everything else is between the run's handle and its monitor.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket

from slipform.core.linux import cgroups, mountapi, process
from slipform.core.linux.namespaces import CLONE_NEWNS, unshare
from slipform.drivers.executor import monitor

COMMANDS = 3
"""The descriptor on which the zygote is commanded."""


def main() -> None:
    """Serve until the parent closes its end or dies."""
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
    while True:
        _, fds, _, _ = socket.recv_fds(commands, 1, 1)
        if not fds:
            _wait_for_monitors()
            return
        _fork(commands, fds[0])


def _wait_for_monitors() -> None:
    """The daemon is gone or going: each monitor sees that itself, and cleans up."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _fork(commands: socket.socket, control: int) -> None:
    try:
        pid = os.fork()
    except OSError as e:
        # The handle sees its socket close with this as the last word.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(control)) as s:
            s.sendall(monitor.failure("ResourceExhausted", f"fork: {os.strerror(e.errno or 0)}"))
        if e.errno not in (errno.EAGAIN, errno.ENOMEM):
            raise
    else:
        if pid == 0:
            commands.close()
            monitor.run_and_exit(socket.socket(fileno=control))
    os.close(control)
