"""Which entries of a tree a COPY or ADD means, and where below the destination they go.

Sources are Go ``filepath.Match`` patterns relative to the root of the tree and cannot leave it.
Nothing is read here but names.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipform.builder.tree import follow
from slipform.core.errors import NotFound
from slipform.core.patterns import IgnoreMatcher, has_wildcards, match_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.builder.tree import SourceTree
    from slipform.core.context import FileEntry
    from slipform.core.plan import CopyOp


@dataclass(frozen=True, slots=True)
class Item:
    """One entry and its path below the destination; "" is the destination itself."""

    place: str
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Selected:
    """What one source came to.

    A directory's items are its contents, parents first, and ``directory`` is itself. A file's only
    item has its name as place: the writer may put it on the destination instead.
    """

    name: str
    directory: FileEntry | None
    items: tuple[Item, ...]
    placed: bool = False
    """Places are final and the destination is a directory (``--parents``)."""


def select(tree: SourceTree, op: CopyOp) -> list[Selected]:
    """Everything that the sources of ``op`` mean, in their order.

    A pattern that matches nothing selects nothing.

    Raises:
        NotFound: a source without wildcards does not exist.
        InvalidArgument: a malformed pattern.
    """
    excluded = IgnoreMatcher(op.excludes) if op.excludes else None
    chosen: list[Selected] = []
    for source in op.sources:
        pivot, pattern = _split_pivot(source) if op.parents else ("", clamp(source))
        found = list(_expand(tree, f"{pivot}/{pattern}" if pivot else pattern))
        for path in found:
            entry = follow(tree, path)
            if entry is None:
                raise NotFound(f'"/{path}": not found')
            if op.parents:
                chosen.append(_with_parents(tree, pivot, path, entry, excluded))
            else:
                chosen.append(_one(tree, path, entry, excluded))
    return [item for item in chosen if item.items or item.directory is not None]


def clamp(path: str) -> str:
    """A source path relative to the root, cleaned; ``..`` stops at the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def subtree(tree: SourceTree, path: str, place: str = "") -> Iterator[Item]:
    """Everything below a directory, parents first, in the order of names."""
    for entry in tree.children(path):
        where = (
            f"{place}/{entry.path.rpartition('/')[2]}" if place else entry.path.rpartition("/")[2]
        )
        yield Item(where, entry)
        if stat.S_ISDIR(entry.mode):
            yield from subtree(tree, entry.path, where)


def _one(tree: SourceTree, path: str, entry: FileEntry, excluded: IgnoreMatcher | None) -> Selected:
    name = path.rpartition("/")[2]
    if stat.S_ISDIR(entry.mode):
        items = subtree(tree, entry.path)
        return Selected(name, entry, tuple(_kept(items, excluded)))
    if excluded is not None and (excluded.excludes(name) or excluded.excludes(path)):
        return Selected(name, None, ())
    return Selected(name, None, (Item(name, entry),))


def _with_parents(
    tree: SourceTree, pivot: str, path: str, entry: FileEntry, excluded: IgnoreMatcher | None
) -> Selected:
    place = path[len(pivot) + 1 :] if pivot else path
    items = []
    parts = place.split("/") if place else []
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        parent = follow(tree, f"{pivot}/{above}")
        if parent is not None:
            items.append(Item(above, parent))
    if place:
        items.append(Item(place, entry))
    if stat.S_ISDIR(entry.mode):
        items += subtree(tree, entry.path, place)
    return Selected(place, None, tuple(_kept(items, excluded)), placed=True)


def _kept(items: Iterator[Item] | list[Item], excluded: IgnoreMatcher | None) -> Iterator[Item]:
    """Items that are not excluded, and directories that still hold one of those."""
    if excluded is None:
        yield from items
        return
    pending: list[Item] = []
    for item in items:
        while pending and not item.place.startswith(f"{pending[-1].place}/"):
            pending.pop()
        if excluded.excludes(item.place):
            if stat.S_ISDIR(item.entry.mode) and excluded.has_exceptions:
                pending.append(item)
            continue
        yield from pending
        pending.clear()
        yield item


def _split_pivot(source: str) -> tuple[str, str]:
    """``a/./b`` keeps only ``b`` below the destination: the first pivot counts."""
    before, found, after = source.lstrip("/").partition("/./")
    if not found:
        return "", clamp(source)
    return clamp(before), clamp(after)


def _expand(tree: SourceTree, pattern: str) -> Iterator[str]:
    """Paths a pattern matches, sorted; the pattern itself when it has no wildcards."""
    if not has_wildcards(pattern):
        yield pattern
        return
    yield from sorted(set(_descend(tree, "", pattern.split("/"))))


def _descend(tree: SourceTree, path: str, parts: list[str]) -> Iterator[str]:
    name, rest = parts[0], parts[1:]
    if name == "**":
        yield from _any_depth(tree, path, rest)
        return
    if not has_wildcards(name):
        matches = [name] if _child(tree, path, name) is not None else []
    else:
        above = follow(tree, path)
        inside = tree.children(above.path) if above and stat.S_ISDIR(above.mode) else ()
        names = (entry.path.rpartition("/")[2] for entry in inside)
        matches = [found for found in names if match_name(name, found)]
    for match in matches:
        inner = f"{path}/{match}" if path else match
        if rest:
            yield from _descend(tree, inner, rest)
        else:
            yield inner


def _any_depth(tree: SourceTree, path: str, rest: list[str]) -> Iterator[str]:
    here = follow(tree, path)
    if here is None or not stat.S_ISDIR(here.mode):
        return
    if rest:
        yield from _descend(tree, path, rest)
    for entry in tree.children(here.path):
        if stat.S_ISDIR(entry.mode):
            name = entry.path.rpartition("/")[2]
            yield from _any_depth(tree, f"{path}/{name}" if path else name, rest)
        elif not rest:
            yield entry.path


def _child(tree: SourceTree, path: str, name: str) -> FileEntry | None:
    return follow(tree, f"{path}/{name}")
