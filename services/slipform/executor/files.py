"""The files that every container gets by bind mount: hosts, hostname, resolv.conf."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.executor.spec import ProvidedFiles

if TYPE_CHECKING:
    from slipform.core.execution import RunRequest

_HOSTS: Final = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_SHARED: Final = "shared"


class FileProvider:
    """Writes the files; shares them between runs that may not change them.

    Making three files costs more than half a millisecond, a noticeable part of a RUN step.
    """

    def __init__(self, directory: Path) -> None:
        """Take over a directory; what is in it goes."""
        shutil.rmtree(directory, ignore_errors=True)
        (directory / _SHARED).mkdir(mode=0o700, parents=True)
        self._directory = directory
        self._lock = threading.Lock()
        self._known: dict[tuple[bytes, ...], ProvidedFiles] = {}

    def provide(self, request: RunRequest) -> ProvidedFiles:
        """The files for one run.

        Raises:
            InvalidArgument: an extra host is malformed.
        """
        contents = _contents(request)
        if request.own_files:
            return _write(self._directory / f"run-{request.id}", contents, writable=True)
        with self._lock:
            found = self._known.get(contents)
            if found is None:
                name = hashlib.sha256(b"\0".join(contents)).hexdigest()
                found = _write(self._directory / _SHARED / name, contents, writable=False)
                self._known[contents] = found
            return found

    def take_back(self, run_id: str) -> None:
        """Remove a run's own files; absent is fine."""
        own = self._directory / f"run-{run_id}"
        if own.exists():
            shutil.rmtree(own, ignore_errors=True)


def _contents(request: RunRequest) -> tuple[bytes, bytes, bytes]:
    lines = [_HOSTS, f"127.0.1.1\t{request.hostname}\n" if request.hostname else ""]
    for name, address in request.extra_hosts:
        if not name or not address or re.search(r"[\s#\0]", f"{name}{address}"):
            raise InvalidArgument(f"extra host {name!r} {address!r} is malformed")
        lines.append(f"{address}\t{name}\n")
    if re.search(r"[\s\0]", request.hostname):
        raise InvalidArgument(f"host name {request.hostname!r} holds white space")
    resolver = b""
    with contextlib.suppress(OSError):
        resolver = _RESOLV_CONF.read_bytes()
    return "".join(lines).encode(), f"{request.hostname}\n".encode(), resolver


def _write(
    directory: Path, contents: tuple[bytes, bytes, bytes], *, writable: bool
) -> ProvidedFiles:
    directory.mkdir(mode=0o700)
    paths = (directory / "hosts", directory / "hostname", directory / "resolv.conf")
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
        path.chmod(0o644)
    return ProvidedFiles(*paths, writable)
