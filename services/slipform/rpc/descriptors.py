"""Blobs as open files for peers on the same host (DESIGN.md, decision 4; docs/content.md).

A unix socket of type SEQPACKET. One packet asks, ``{"tenant": …, "digest": …}``; one packet
answers, ``{"instance": …, "size": …}`` with one read-only descriptor beside it, or
``{"instance": …, "error": <class of slipform.core.errors>, "message": …}``. A connection serves
any number of requests, one after the other.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import secrets
import socket
import stat
import struct
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from slipform.core import errors
from slipform.core.content import SupportsDescriptors
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.core.content import ContentStore

MAX_PACKET: Final = 4096
MAX_DESCRIPTORS: Final = 4
"""What a client takes with one answer; more than one is refused, and all are closed."""
MAX_CONNECTIONS: Final = 64
IDLE_S: Final = 60.0
"""A silent peer is let go; clients connect again when they need to."""
ANSWER_S: Final = 30.0
"""What a client waits for an answer before it reads by stream."""

STOP_S: Final = 5.0
"""What a thread gets to end; none should need it."""

_CREDENTIALS: Final = struct.Struct("3i")


class Tenants(Protocol):
    """The content store, as far as it is needed here."""

    @property
    def instance_id(self) -> str:
        """Tells this store from any other."""
        ...

    def tenant(self, name: str) -> ContentStore:
        """One tenant's blobs. Raises ``InvalidArgument``."""
        ...


class DescriptorServer:
    """Hands out descriptors on ``path`` to peers of this user and of root.

    Args:
        content: where blobs are looked up.
        path: of the socket, made 0600; a dead one is replaced.
        uids: of peers that are served; None is this process's and root.
    """

    def __init__(self, content: Tenants, path: Path, *, uids: frozenset[int] | None = None) -> None:
        self._content = content
        self._path = path
        self._uids = frozenset({os.geteuid(), 0}) if uids is None else uids
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._stopped = threading.Event()
        self._threads: dict[socket.socket, threading.Thread] = {}

    def start(self) -> None:
        """Listen, and answer from a thread of its own.

        Raises:
            Unavailable: a live server has the path.
        """
        listener = _listen(self._path)
        with self._lock:
            self._listener = listener
            self._stopped.clear()
            self._start_thread(listener, self._accept)

    def stop(self) -> None:
        """Close the socket and all connections; idempotent."""
        with self._lock:
            listener, self._listener = self._listener, None
            threads = dict(self._threads)
        if listener is None:
            return
        self._stopped.set()
        self._path.unlink(missing_ok=True)
        for each in threads:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
        for thread in threads.values():
            thread.join(STOP_S)

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._stopped.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    self._stopped.wait(0.1)  # or the peer was gone already, or no fd is free now
                    continue
                if not self._admit(connection):
                    connection.close()
        with self._lock:
            self._threads.pop(listener, None)

    def _admit(self, connection: socket.socket) -> bool:
        if peer_uid(connection) not in self._uids:
            return False
        with self._lock:
            if self._listener is None or len(self._threads) > MAX_CONNECTIONS:
                return False
            self._start_thread(connection, self._converse)
        return True

    def _start_thread(self, socket_: socket.socket, work: Callable[[socket.socket], None]) -> None:
        thread = threading.Thread(target=work, args=(socket_,), name="descriptors", daemon=True)
        self._threads[socket_] = thread
        thread.start()

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(IDLE_S)
        try:
            with connection, contextlib.suppress(OSError):
                while request := _receive(connection):
                    self._answer(connection, request)
        finally:
            with self._lock:
                self._threads.pop(connection, None)

    def _answer(self, connection: socket.socket, request: bytes) -> None:
        answer: dict[str, object] = {"instance": self._content.instance_id}
        try:
            fd = self._open(request)
        except errors.DomainError as e:
            answer |= {"error": type(e).__name__, "message": str(e)[:1024]}
            connection.send(json.dumps(answer).encode())
            return
        try:
            answer["size"] = os.fstat(fd).st_size
            socket.send_fds(connection, [json.dumps(answer).encode()], [fd])
        finally:
            os.close(fd)

    def _open(self, request: bytes) -> int:
        tenant, digest = _parse(request)
        store = self._content.tenant(tenant)
        if not isinstance(store, SupportsDescriptors):
            raise errors.Unsupported("this content store has no files to hand out")
        return store.open_descriptor(Digest.parse(digest))


