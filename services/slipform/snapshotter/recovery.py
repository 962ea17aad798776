"""What is put right when a snapshotter starts: rows and directories agree afterwards.

The daemon may have died between any two system calls. The rules of
``slipform.snapshotter.tenant`` leave only these traces: rows that were never made ready,
directories without a row, rows whose directory is in the trash, and mounts of an unpacking.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from slipform.core.linux.mounting import unmount
from slipform.snapshotter.flusher import boot_id

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.snapshotter.state import State

_log = logging.getLogger(__name__)


def recover(state: State) -> None:
    """Drop what is half there; keep all that was committed and is whole."""
    existing = set(state.driver.numbers())
    with state.transaction():
        for number, why in _broken(state, existing).items():
            _drop(state, number, why)
        known = state.catalog.numbers()
        for number in existing - known:
            state.driver.remove(number)
    state.driver.purge()


def _broken(state: State, existing: set[int]) -> dict[int, str]:
    boot = boot_id()
    unsynced = (number for number, made in state.catalog.unsynced().items() if made != boot)
    return {
        **dict.fromkeys(unsynced, "the machine went down before its data was on disk"),
        **dict.fromkeys(state.catalog.numbers() - existing, "its directory is gone"),
        **dict.fromkeys(state.catalog.unready(), ""),
    }


def _drop(state: State, number: int, why: str) -> None:
    """Remove rows of a snapshot and of all that stands on it; their directories follow."""
    for each, tenant, name in state.catalog.descendants([number]):
        if why:
            _log.warning('dropped snapshot "%s" of tenant "%s": %s', name, tenant, why)
        for lease in state.leases.holders(tenant, name):
            state.leases.remove(tenant, lease, [name])
        state.catalog.delete(each)


def clear_mountpoints(directory: Path) -> None:
    """Make the directory of temporary mount points, or empty it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for left in directory.iterdir():
        unmount(left)
        with contextlib.suppress(OSError):
            left.rmdir()
