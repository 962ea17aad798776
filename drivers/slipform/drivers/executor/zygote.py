"""The zygote: forks one monitor for each process to run, and does nothing else.

It is exec'd before gRPC is imported, has one thread and imports the standard library and core
only, so a fork of it is small, quick and safe. Its parent sends one byte and one descriptor, the
control socket of the new run; everything else is between the run's handle and its monitor.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from typing import NoReturn

from slipform.core.linux import cgroups, mountapi, process
from slipform.core.linux.namespaces import CLONE_NEWNS, unshare
from slipform.drivers.executor import monitor

COMMANDS = 3
"""The descriptor on which the zygote is commanded."""
_TAKEN = b"T"
_NO_MORE = b"E"


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
    # The parent now puts us where runs are to be born; what is forked before that is elsewhere.
    if commands.recv(1):
        while _keep_a_spare(commands):
            pass
    _wait_for_monitors()


def _keep_a_spare(commands: socket.socket) -> bool:
    """Fork a monitor that waits for the next run; returns when it has one.

    So the fork, and the page faults that follow it, are over before anybody waits for them.

    Returns:
        False when no more runs will come.
    """
    taken, tell = os.pipe()
    zygote = os.getpid()
    try:
        pid = os.fork()
    except OSError as e:
        os.close(taken)
        os.close(tell)
        return _refuse(commands, e)
    if pid == 0:
        os.close(taken)
        _wait_for_a_run(commands, tell, zygote)
    os.close(tell)
    # Nothing at all is read when somebody killed the spare: then there has to be another one.
    word = os.read(taken, 1)
    os.close(taken)
    return word != _NO_MORE


def _wait_for_a_run(commands: socket.socket, tell: int, zygote: int) -> NoReturn:
    process.die_with_parent()
    if os.getppid() != zygote:
        os._exit(1)
    _, fds, _, _ = socket.recv_fds(commands, 1, 1)
    if not fds:
        os.write(tell, _NO_MORE)
        os._exit(0)
    # From here on the death of the zygote is noticed in another way, which cleans up.
    process.outlive_parent()
    os.write(tell, _TAKEN)
    os.close(tell)
    commands.close()
    monitor.run_and_exit(socket.socket(fileno=fds[0]), zygote)


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
