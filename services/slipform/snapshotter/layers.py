"""Layers into snapshots and snapshots into layers."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.core.errors import AlreadyExists, DigestMismatch, FailedPrecondition, NotFound
from slipform.core.linux.mounting import mounted
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.media_types import OCI_LAYER
from slipform.core.snapshots import Kind, LayerDiff
from slipform.layer.tar_writer import write_layer
from slipform.snapshotter.faults import disk_errors
from slipform.snapshotter.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slipform.core.content import ContentStore
    from slipform.core.mounts import Mount
    from slipform.core.snapshots import AppliedLayer
    from slipform.snapshotter.catalog import Row
    from slipform.snapshotter.state import State


class LayerWork:
    """``apply`` and ``diff`` for all tenants.

    Args:
        state: metadata and driver.
        mountpoints: a directory of ours for temporary mount points.
    """

    def __init__(self, state: State, mountpoints: Path) -> None:
        self._state = state
        self._mountpoints = mountpoints
        self._turns: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)

    def apply(
        self, tenant: str, key: str, layer: Descriptor, content: ContentStore
    ) -> AppliedLayer:
        """As ``Snapshotter.apply``; nobody else works on the snapshot meanwhile."""
        with contextlib.ExitStack() as stack:
            with self._state.reading():
                row = self._state.require_active(tenant, key)
                stack.enter_context(self._state.in_use.writing(row.number, key))
                parents = self._state.catalog.parents(row.parent)
            mounts = self._state.driver.mounts(row.number, parents, read_only=False)
            with disk_errors(f'apply {layer.digest} to "{key}"'), self._root(mounts) as root:
                return unpack(content, layer, root)

    @contextlib.contextmanager
    def _root(self, mounts: Sequence[Mount]) -> Iterator[Path]:
        """The root that the mounts make; a single bind mount is its source already."""
        if len(mounts) == 1 and mounts[0].type == "bind":
            yield Path(mounts[0].source)
            return
        target = Path(tempfile.mkdtemp(dir=self._mountpoints))
        try:
            with mounted(mounts, target):
                yield target
        finally:
            target.rmdir()

    def diff(
        self, tenant: str, key: str, clamp_mtime: int | None, content: ContentStore | None
    ) -> LayerDiff:
        """As ``Snapshotter.diff``; with ``content`` the tar is stored there."""
        with contextlib.ExitStack() as stack:
            with self._state.reading():
                row = self._state.require(tenant, key)
                if row.kind is Kind.VIEW:
                    raise FailedPrecondition(f'snapshot "{key}" is a view: it has no changes')
                stack.enter_context(self._state.in_use.reading(row.number, key))
                parents = self._state.catalog.parents(row.parent)
            if row.kind is Kind.ACTIVE:
                return self._write(row, parents, clamp_mtime, content, None)
            # Whoever asks for the same at the same time waits, and then finds it remembered.
            stack.enter_context(self._turn(row.number))
            return self._committed_diff(row, parents, clamp_mtime, content)

    @contextlib.contextmanager
    def _turn(self, number: int) -> Iterator[None]:
        with self._state.lock:
            turn = self._turns[number]
        with turn:
            yield
        with self._state.lock:
            self._turns.pop(number, None)

    def _committed_diff(
        self,
        row: Row,
        parents: Sequence[int],
        clamp_mtime: int | None,
        content: ContentStore | None,
    ) -> LayerDiff:
        with self._state.reading():
            known = self._state.chains.diff(row.number, clamp_mtime)
        if known is not None and (content is None or _is_stored(content, known)):
            return known if content is None else _stored(known)
        made = self._write(row, parents, clamp_mtime, content, known)
        if known is None:
            with self._state.transaction():
                self._state.chains.remember_diff(row.number, clamp_mtime, made)
        return made

    def _write(
        self,
        row: Row,
        parents: Sequence[int],
        clamp_mtime: int | None,
        content: ContentStore | None,
        known: LayerDiff | None,
    ) -> LayerDiff:
        with disk_errors(f'diff of snapshot "{row.name}"'):
            changes = self._state.driver.changes(row.number, parents)
            if content is None:
                made = write_layer(changes, None, clamp_mtime=clamp_mtime)
                return LayerDiff(made.diff_id, made.size)
            with contextlib.ExitStack() as cleanup:
                ref = f"layer-{row.number}-{'' if clamp_mtime is None else clamp_mtime}"
                ingest = cleanup.enter_context(content.ingest(ref))
                cleanup.callback(_abort, content, ref)
                cleanup.callback(ingest.close)
                ingest.truncate()  # what a process that died left under this ref
                made = write_layer(changes, ingest, clamp_mtime=clamp_mtime)
                if known is not None and known.diff_id != made.diff_id:
                    raise DigestMismatch(
                        f'snapshot "{row.name}" was changed behind our back: its layer was'
                        f" {known.diff_id}, now it is {made.diff_id}"
                    )
                with contextlib.suppress(AlreadyExists):
                    ingest.commit(size=made.size, expected=made.diff_id)
                return _stored(LayerDiff(made.diff_id, made.size))


def _abort(content: ContentStore, ref: str) -> None:
    with contextlib.suppress(NotFound):
        content.abort(ref)


def _is_stored(content: ContentStore, diff: LayerDiff) -> bool:
    try:
        content.info(diff.diff_id)
    except NotFound:
        return False
    return True


def _stored(diff: LayerDiff) -> LayerDiff:
    return LayerDiff(diff.diff_id, diff.size, Descriptor(OCI_LAYER, diff.diff_id, diff.size))
