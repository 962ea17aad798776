"""A forked process that has already done what its template says, and waits for its run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slipform.core import errors
from slipform.core.execution import ExecutableNotFound, ExecutableNotRunnable
from slipform.core.linux import cgroups, mountapi, namespaces
from slipform.drivers.executor import channel
from slipform.drivers.executor.inside import READY, Inside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from slipform.drivers.executor.monitor import Request
    from slipform.drivers.executor.template import Template

_ITS_SOCKET: Final = 3
_PART: Final = 64 << 10
_ERRORS: Final = {
    kind.__name__: kind
    for kind in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.PermissionDenied,
        errors.ResourceExhausted,
        errors.Unavailable,
        errors.Unsupported,
        ExecutableNotFound,
        ExecutableNotRunnable,
    )
}


@dataclass(frozen=True, slots=True)
class NativeChild:
    """The first process of a pid namespace; with it ends everything in there."""

    pid: int
    group: cgroups.Group

    def kill(self) -> None:
        """Kill the pid namespace."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def finish(self) -> bool:
        """Remove the cgroups; whether the memory limit killed something."""
        starved = self.group.ran_out_of_memory()
        self.group.remove()
        return starved


@dataclass(frozen=True, slots=True)
class Spare:
    """The monitor's end of a prepared process, its only child."""

    name: str
    value: dict[str, Any]
    pid: int
    socket: socket.socket

    @classmethod
    def fork(cls, template: Template, stage: Path) -> Spare:
        """Fork it, with a pid namespace of its own; it prepares while the caller goes on."""
        value: dict[str, Any] = json.loads(template.content)
        ours, theirs = socket.socketpair()
        namespaces.unshare(namespaces.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            # Nothing else may be held open here: others wait for the ends of their peers.
            os.dup2(theirs.fileno(), _ITS_SOCKET, inheritable=False)
            os.closerange(_ITS_SOCKET + 1, 1 << 20)
            Inside(value, str(stage), socket.socket(fileno=_ITS_SOCKET)).live()
        theirs.close()
        return cls(template.name, value, pid, ours)

    def wait(self) -> None:
        """Return when it has prepared everything, or has failed to."""
        self.socket.recv(len(READY), socket.MSG_PEEK)

    def discard(self) -> None:
        """End it, so that another one can be forked."""
        self.socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.setns(own, namespaces.CLONE_NEWPID)
        finally:
            os.close(own)

    def start(self, request: Request, stdio: Sequence[int]) -> NativeChild:
        """Have it run the program of a bundle; returns when that has been exec'd.

        Raises:
            DomainError: it could not be started; nothing is left of it.
        """
        # Who is last in a mount namespace takes it down before its end is told. Not the program.
        with contextlib.suppress(OSError):
            os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        resources = request.spec["linux"]["resources"]
        sandbox = any(not rule["allow"] for rule in resources.get("devices") or ())
        group = cgroups.create(request.settings["cgroup"], request.id, resources, sandbox=sandbox)
        try:
            self._order(request, stdio, group)
        except BaseException:
            group.remove()
            raise
        return NativeChild(self.pid, group)

    def _order(self, request: Request, stdio: Sequence[int], group: cgroups.Group) -> None:
        order = {
            "root": request.root,
            "spec": request.spec,
            "groups": [[*map(str, group.joined)], [*map(str, group.own)]],
        }
        flags = mountapi.OPEN_TREE_CLONE | mountapi.AT_RECURSIVE
        root = mountapi.open_tree(request.root, flags)
        try:
            # When it has ended already, its last words say why.
            with contextlib.suppress(BrokenPipeError):
                channel.send(self.socket, json.dumps(order).encode(), (root, *stdio))
        finally:
            os.close(root)
        message = self._last_words()
        if message:
            os.waitpid(self.pid, 0)
            failure = json.loads(message)
            raise _ERRORS.get(failure["error"], errors.Unsupported)(failure["message"])

    def _last_words(self) -> bytes:
        parts = []
        with self.socket, contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(_PART):
                parts.append(part)
        return b"".join(parts).removeprefix(READY)
