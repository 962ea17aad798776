"""Where a data directory keeps its parts, and which socket belongs to it.

Two data directories never meet: the socket's path follows from the directory's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SOCKET_PATH_LIMIT: Final = 100
"""Bytes; sockaddr_un has room for 108, and descriptor sockets have longer names (unix(7))."""

_RESERVED: Final = frozenset(",%?#")
"""grpc takes them for a list of addresses, an escape, a query and a fragment."""


@dataclass(frozen=True, slots=True)
class Locations:
    """The parts of one data directory."""

    root: Path

    @property
    def runtime(self) -> Path:
        """Directory of sockets and locks; private to the owner.

        A data directory whose path is too long for a socket, or has characters that mean
        something in a gRPC address, gets one under /run, named by a digest of the path.
        """
        inside = self.root / "run"
        text = str(inside / "slipform.sock")
        if len(text) <= _SOCKET_PATH_LIMIT and text.isascii() and not _RESERVED & set(text):
            return inside
        # Imported here: hardly anybody needs it, and everybody's start would pay for it.
        import hashlib

        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        return Path("/run") / f"slipform-{name}"

    @property
    def socket(self) -> Path:
        """The gRPC socket of the embedded daemon."""
        return self.runtime / "slipform.sock"

    @property
    def log(self) -> Path:
        """What a daemon that the command line started has to say."""
        return self.root / "daemon.log"

    @property
    def content(self) -> Path:
        """Blobs and ingests."""
        return self.root / "content"

    @property
    def snapshots(self) -> Path:
        """Snapshots and their metadata."""
        return self.root / "snapshotter"

    @property
    def executor(self) -> Path:
        """State of running processes."""
        return self.root / "executor"

    @property
    def builder(self) -> Path:
        """Build cache and staged contexts."""
        return self.root / "builder"

    @property
    def images(self) -> Path:
        """The database of names."""
        return self.root / "images"
