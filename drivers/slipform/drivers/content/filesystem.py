"""Blobs as files: named only when they are whole, verified and on disk (docs/content.md).

lock                    held (flock) by the process that has the store open
blobs/<algorithm>/<hex> whole blobs
ingests/<number>/data   unfinished writes
trash/                  removed blobs whose space is not freed yet
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final

from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from slipform.core.linux.writeback import start_writeback
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ALGORITHMS: Final = ("sha256", "sha512")
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITEBACK: Final = 8 << 20
"""Bytes after which writing to disk begins beside hashing: it leaves ``fsync`` little to do, which
made a durable write of 256 MiB 1.6 times as fast."""
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class FilesystemBlobs:
    """A directory of blobs that one process at a time has open.

    Args:
        root: made with mode 0700 when absent; must be on one file system with all it holds.

    Raises:
        Unavailable: another process has it open.
        PermissionDenied: it can't be read or written.
        ResourceExhausted: no space for the directories.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._fds: dict[str, int] = {}
        with _errors(f"content store {root}"):
            for folder in ("ingests", "trash", *(f"blobs/{name}" for name in _ALGORITHMS)):
                _make_folder(root, folder)
            self._lock_fd = _lock(root / "lock")
            try:
                for name in _ALGORITHMS:
                    self._fds[name] = os.open(root / "blobs" / name, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                self.close()
                raise
        self._blobs = os.fspath(root / "blobs")
        self._ingests = os.fspath(root / "ingests")
        self.purge()

    def open_ingest(self, number: int) -> IngestFile:
        """Open the write, empty when it is new."""
        with _errors(f"ingest {number}"):
            folder = f"{self._ingests}/{number}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            return IngestFile(f"{folder}/data")

    def ingest_state(self, number: int) -> tuple[int, int]:
        """Bytes held and time of the last write."""
        try:
            found = os.stat(f"{self._ingests}/{number}/data", follow_symlinks=False)
        except FileNotFoundError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def ingests(self) -> list[int]:
        """Numbers of all unfinished writes."""
        return [int(name) for name in os.listdir(self._ingests) if name.isdecimal()]

    def drop_ingest(self, number: int) -> None:
        """Forget the write; idempotent."""
        folder = f"{self._ingests}/{number}"
        with contextlib.suppress(FileNotFoundError), _errors(f"ingest {number}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{folder}/data")
            os.rmdir(folder)

    def publish(self, number: int, digest: Digest) -> None:
        """Name the bytes, and sync the name."""
        source, target = f"{self._ingests}/{number}/data", self._path(digest)
        with _errors(f"blob {digest}"):
            try:
                os.link(source, target)
            except FileExistsError:
                _replace(source, target)
            except OSError as e:
                if e.errno not in _NO_LINKS:
                    raise
                os.rename(source, target)
            os.fsync(self._fds[digest.algorithm])

    def size(self, digest: Digest) -> int:
        """Bytes of the blob. Raises ``NotFound``."""
        try:
            return os.stat(self._path(digest), follow_symlinks=False).st_size
        except FileNotFoundError as e:
            raise NotFound(f"blob {digest} does not exist") from e

    def open(self, digest: Digest) -> BlobFile:
        """Open a blob. Raises ``NotFound``."""
        return BlobFile(self.open_descriptor(digest))

    def open_descriptor(self, digest: Digest) -> int:
        """A read-only, close-on-exec descriptor. Raises ``NotFound``."""
        with _errors(f"blob {digest}"):
            try:
                return os.open(self._path(digest), os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError as e:
                raise NotFound(f"blob {digest} does not exist") from e

    def blobs(self) -> Iterator[Digest]:
        """Every named blob, in any order; foreign files in the folders are passed over."""
        for algorithm in _ALGORITHMS:
            for name in os.listdir(f"{self._blobs}/{algorithm}"):
                with contextlib.suppress(InvalidArgument):
                    yield Digest(algorithm, name)

    def remove(self, digest: Digest) -> int:
        """Move the blob to the trash: constant time, whatever its size."""
        path = self._path(digest)
        try:
            size = os.stat(path, follow_symlinks=False).st_size
            os.rename(path, self._root / "trash" / secrets.token_hex(16))
        except FileNotFoundError:
            return 0
        return size

    def purge(self) -> None:
        """Empty the trash."""
        for entry in os.scandir(self._root / "trash"):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(FileNotFoundError):  # somebody else purges, too
                    os.unlink(entry.path)

    def close(self) -> None:
        """Unlock the store; idempotent."""
        while self._fds:
            os.close(self._fds.popitem()[1])
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _path(self, digest: Digest) -> str:
        return f"{self._blobs}/{digest.algorithm}/{digest.hex}"


class IngestFile:
    """An unfinished write as a file that is appended to."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._started = self._size

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of it; when the disk is full, go back to where this call began."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as e:
            os.ftruncate(self._fd, self._size)
            raise _mapped(e, "ingest") from e
        self._size += length
        if self._size - self._started >= _WRITEBACK:
            start_writeback(self._fd, self._started, self._size - self._started)
            self._started = self._size

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes."""
        os.ftruncate(self._fd, size)
        self._size = self._started = size

    def read(self) -> Iterator[bytes]:
        """All bytes from the beginning."""
        offset = 0
        while chunk := os.pread(self._fd, CHUNK_SIZE, offset):
            yield chunk
            offset += len(chunk)

    def sync(self) -> None:
        """Return when the bytes are on disk."""
        with _errors("ingest"):
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class BlobFile:
    """A blob as an open file; closes itself when nobody refers to it any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""
        return os.pread(self._fd, size, offset)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def _make_folder(root: Path, name: str) -> None:
    """Make a private folder whatever the umask, and its parents up to ``root``."""
    (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (root, root / name, (root / name).parent):
        path.chmod(0o700)


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(fd)
        raise Unavailable(f"content store {path.parent} is open in another process") from e
    return fd


def _replace(source: str, target: str) -> None:
    """Link over an existing name without a moment in which there is none."""
    aside = f"{target}.{secrets.token_hex(8)}"
    os.link(source, aside)
    try:
        os.rename(aside, target)
    finally:
        with contextlib.suppress(FileNotFoundError):  # rename of two links to one file leaves both
            os.unlink(aside)


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as e:
        raise _mapped(e, what) from e


def _mapped(error: OSError, what: str) -> Exception:
    message = f"{what}: {error.strerror}"
    if error.errno in _NO_SPACE:
        return ResourceExhausted(message)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(message)
    if error.errno == errno.EROFS:
        return FailedPrecondition(message)
    return error
