"""The monitor: one small process that stands over one run, from its mounts to its last trace.

It mounts the root in a namespace of its own, prepares it, starts the process (a ``spare`` that
waits, or through an OCI runtime), watches socket, clock and process, and cleans up. It kills the
run when the zygote dies, and when the other end of its control socket closes, as the death of the
daemon does.

Wire format of the control socket: the request comes as a message (``channel``) with descriptors for
stdin, stdout and stderr; then commands as two bytes, ``K`` or ``S`` and a signal number. Events go
back as JSON lines. One of them asks: ``{"wanted": "template"}`` is answered by a message.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from slipform.core.errors import DomainError, InvalidArgument
from slipform.core.linux import accounts, mounting, process
from slipform.core.linux.mountoptions import MountOptions
from slipform.core.linux.namespaces import CLONE_NEWNS, unshare
from slipform.core.mounts import Mount
from slipform.drivers.executor import channel, mountpoints
from slipform.drivers.executor.spare import Spare
from slipform.drivers.executor.template import Template

if TYPE_CHECKING:
    from slipform.drivers.executor.mountpoints import MountPoints

KILL: Final = b"K\0"
COMMAND_SIZE: Final = 2
STDIO: Final = 3
TEMPLATE: Final = "template"
"""File in the native driver's directory: the JSON of the current template."""
STAGE: Final = "stage"
"""Directory beside it, with one for each of the template's tops."""


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
    """The driver's own: see ``spare`` and ``runtime.start``."""


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


def prepare(directory: Path | None) -> Spare | None:
    """What can be done before there is a run: names, namespaces, and a process that waits.

    Must be called once, in the forked process.

    Args:
        directory: of the ``native`` driver, with its current template; None when runs are started
            by a runtime.
    """
    process.set_name("slipform-monitor")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gc.disable()  # Short-lived: what it would find is not worth the copied pages.
    unshare(CLONE_NEWNS)
    if directory is None:
        return None
    try:
        spare = Spare.fork(Template.load(directory / TEMPLATE), directory / STAGE)
    except (OSError, ValueError):
        # The first run of all, or a file that somebody has spoiled.
        return None
    # One after the other: there may be no more than two processors, and one of them has a run.
    spare.wait()
    _rehearse(spare, directory / STAGE)
    return spare


def _rehearse(spare: Spare, stage: Path) -> None:
    """Touch the memory that a run will touch: a page shared with the zygote costs 3 µs then."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel.send(ours, json.dumps({"spec": spare.value["mounts"]}).encode(), (theirs.fileno(),))
        received = channel.receive(theirs)
    mounts = json.loads(received[0])["spec"] if received else []
    mounting.perform((), stage)
    MountOptions.parse(option for mount in mounts for option in mount["options"])
    root = os.open(stage, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    process = {"user": {"username": ""}, "env": [], "capabilities": {}, "cwd": "/"}
    accounts.settle(process, root)
    mountpoints.make_cwd(root, process, mounts).remove()
    mountpoints.prepare(root, mounts).remove()
    os.close(root)
    select.poll()


def run_and_exit(control: socket.socket, zygote: int, spare: Spare | None) -> NoReturn:
    """The rest of the forked process's life.

    Args:
        control: the socket of the run.
        zygote: the parent.
        spare: what ``prepare`` answered.
    """
    status = 1
    try:
        request, stdio = receive(control)
        child, points = _start(control, request, stdio, spare)
        _watch_and_finish(control, request, child, points, zygote)
        status = 0
    except DomainError as e:
        _say(control, failure(type(e).__name__, str(e)))
    except OSError as e:
        name = e.filename or ""
        _say(control, failure("Unsupported", f"{name}: {os.strerror(e.errno or 0)}"))
    except BaseException:
        # Whatever it is, a forked child must never return into the zygote's loop.
        import traceback

        _say(control, failure("bug", traceback.format_exc()))
    finally:
        os._exit(status)


def receive(control: socket.socket) -> tuple[Request, list[int]]:
    """Read a request and the three descriptors that come with it."""
    received = channel.receive(control)
    if received is None or len(received[1]) != STDIO:
        raise InvalidArgument("monitor: a malformed request")
    value, stdio = json.loads(received[0]), received[1]
    value["rootfs"] = tuple(Mount(m[0], m[1], m[2], tuple(m[3])) for m in value["rootfs"])
    return Request(**value), stdio


def _start(
    control: socket.socket, request: Request, stdio: list[int], spare: Spare | None
) -> tuple[Child, MountPoints]:
    mounting.perform(request.rootfs, Path(request.root))
    name = request.settings.get("template")
    if name:
        spare = _fitting(spare, name, control, Path(request.settings["directory"]))
    early = spare.value["mounts"] if spare is not None else []
    mounts = [*early, *request.spec["mounts"]]
    root = os.open(request.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    accounts.settle(request.spec["process"], root)
    with contextlib.ExitStack() as undo:
        undo.callback(mountpoints.make_cwd(root, request.spec["process"], mounts).remove)
        points = mountpoints.prepare(root, mounts)
        undo.callback(points.remove)
        child = _start_child(request, root, stdio, spare)
        undo.pop_all()
    for fd in stdio:
        os.close(fd)
    _say(control, _line({"started": child.pid}))
    return child, points


def _start_child(request: Request, root: int, stdio: list[int], spare: Spare | None) -> Child:
    if spare is not None:
        return spare.start(request, stdio)
    # Not at the top: each module makes the zygote larger, and its forks slower.
    from slipform.drivers.executor import runtime

    return runtime.start(request, root, stdio)


def _fitting(spare: Spare | None, name: str, control: socket.socket, directory: Path) -> Spare:
    """A process that is prepared as this run needs it: the spare as a rule."""
    if spare is not None:
        if spare.name == name:
            return spare
        spare.discard()
    _say(control, _line({"wanted": "template"}))
    received = channel.receive(control)
    if received is None:
        raise InvalidArgument("monitor: no template")
    return Spare.fork(Template(name, received[0]), directory / STAGE)


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
