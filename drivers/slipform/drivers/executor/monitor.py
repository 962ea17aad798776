"""The monitor: one small process that stands over one run, from its mounts to its last trace.

It mounts the root in a namespace of its own, prepares it, starts the process (in ``inside`` or
through an OCI runtime), watches socket, clock and process, and cleans up. It kills the run when the
zygote dies, and when the other end of its control socket closes, as the death of the daemon does.

Wire format of the control socket: the request comes as a length (4 bytes, big endian) and JSON,
with descriptors for stdin, stdout and stderr; then commands as two bytes, ``K`` or ``S`` and a
signal number. Events go back as JSON lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from slipform.core.errors import DomainError, InvalidArgument
from slipform.core.linux import accounts, mounting, process
from slipform.core.linux.namespaces import CLONE_NEWNS, unshare
from slipform.core.mounts import Mount
from slipform.drivers.executor import inside, mountpoints, runtime

if TYPE_CHECKING:
    from slipform.drivers.executor.mountpoints import MountPoints

KILL: Final = b"K\0"
COMMAND_SIZE: Final = 2
STDIO: Final = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What the handle sends: a bundle in JSON's words."""

    id: str
    spec: dict[str, Any]
    rootfs: tuple[Mount, ...]
    root: str
    """The directory on which the root is mounted; in a namespace of the monitor's own."""
    timeout_s: float
    settings: dict[str, Any]
    """The driver's own: see ``inside.start`` and ``runtime.start``."""


class Child(Protocol):
    """A started process, child of the monitor."""

    @property
    def pid(self) -> int:
        """Its number on the host."""
        ...

    def kill(self) -> None:
        """Kill it and all its descendants."""
        ...

    def finish(self) -> bool:
        """Clean up after it was reaped; whether it ran out of memory."""
        ...


def command(number: int) -> bytes:
    """The command to send a signal."""
    return b"S" + bytes((number,))


def failure(kind: str, message: str) -> bytes:
    """The event that ends a run which could not be started."""
    return _line({"error": kind, "message": message})


def run_and_exit(control: socket.socket, zygote: int) -> NoReturn:
    """Body of the forked process, child of ``zygote``."""
    status = 1
    try:
        process.set_name("slipform-monitor")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request, stdio = receive(control)
        _run(control, request, stdio, zygote)
        status = 0
    except DomainError as e:
        _say(control, failure(type(e).__name__, str(e)))
    except OSError as e:
        name = e.filename or ""
        _say(control, failure("Unsupported", f"{name}: {os.strerror(e.errno or 0)}"))
    except BaseException:
        # Whatever it is, a forked child must never return into the zygote's loop.
        _say(control, failure("bug", traceback.format_exc()))
    finally:
        os._exit(status)


def receive(control: socket.socket) -> tuple[Request, list[int]]:
    """Read a request and the three descriptors that come with it."""
    head, stdio, _, _ = socket.recv_fds(control, 4, STDIO)
    if len(head) != 4 or len(stdio) != STDIO:
        raise InvalidArgument("monitor: a malformed request")
    with control.makefile("rb", buffering=0) as stream:
        missing = struct.unpack(">I", head)[0]
        parts = []
        while missing:
            part = stream.read(min(missing, 1 << 20))
            if not part:
                raise InvalidArgument("monitor: a truncated request")
            parts.append(part)
            missing -= len(part)
    value = json.loads(b"".join(parts))
    value["rootfs"] = tuple(Mount(m[0], m[1], m[2], tuple(m[3])) for m in value["rootfs"])
    return Request(**value), stdio


def _run(control: socket.socket, request: Request, stdio: list[int], zygote: int) -> None:
    unshare(CLONE_NEWNS)
    mounting.perform(request.rootfs, Path(request.root))
    root = os.open(request.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    accounts.settle(request.spec["process"], root)
    mountpoints.make_cwd(root, request.spec)
    points = mountpoints.prepare(root, request.spec["mounts"])
    try:
        start = runtime.start if request.settings.get("runtime") else inside.start
        child: Child = start(request, root, stdio)
    except BaseException:
        points.remove()
        raise
    for fd in stdio:
        os.close(fd)
    _say(control, _line({"started": child.pid}))
    _watch_and_finish(control, request, child, points, zygote)


def _watch_and_finish(
    control: socket.socket, request: Request, child: Child, points: MountPoints, zygote: int
) -> None:
    reason = _watch(control, child, request.timeout_s, zygote)
    # For the first process of a pid namespace this returns when all others are gone as well.
    _, status = os.waitpid(child.pid, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    starved = child.finish()
    points.remove()
    if reason == "orphaned":
        _say(control, failure("Unavailable", "the executor's zygote was killed"))
        return
    event = {
        "code": 128 + number if number else os.WEXITSTATUS(status),
        "signal": number,
        "timed_out": reason == "timeout",
        "cancelled": reason == "cancelled",
        "out_of_memory": starved,
    }
    _say(control, _line({"exited": event}))


def _watch(control: socket.socket, child: Child, timeout_s: float, zygote: int) -> str:
    """Obey commands until the process ends; why it was killed, or nothing."""
    reason = ""
    deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
    watched = os.pidfd_open(child.pid)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    parent = os.pidfd_open(os.getppid())
    if os.getppid() != zygote:
        child.kill()
        return "orphaned"
    poll.register(parent, select.POLLIN)
    poll.register(control, select.POLLIN)
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = dict(poll.poll(None if left is None else left * 1000 + 1))
        if watched in ready:
            os.close(watched)
            return reason
        if deadline is not None and time.monotonic() >= deadline:
            reason, deadline = reason or "timeout", None
            child.kill()
        if parent in ready:
            poll.unregister(parent)
            reason = reason or "orphaned"
            child.kill()
        if control.fileno() in ready:
            received = control.recv(COMMAND_SIZE, socket.MSG_WAITALL)
            if received[:1] == b"S" and len(received) == COMMAND_SIZE:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(watched, received[1])
                continue
            reason = reason or "cancelled"
            child.kill()
            if not received:
                poll.unregister(control)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _say(control: socket.socket, message: bytes) -> None:
    try:
        control.sendall(message)
    except OSError as e:
        # Nobody listens any more; the process is being killed for the same reason.
        print(f"slipform-monitor: {e}", file=sys.stderr)
