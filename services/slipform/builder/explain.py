"""Why the cache did not have a step: two documents compared, the answer in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from slipform.builder.listing import parse_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slipform.builder.cache import Document, Neighbour

# Nobody needs to be told that a first build, or one without the cache, runs its steps.
NEVER_BUILT: Final = ""
NO_CACHE: Final = ""
RESULT_GONE: Final = "its cached result has been removed"
_BASE: Final = ("chain/", "scratch")


def miss_reason(document: Document, listing: bytes, neighbours: Sequence[Neighbour]) -> str:
    """Compare with the nearest earlier result of the same place in a Dockerfile."""
    alike = [found for found in neighbours if found.document.get("op") == document.get("op")]
    if not alike:
        return NEVER_BUILT
    nearest = min(alike, key=lambda found: len(_differing(document, found.document)))
    return _explain(document, listing, nearest)


def _explain(document: Document, listing: bytes, before: Neighbour) -> str:
    fields = _differing(document, before.document)
    old = before.document
    if "args" in fields:
        return "the command changed"
    if "env" in fields:
        return f"environment changed: {_names(_pairs(document['env']), _pairs(old['env']))}"
    if "content" in fields:
        return _files(parse_lines(listing), parse_lines(before.listing))
    for name in ("mounts", "pipes", "files", "urls", "sources", "from"):
        if name in fields:
            return _WORDS[name]
    own = [name for name in fields if name not in ("rootfs", "op")]
    if own:
        return f"{own[0]} changed"
    if "rootfs" in fields:
        if str(document["rootfs"]).startswith(_BASE) or str(old["rootfs"]).startswith(_BASE):
            return "the base image changed"
        return "a step before it has a new result"
    return RESULT_GONE


_WORDS: Final = {
    "mounts": "what is mounted changed",
    "pipes": "the heredoc script changed",
    "files": "the heredoc file changed",
    "urls": "the remote file changed",
    "sources": "the list of sources changed",
    "from": "the stage it copies from has a new result",
}


def _differing(one: Document, other: Document) -> list[str]:
    names = sorted(set(one) | set(other))
    return [name for name in names if _plain(one.get(name)) != _plain(other.get(name))]


def _plain(value: Any) -> Any:
    """Tuples as the lists that they become in JSON."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _pairs(env: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in env)}


def _files(new: Mapping[str, bytes], old: Mapping[str, bytes]) -> str:
    if not new or not old:
        return "the files it copies changed"
    names = sorted(
        (name for name in new.keys() | old.keys() if new.get(name) != old.get(name)),
        # Name files rather than the directories that they are in.
        key=lambda name: (name == "", name),
    )
    if not names:
        return "the files it copies changed"
    first = names[0] or "the directory itself"
    what = "is new" if names[0] not in old else "is gone" if names[0] not in new else "changed"
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"file {first} {what}{more}"


def _names(new: Mapping[str, str], old: Mapping[str, str]) -> str:
    """Names only: values may be confidential."""
    names = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    return ", ".join(names) or "its order"
