"""Where a build reads from: its Dockerfile, its ignore file and its context."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.builder.tree import EmptyTree, follow
from slipform.core.context import FileEntry, SupportsFetch
from slipform.core.errors import InvalidArgument, NotFound, PermissionDenied
from slipform.core.folder import Folder
from slipform.core.patterns import IgnoreMatcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from slipform.builder.tree import SourceTree
    from slipform.core.build import BuildRequest
    from slipform.core.context import ContextSource

_MAX_DOCKERFILE: Final = 16 << 20
_DEFAULT: Final = "Dockerfile"
_IGNORE: Final = ".dockerignore"


@dataclass(frozen=True, slots=True)
class Opened:
    """The inputs of a build; ``root`` names the tree in the stat cache, "" remembers nothing."""

    dockerfile: bytes
    filename: str
    tree: SourceTree
    root: str

    def close(self) -> None:
        """Let go of the context."""
        if isinstance(self.tree, Folder):
            self.tree.close()


class ListedTree:
    """A context that came as a list; satisfies ``SourceTree`` and passes fetching on."""

    root = FileEntry("", stat.S_IFDIR | 0o755, 0, 0)

    def __init__(self, source: ContextSource) -> None:
        self._source = source
        self._children: dict[str, dict[str, FileEntry]] = {"": {}}
        for entry in source.entries():
            parent, _, name = entry.path.rpartition("/")
            above = self._children.get(parent)
            if above is None or name in ("", ".", "..") or "\0" in name:
                raise InvalidArgument(f'build context: unexpected entry "{entry.path}"')
            above[name] = entry
            if stat.S_ISDIR(entry.mode):
                self._children.setdefault(entry.path, {})

    def lookup(self, path: str) -> FileEntry | None:
        """The entry at a path."""
        if not path:
            return self.root
        parent, _, name = path.rpartition("/")
        return self._children.get(parent, {}).get(name)

    def children(self, path: str) -> Sequence[FileEntry]:
        """Entries of a directory, by name."""
        return [entry for _, entry in sorted(self._children.get(path, {}).items())]

    def open_directory(self, path: str) -> int:
        """No descriptor."""
        return -1

    def open_fd(self, entry: FileEntry, directory: int = -1) -> int:
        """The bytes, fetched if need be."""
        with self._source.open(entry.path) as file:
            try:
                return os.dup(file.fileno())
            except OSError:
                return _in_memory(file.read())

    def fetch(self, paths: Sequence[str]) -> None:
        """Ask the client for many files at once."""
        if isinstance(self._source, SupportsFetch):
            self._source.fetch(paths)


def open_inputs(request: BuildRequest, source: ContextSource | None) -> Opened:
    """Find the Dockerfile and open the context.

    Raises:
        NotFound: no such context or Dockerfile.
        InvalidArgument: both kinds of context, a bad ignore file, a Dockerfile that is too large.
    """
    if source is not None:
        if request.local_context is not None:
            raise InvalidArgument("a build has either a local context or a sent one, found both")
        tree = ListedTree(source)
        dockerfile = request.dockerfile
        name = request.dockerfile_name or _DEFAULT
        if dockerfile is None:
            dockerfile = _read_from(tree, name)
        return Opened(dockerfile, name, tree, getattr(source, "name", ""))
    if request.local_context is None:
        if request.dockerfile is None and request.dockerfile_path is None:
            raise InvalidArgument("a build without a context wants the Dockerfile itself")
        data, name, _ = _dockerfile(request, None)
        return Opened(data, name, EmptyTree(), "")
    path = request.local_context
    if not path.is_absolute():
        raise InvalidArgument(f'build context "{path}": want an absolute path')
    if not path.is_dir():
        raise NotFound(f'build context "{path}" is not a directory of the builder\'s host')
    data, name, beside = _dockerfile(request, path)
    folder = Folder(path, _ignore(beside, path))
    return Opened(data, name, folder, str(path))


def _dockerfile(request: BuildRequest, context: Path | None) -> tuple[bytes, str, Path | None]:
    """(text, name for messages, where it stands if it is a file)."""
    name = request.dockerfile_name or _DEFAULT
    place = context / name if context is not None else None
    if request.dockerfile is not None:
        return request.dockerfile, name, place
    if request.dockerfile_path is not None:
        path = request.dockerfile_path
        return _read(path), request.dockerfile_name or path.name, path
    assert context is not None and place is not None  # noqa: S101, PT018 - the caller looked
    folder = Folder(context)
    try:
        entry = follow(folder, name)
        if entry is None:
            raise NotFound(f'failed to read Dockerfile: "{name}" is not in "{context}"')
        if not stat.S_ISREG(entry.mode):
            raise InvalidArgument(f'failed to read Dockerfile: "{name}" is not a file')
        with folder.open(entry.path) as file:
            return _limited(file.read(_MAX_DOCKERFILE + 1), name), name, place
    finally:
        folder.close()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file.read(_MAX_DOCKERFILE + 1), str(path))
    except FileNotFoundError as e:
        raise NotFound(f'failed to read Dockerfile "{path}": no such file') from e
    except PermissionError as e:
        raise PermissionDenied(f'failed to read Dockerfile "{path}": permission denied') from e
    except OSError as e:
        raise InvalidArgument(f'failed to read Dockerfile "{path}": {e.strerror}') from e


def _read_from(tree: ListedTree, name: str) -> bytes:
    entry = follow(tree, name)
    if entry is None or not stat.S_ISREG(entry.mode):
        raise NotFound(f'failed to read Dockerfile: "{name}" is not in the build context')
    tree.fetch([entry.path])
    with open(tree.open_fd(entry), "rb") as file:
        return _limited(file.read(_MAX_DOCKERFILE + 1), name)


def _limited(data: bytes, name: str) -> bytes:
    if len(data) > _MAX_DOCKERFILE:
        raise InvalidArgument(f'Dockerfile "{name}" is larger than {_MAX_DOCKERFILE} bytes')
    return data


def _ignore(dockerfile: Path | None, context: Path) -> IgnoreMatcher | None:
    """``<Dockerfile>.dockerignore`` wins over the context's own; they are not merged."""
    beside = [dockerfile.with_name(f"{dockerfile.name}{_IGNORE}")] if dockerfile else []
    for path in (*beside, context / _IGNORE):
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            raise PermissionDenied(f'cannot read "{path}": {e.strerror}') from e
        matcher = IgnoreMatcher.parse(data, path.name)
        return matcher if matcher.patterns else None
    return None


def _in_memory(data: bytes) -> int:
    fd = os.memfd_create("context", os.MFD_CLOEXEC)
    with open(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
