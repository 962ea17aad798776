"""A context that a client sends: a list first, then the files that are asked for.

Bytes are staged in a directory that is given, under numbers, and are gone with it.
"""

from __future__ import annotations

import posixpath
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from slipform.core.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from slipform.core.context import FileEntry

_MOST_ENTRIES: Final = 4_000_000
"""About 2 GiB of list; no source tree comes near it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a wanted file; ``error`` says that it cannot be sent."""

    index: int
    data: bytes
    last: bool
    error: str = ""


class SentContext:
    """Satisfies ``ContextSource`` and ``SupportsFetch``; safe from several threads.

    Args:
        name: names the same folder in later builds, "" remembers nothing.
        entries: the list, read when first asked for.
        ask: makes the client send files, by their places in the list.
        directory: where they are staged.
    """

    def __init__(
        self,
        name: str,
        entries: Iterator[FileEntry],
        ask: Callable[[Sequence[int]], Iterator[Piece]],
        directory: Path,
    ) -> None:
        self.name = f"sent:{name}" if name else ""
        self._entries = entries
        self._ask = ask
        self._directory = directory
        self._lock = threading.RLock()
        self._list: list[FileEntry] | None = None
        self._places: dict[str, int] = {}
        self._staged: set[int] = set()

    def entries(self) -> Iterator[FileEntry]:
        """As ``ContextSource.entries``."""
        return iter(self._listed())

    def stat(self, path: str) -> FileEntry:
        """As ``ContextSource.stat``."""
        return self._listed()[self._place(path)]

    def open(self, path: str) -> BinaryIO:
        """As ``ContextSource.open``."""
        self.fetch([path])
        return (self._directory / str(self._place(path))).open("rb")

    def fetch(self, paths: Sequence[str]) -> None:
        """As ``SupportsFetch.fetch``."""
        with self._lock:
            wanted = [place for place in map(self._place, paths) if place not in self._staged]
            if wanted:
                self._receive(list(dict.fromkeys(wanted)))

    def _receive(self, wanted: list[int]) -> None:
        pieces = self._ask(wanted)
        for place in wanted:
            entry = self._listed()[place]
            if self._stage(place, pieces, entry.size) != entry.size:
                raise Conflict(f'"/{entry.path}" of the build context changed during the build')
            self._staged.add(place)

    def _stage(self, place: int, pieces: Iterator[Piece], limit: int) -> int:
        size = 0
        with (self._directory / str(place)).open("wb") as file:
            for piece in pieces:
                if piece.error:
                    raise Conflict(f"build context: {piece.error}")
                if piece.index != place:
                    raise InvalidArgument(f"build context: file {piece.index} was not asked for")
                size += file.write(piece.data)
                if size > limit:
                    # Also what keeps a client from filling the disk beyond what it announced.
                    return size
                if piece.last:
                    return size
        raise Unavailable("the client went away before it had sent its build context")

    def _listed(self) -> list[FileEntry]:
        with self._lock:
            if self._list is None:
                self._list, self._places = _checked(self._entries)
            return self._list

    def _place(self, path: str) -> int:
        self._listed()
        place = self._places.get(path)
        if place is None:
            raise NotFound(f'"/{path}": not found')
        return place


def _checked(entries: Iterator[FileEntry]) -> tuple[list[FileEntry], dict[str, int]]:
    """A client's list as a list: each path once, below a directory that stands before it."""
    listed: list[FileEntry] = []
    places: dict[str, int] = {}
    for place, entry in enumerate(entries):
        if place >= _MOST_ENTRIES:
            raise ResourceExhausted(f"build context: more than {_MOST_ENTRIES} files")
        if entry.path in places:
            raise InvalidArgument(f'build context: "{entry.path}" is listed twice')
        parent = posixpath.dirname(entry.path)
        if parent and (parent not in places or not stat.S_ISDIR(listed[places[parent]].mode)):
            raise InvalidArgument(
                f'build context: "{entry.path}" is listed without its directory before it'
            )
        listed.append(entry)
        places[entry.path] = place
    return listed, places
