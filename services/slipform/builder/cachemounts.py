"""``RUN --mount=type=cache``: directories that outlive builds and are in no layer and no key."""

from __future__ import annotations

import contextlib
import shutil
import threading
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Final

from slipform.builder.cache import canonical_digest
from slipform.core.errors import NotFound
from slipform.core.files import resolve_in_root
from slipform.core.plan import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.builder.flights import Flight
    from slipform.core.plan import RunMount

_POLL_S: Final = 0.05
"""Seconds between two looks at whether a build that waits for a locked mount was cancelled."""


class CacheMounts:
    """Cache directories below one directory; safe from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._free = threading.Condition()
        self._users: Counter[str] = Counter()

    @contextlib.contextmanager
    def use(
        self, mount: RunMount, origin: str, fill: Callable[[Path], None], flight: Flight
    ) -> Iterator[Path]:
        """The directory of a mount for the time of the block.

        ``shared`` lets others in, ``locked`` waits until it is alone, ``private`` takes one that
        nobody uses. The same id with another owner, mode or origin is another directory.

        Args:
            mount: the mount.
            origin: what the initial content is made of; "" is nothing.
            fill: puts the initial content into a new directory.
            flight: whose cancellation ends the waiting.
        """
        name = self._take(mount, _name(mount, origin), flight)
        try:
            path = self._made(name, mount, fill)
            if origin:
                yield path
                return
            inner = resolve_in_root(path, mount.source)
            place = path.joinpath(*inner.parts[1:])
            if not place.exists() and not place.is_symlink():
                place.mkdir(parents=True)
            if not place.is_dir():
                raise NotFound(f'RUN --mount=type=cache: source "{mount.source}" is no directory')
            yield place
        finally:
            with self._free:
                self._users[name] -= 1
                self._free.notify_all()

    def prune(self) -> int:
        """Remove the directories that nobody uses; returns bytes freed."""
        freed = 0
        with self._free:
            for path in list(self._directory.iterdir()):
                if self._users[path.name] == 0:
                    freed += _size(path)
                    shutil.rmtree(path, ignore_errors=True)
        return freed

    def _take(self, mount: RunMount, name: str, flight: Flight) -> str:
        with self._free:
            if mount.sharing is Sharing.PRIVATE:
                number = 0
                while self._users[f"{name}.{number}"]:
                    number += 1
                name = f"{name}.{number}"
            while mount.sharing is Sharing.LOCKED and self._users[name]:
                flight.check()
                self._free.wait(_POLL_S)
            self._users[name] += 1
        return name

    def _made(self, name: str, mount: RunMount, fill: Callable[[Path], None]) -> Path:
        path = self._directory / name
        with self._free:
            if path.is_dir():
                return path
        aside = self._directory / f".{uuid.uuid4().hex}"
        aside.mkdir()
        try:
            fill(aside)
            aside.chmod(0o755 if mount.mode is None else mount.mode)
            shutil.chown(aside, mount.uid, mount.gid)
            with self._free:
                if not path.is_dir():
                    aside.rename(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return path


def _name(mount: RunMount, origin: str) -> str:
    parts = [mount.id or mount.target, mount.uid, mount.gid, mount.mode, origin]
    if origin:
        parts.append(mount.source)
    return canonical_digest(parts)[:32]


def _size(path: Path) -> int:
    return sum(item.lstat().st_blocks * 512 for item in path.rglob("*"))
