"""The snapshotter's core: all tenants' snapshots over one driver."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Any

from slipform.core.errors import FailedPrecondition
from slipform.snapshotter.faults import disk_errors
from slipform.snapshotter.flusher import Flusher
from slipform.snapshotter.layers import LayerWork
from slipform.snapshotter.recovery import clear_mountpoints, recover
from slipform.snapshotter.schema import open_metadata
from slipform.snapshotter.state import State
from slipform.snapshotter.tenant import TenantSnapshots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slipform.core.content import ContentStore
    from slipform.core.snapshot_driver import SnapshotDriver
    from slipform.core.snapshots import Snapshotter


class Snapshots:
    """Snapshots of all tenants, in one directory that no other process uses.

    Opening recovers from any death of the last process. The process should have called
    ``slipform.core.linux.mounting.private_mount_namespace`` before: unpacking mounts.

    Args:
        root: an existing directory; ``metadata.db`` and the driver's directories lie here.
        driver: was made for the same ``root``.
        content: where layers are read from and written to: one store for every tenant, or a
            function from a tenant's name to its store.
        clock_ns: nanoseconds since the epoch; given by tests.
        flush_delay_s: how long a commit may wait until its data is sent to the disk.

    Raises:
        FailedPrecondition: another process uses ``root``, or the metadata is damaged.
    """

    def __init__(
        self,
        root: Path,
        driver: SnapshotDriver[Any],
        content: ContentStore | Callable[[str], ContentStore],
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        flush_delay_s: float = 5.0,
    ) -> None:
        self._content = content if callable(content) else lambda _tenant: content
        self._lock_fd = _lock(root)
        try:
            connection = open_metadata(root / "metadata.db")
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._state = State(root, driver, connection, clock_ns)
        self._flusher = Flusher(self._state, flush_delay_s)
        self._state.on_commit = self._flusher.notify
        try:
            with disk_errors(f"open {root}"):
                clear_mountpoints(root / "mounts")
                recover(self._state)
        except BaseException:
            self._close_files()
            raise
        self._layers = LayerWork(self._state, root / "mounts")

    def tenant(self, name: str) -> Snapshotter:
        """One tenant's view; tenants exist as soon as they are named."""
        return TenantSnapshots(self._state, self._layers, name, self._content(name))

    def flush(self) -> None:
        """Return when everything committed so far would survive a power cut."""
        with disk_errors("flush snapshots"):
            self._flusher.flush()

    def close(self) -> None:
        """Flush and let go; idempotent. Calls that still run fail with ``FailedPrecondition``."""
        if self._lock_fd < 0:
            return
        self._flusher.stop()
        try:
            self.flush()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self._state.close()
        os.close(self._lock_fd)
        self._lock_fd = -1


def _lock(root: Path) -> int:
    """Own ``root``: recovery would remove what another process is making there."""
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(fd)
        raise FailedPrecondition(f"another process uses the snapshots in {root}") from e
    return fd