class DescriptorClient:
    """Asks one server for descriptors; safe to use from several threads.

    Args:
        path: of the socket.
        instance_id: of the store that is meant; another one's answers are refused, because the
            same path may lead to another store on another host.
    """

    def __init__(self, path: Path, instance_id: str) -> None:
        self._path = path
        self._instance_id = instance_id
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def open(self, tenant: str, digest: Digest) -> tuple[int, int]:
        """A read-only, close-on-exec descriptor and its size; the caller closes it.

        Raises:
            NotFound: no such blob (and whatever else the store says of it).
            Unavailable: nobody answers, or somebody else does: read by stream.
        """
        request = json.dumps({"tenant": tenant, "digest": str(digest)}).encode()
        with self._lock:
            try:
                return self._ask(request)
            except OSError as e:
                self._drop()
                raise errors.Unavailable(f"descriptors from {self._path}: {e}") from e
            except errors.Unavailable:
                self._drop()
                raise

    def close(self) -> None:
        """Close the connection; idempotent."""
        with self._lock:
            self._drop()

    def _ask(self, request: bytes) -> tuple[int, int]:
        kept = self._socket is not None
        connection = self._connected()
        try:
            connection.send(request)
            data, fds = _receive_answer(connection)
        except OSError:
            if not kept:
                raise
            data = b""
        if not data and kept:  # the server let an idle connection go: once more, on a new one
            self._drop()
            return self._ask(request)
        try:
            size = self._checked(data, fds)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds[0], size

    def _checked(self, data: bytes, fds: list[int]) -> int:
        answer = _json_object(data)
        if answer.get("instance") != self._instance_id:
            raise errors.Unavailable(f"descriptors from {self._path}: another store answers there")
        if "error" in answer:
            raise _error(answer)
        if len(fds) != 1 or not _is_plain(fds[0], answer.get("size")):
            raise errors.Unavailable(f"descriptors from {self._path}: the answer makes no sense")
        return int(answer["size"])

    def _connected(self) -> socket.socket:
        if self._socket is None:
            fresh = _new_socket()
            try:
                fresh.settimeout(ANSWER_S)
                with _short(self._path) as address:
                    fresh.connect(address)
            except OSError:
                fresh.close()
                raise
            self._socket = fresh
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a unix socket, as the kernel knows it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def _listen(path: Path) -> socket.socket:
    """A listening socket that appears under its name only when it is private."""
    if _is_live(path):
        raise errors.Unavailable(f"another server hands out descriptors on {path}")
    listener = _new_socket()
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with _short(aside) as address:
            listener.bind(address)
        aside.chmod(0o600)
        listener.listen(MAX_CONNECTIONS)
        aside.rename(path)
    except OSError:
        listener.close()
        aside.unlink(missing_ok=True)
        raise
    return listener


def _is_live(path: Path) -> bool:
    with _new_socket() as probe, contextlib.suppress(OSError), _short(path) as address:
        probe.settimeout(1)
        probe.connect(address)
        return True
    return False


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for ``path`` that fits the kernel's 107 bytes, however long the path."""
    if len(os.fsencode(path)) < 100:
        yield os.fspath(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _receive(connection: socket.socket) -> bytes:
    """One request; empty at the end, and for one that is too long, which ends the connection."""
    data = connection.recv(MAX_PACKET + 1)
    return data if len(data) <= MAX_PACKET else b""


def _receive_answer(connection: socket.socket) -> tuple[bytes, list[int]]:
    # Not socket.recv_fds: it ignores its flags, so that another thread's exec would inherit.
    fds = array.array("i")
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * fds.itemsize)
    data, ancillary, _, _ = connection.recvmsg(MAX_PACKET, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


def _parse(request: bytes) -> tuple[str, str]:
    try:
        parsed = json.loads(request)
    except (ValueError, RecursionError) as e:
        raise errors.InvalidArgument(f"descriptor request is not JSON: {e}") from e
    if isinstance(parsed, dict):
        tenant, digest = parsed.get("tenant"), parsed.get("digest")
        if isinstance(tenant, str) and isinstance(digest, str):
            return tenant, digest
    raise errors.InvalidArgument('descriptor request: want {"tenant": "…", "digest": "…"}')


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {}


def _error(answer: dict[str, Any]) -> errors.DomainError:
    kind = getattr(errors, str(answer["error"]), None)
    message = str(answer.get("message", ""))
    if isinstance(kind, type) and issubclass(kind, errors.DomainError):
        return kind(message)
    return errors.Unavailable(message)


def _is_plain(fd: int, size: object) -> bool:
    """A regular file of that size, open for reading only."""
    found = os.fstat(fd)
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return stat.S_ISREG(found.st_mode) and found.st_size == size and mode == os.O_RDONLY
