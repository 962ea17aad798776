"""From the kind and name of a driver in a configuration to the factory that makes it."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final, cast

from slipform.core.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

BUILTIN: Final = {
    "snapshot": {
        "overlay": "slipform.drivers.snapshot.overlay:OverlayDriver",
        "copy": "slipform.drivers.snapshot.copy:CopyDriver",
    },
    "content": {
        "filesystem": "slipform.drivers.content.filesystem:FilesystemBlobs",
        "memory": "slipform.drivers.content.memory:MemoryBlobs",
    },
    "executor": {
        "native": "slipform.drivers.executor.native:NativeDriver",
        "oci": "slipform.drivers.executor.oci:OciDriver",
    },
}
"""Third parties add theirs as entry points in the group ``slipform.drivers.<kind>``."""


def load(kind: str, name: str) -> Callable[..., object]:
    """Import a driver and return its factory (a class, mostly).

    Built-in names win: an installed package can add drivers, never take one over.

    Raises:
        NotFound: no such kind or driver; the message lists what exists.
        Unsupported: the driver of a third party can't be imported.
    """
    names(kind)  # an unknown kind is told apart from an unknown driver
    target = BUILTIN[kind].get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return cast("Callable[..., object]", getattr(importlib.import_module(module), attribute))
    entry = _foreign(kind).get(name)
    if entry is None:
        raise NotFound(f'no {kind} driver "{name}", there are: {", ".join(names(kind))}')
    try:
        return cast("Callable[..., object]", entry.load())
    except (ImportError, AttributeError) as e:
        raise Unsupported(f'{kind} driver "{name}" ({entry.value}) cannot be loaded: {e}') from e


def names(kind: str) -> list[str]:
    """Every driver of a kind, sorted, without importing any. Raises ``NotFound``."""
    if kind not in BUILTIN:
        raise NotFound(f'no driver kind "{kind}", there are: {", ".join(sorted(BUILTIN))}')
    return sorted({*BUILTIN[kind], *_foreign(kind)})


def _foreign(kind: str) -> dict[str, EntryPoint]:
    found = entry_points(group=f"slipform.drivers.{kind}")
    return {entry.name: entry for entry in found if entry.name not in BUILTIN[kind]}
