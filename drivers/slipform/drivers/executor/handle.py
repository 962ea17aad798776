"""The daemon's side of one run: its pipes, its control socket, its events."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from slipform.core import errors, execution
from slipform.core.execution import Exited, Output, Started, Stream
from slipform.drivers.executor import channel, monitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slipform.core.execution import Bundle, RunEvent

_CHUNK: Final = 64 << 10


class Run:
    """A started process; the ``RunHandle`` of both drivers."""

    def __init__(
        self, control: socket.socket, bundle: Bundle, settings: dict[str, Any], root: str,
        finished: Callable[[], None], template: bytes = b"",
    ) -> None:  # fmt: skip
        """Send the bundle to the monitor and wait until the process runs.

        Args:
            control: the socket that a monitor listens on; owned by this object from here on.
            bundle: what to run.
            settings: the driver's, for the monitor.
            root: directory on which the monitor mounts the root.
            finished: called once when nothing of the run is left.
            template: what the monitor may ask for, see ``template.split``.
        """
        self._control = control
        self._finished = finished
        self._lock = threading.Lock()
        self._buffer = b""
        self._exited: Exited | None = None
        self._ended = False
        self._stdin = -1
        self._stdin_lock = threading.Lock()
        self._interactive = bundle.open_stdin
        self._outputs: dict[int, Stream] = {}
        try:
            self._send(bundle, settings, root)
            self._started = self._await_start(template)
        except BaseException:
            self.close()
            raise

    def _send(self, bundle: Bundle, settings: dict[str, Any], root: str) -> None:
        request = {
            "id": bundle.id,
            "spec": bundle.spec,
            "rootfs": [[m.type, m.source, m.target, list(m.options)] for m in bundle.rootfs],
            "root": root,
            "timeout_s": bundle.timeout_s,
            "settings": settings,
        }
        data = json.dumps(request).encode()
        stdin = self._open_stdin(bundle)
        theirs = [stdin]
        try:
            for stream in (Stream.STDOUT, Stream.STDERR):
                ours, other = os.pipe()
                self._outputs[ours] = stream
                theirs.append(other)
            channel.send(self._control, data, theirs)
        except BrokenPipeError as e:
            raise errors.Unavailable("the run's monitor ended before it took the request") from e
        finally:
            for fd in theirs:
                os.close(fd)

    def _open_stdin(self, bundle: Bundle) -> int:
        if bundle.open_stdin:
            reader, self._stdin = os.pipe()
            return reader
        if not bundle.stdin:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        # A file in memory takes any size without anybody feeding a pipe.
        fd = os.memfd_create("stdin")
        with open(os.dup(fd), "wb") as f:
            f.write(bundle.stdin)
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)

    def _await_start(self, template: bytes) -> Started:
        event = self._next_event()
        if "wanted" in event:
            channel.send(self._control, template)
            event = self._next_event()
        if "error" in event:
            raise _error(event)
        return Started(int(event["started"]))

    def __iter__(self) -> Iterator[RunEvent]:
        """The events; closing the iterator early kills the process."""
        try:
            yield self._started
            yield from self._read()
        finally:
            self.close()
        if self._exited is not None:
            yield self._exited

    def _read(self) -> Iterator[Output]:
        """Output until both pipes and the process have ended."""
        poll = select.poll()
        for fd in self._outputs:
            poll.register(fd, select.POLLIN)
        while self._outputs:
            for fd, _ in poll.poll():
                data = os.read(fd, _CHUNK)
                if data:
                    yield Output(self._outputs[fd], data)
                else:
                    poll.unregister(fd)
                    del self._outputs[fd]
                    os.close(fd)
        self._await_exit()

    def _await_exit(self) -> None:
        if self._exited is None:
            event = self._next_event()
            if "error" in event:
                raise _error(event)
            self._exited = Exited(**event["exited"])

    def _next_event(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                part = self._control.recv(_CHUNK)
            except ConnectionResetError:
                part = b""
            if not part:
                return {"error": "Unavailable", "message": "the run's monitor was killed"}
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def cancel(self) -> None:
        """Kill the process and all its children; returns at once."""
        self._command(monitor.KILL)

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if not 1 <= number <= 64:
            raise errors.InvalidArgument(f"signal {number} is not between 1 and 64")
        self._command(monitor.command(number))

    def _command(self, data: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            if not self._ended:
                self._control.send(data, socket.MSG_NOSIGNAL)

    def write_stdin(self, data: bytes) -> None:
        """Feed standard input."""
        if not self._interactive:
            raise errors.FailedPrecondition("the run was not asked for with open standard input")
        view = memoryview(data)
        # The lock keeps the descriptor ours while a write blocks; the end of the process ends that.
        with self._stdin_lock, contextlib.suppress(BrokenPipeError):
            while view and self._stdin >= 0:
                view = view[os.write(self._stdin, view) :]

    def close_stdin(self) -> None:
        """End standard input; idempotent."""
        with self._stdin_lock:
            if self._stdin >= 0:
                os.close(self._stdin)
                self._stdin = -1

    def close(self) -> None:
        """Kill the process if it still runs, wait until nothing is left, free descriptors."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)
        # The last event comes when nothing is left; without it, the end of the monitor says so.
        with contextlib.suppress(OSError):
            while self._exited is None and self._control.recv(_CHUNK):
                pass
        self._control.close()
        for fd in self._outputs:
            os.close(fd)
        self._outputs.clear()
        self.close_stdin()
        self._finished()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self.close()


def _error(event: dict[str, Any]) -> Exception:
    kind = event["error"]
    found = getattr(errors, kind, None) or getattr(execution, kind, None)
    if isinstance(found, type) and issubclass(found, errors.DomainError):
        return found(event["message"])
    return RuntimeError(event["message"])
