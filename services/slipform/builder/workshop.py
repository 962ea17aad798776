"""The services and directories that steps work with, and how a step's result is kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from slipform.builder.cache import Record, canonical_digest
from slipform.builder.flights import Outcome
from slipform.core.errors import NotFound
from slipform.core.linux.mounting import mounted
from slipform.core.snapshots import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from slipform.builder.cache import BuildCache, Document
    from slipform.builder.statcache import StatCache
    from slipform.core.content import ContentStore
    from slipform.core.execution import Executor
    from slipform.core.images import ImageStore
    from slipform.core.mounts import Mount
    from slipform.core.snapshots import Snapshotter

PREFIX: Final = "build/"
"""Of snapshots and leases that live no longer than the step or build that made them."""
_LEASE: Final = "cache/"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make, name and remember one step's result.

    ``unique`` gives the result an identity of its own, so that later steps that ignore the cache
    no more than by being built on it run again too.
    """

    key: str
    place: str
    document: Document
    listing: bytes = b""
    unique: bool = False


@dataclass(slots=True)
class Workshop:
    """What every step needs; shared by all builds.

    ``shared_mounts`` says that the executor sees mounts that this process makes (one mount
    namespace); otherwise parts of other stages are copied before they are mounted into a RUN.
    """

    state: Path
    content: ContentStore
    snapshotter: Snapshotter
    executor: Executor
    images: ImageStore
    cache: BuildCache
    stats: StatCache
    shared_mounts: bool = False
    clock_ns: Callable[[], int] = time.time_ns
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _in_use: Counter[str] = field(default_factory=Counter)

    def prepare(self) -> None:
        """Make the directories, and remove what a process that died left behind."""
        for name in ("mounts", "builds", "cache-mounts"):
            (self.state / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_mount_points(self.state / "mounts")
        for left in (self.state / "builds").iterdir():
            shutil.rmtree(left, ignore_errors=True)
        for kind in (Kind.ACTIVE, Kind.VIEW):
            for info in list(self.snapshotter.walk(kind=kind)):
                if info.name.startswith(PREFIX):
                    self.snapshotter.remove(info.name)
        for lease in self.content.list_leases():
            if lease.id.startswith(PREFIX):
                self.content.delete_lease(lease.id)
        self._reconcile_leases()

    def make(
        self, recipe: Recipe, parent: str, fill: Callable[[tuple[Mount, ...]], None]
    ) -> Outcome:
        """Make a committed snapshot on ``parent`` and remember it; nothing is left on failure."""
        name = uuid.uuid4().hex
        key = f"{PREFIX}{name}"
        mounts = self.snapshotter.prepare(key, parent)
        lease = f"{_LEASE}{recipe.key}"
        try:
            fill(mounts)
            self.snapshotter.commit(f"step/{name}", key, lease=lease)
        except BaseException:
            with contextlib.suppress(NotFound):
                self.snapshotter.remove(key)
            raise
        identity = canonical_digest([recipe.key, name]) if recipe.unique else recipe.key
        return self._remember(recipe, f"step/{name}", identity, self.clock_ns())

    def alias(self, recipe: Recipe, found: Record) -> Outcome:
        """Let a result that was found by its content be found by this key too."""
        self.snapshotter.add_to_lease(f"{_LEASE}{recipe.key}", [found.snapshot])
        outcome = self._remember(recipe, found.snapshot, found.identity, found.created_ns)
        return Outcome(outcome.snapshot, outcome.identity, outcome.created_ns, cached=True)

    def find(self, key: str) -> Record | None:
        """The record of a key whose snapshot still exists."""
        record = self.cache.find(key)
        if record is None:
            return None
        try:
            self.snapshotter.stat(record.snapshot)
        except NotFound:
            self.cache.forget([key])
            return None
        return record

    def find_and_keep(self, key: str, keep: contextlib.ExitStack) -> Record | None:
        """As ``find``; what is found is kept from ``prune`` until ``keep`` is closed."""
        with self._lock:
            record = self.find(key)
            if record is not None:
                self._in_use[record.snapshot] += 1
        if record is not None:
            keep.callback(self._release, [record.snapshot])
        return record

    @contextlib.contextmanager
    def using(self, snapshots: Iterable[str]) -> Iterator[None]:
        """Keep cached snapshots from ``prune`` for the time of the block."""
        names = [name for name in snapshots if name]
        with self._lock:
            self._in_use.update(names)
        try:
            yield
        finally:
            self._release(names)

    def prune(self) -> int:
        """Forget every cached result that no running build uses; returns bytes freed."""
        with self._lock:
            unused = [r for r in self.cache.records() if not self._in_use[r.snapshot]]
            self.cache.forget([record.key for record in unused])
            self.cache.forget_results()
        for record in unused:
            self.snapshotter.delete_lease(f"{_LEASE}{record.key}")
        return self.snapshotter.collect()

    @contextlib.contextmanager
    def mounted(self, mounts: tuple[Mount, ...]) -> Iterator[Path]:
        """A root file system as a directory of this process."""
        target = self.state / "mounts" / uuid.uuid4().hex
        target.mkdir(mode=0o700)
        try:
            with mounted(mounts, target):
                yield target
        finally:
            target.rmdir()

    @contextlib.contextmanager
    def view(self, snapshot: str, *, writable: bool = False) -> Iterator[tuple[Mount, ...]]:
        """Mounts of a committed snapshot ("" = an empty root); what is written is discarded."""
        key = f"{PREFIX}{uuid.uuid4().hex}"
        if writable or not snapshot:
            mounts = self.snapshotter.prepare(key, snapshot)
        else:
            mounts = self.snapshotter.view(key, snapshot)
        try:
            yield mounts
        finally:
            self.snapshotter.remove(key)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private directory that is gone afterwards."""
        path = self.state / "builds" / uuid.uuid4().hex
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _release(self, names: list[str]) -> None:
        with self._lock:
            self._in_use.subtract(names)
            self._in_use += Counter()

    def _remember(self, recipe: Recipe, snapshot: str, identity: str, created_ns: int) -> Outcome:
        record = Record(recipe.key, identity, snapshot, created_ns)
        replaced = self.cache.add(record, recipe.place, recipe.document, recipe.listing)
        if replaced is not None:
            with contextlib.suppress(NotFound):
                self.snapshotter.remove_from_lease(f"{_LEASE}{recipe.key}", [replaced])
        return Outcome(snapshot, identity, created_ns)

    def _reconcile_leases(self) -> None:
        """End leases of results that were committed but not recorded before the process died."""
        known = {f"{_LEASE}{record.key}" for record in self.cache.records()}
        for lease in self.snapshotter.list_leases():
            if lease.id.startswith(_LEASE) and lease.id not in known:
                self.snapshotter.delete_lease(lease.id)


def _remove_mount_points(directory: Path) -> None:
    for left in directory.iterdir():
        # Something may still be mounted there in a namespace that outlived its process.
        with contextlib.suppress(OSError):
            os.rmdir(left)
