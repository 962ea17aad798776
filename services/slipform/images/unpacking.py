"""Layers of an image become a chain of committed snapshots, each one once."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import Counter
from typing import TYPE_CHECKING

from slipform.core.errors import AlreadyExists, DigestMismatch, NotFound
from slipform.core.snapshots import ChainRecord
from slipform.images.catalog import LayerFacts
from slipform.images.holds import UNPACK_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.oci.digest import Digest
    from slipform.core.snapshots import Snapshotter
    from slipform.images.catalog import Catalog
    from slipform.images.documents import Documents, Layer
    from slipform.images.holds import Work

_ATTEMPTS = 3


class Unpacker:
    """Unpacks layers; two threads that want the same one do the work once."""

    def __init__(self, snapshotter: Snapshotter, catalog: Catalog) -> None:
        self._snapshotter = snapshotter
        self._catalog = catalog
        self._locks = _KeyedLocks()

    def unpack(self, documents: Documents, work: Work) -> tuple[str, ...]:
        """Make sure that every layer stands as a snapshot; their names, lowest first.

        All of them are held by ``work`` when this returns.

        Raises:
            NotFound: the blob of a layer that is not unpacked is not in the content store.
            InvalidArgument: a broken or hostile layer.
            DigestMismatch: a layer that is not what the config says.
        """
        names: list[str] = []
        for layer in documents.layers:
            parent = names[-1] if names else ""
            with self._locks.hold(layer.chain_id):
                names.append(self._known(layer, work) or self._make(layer, parent, work))
        return tuple(names)

    def _known(self, layer: Layer, work: Work) -> str:
        """The snapshot of a chain, held; "" when there is none."""
        for _ in range(_ATTEMPTS):
            try:
                name = self._snapshotter.find_chain(layer.chain_id).snapshot
                work.hold_snapshots([name])
                # It may have been collected before it was held.
                if self._snapshotter.find_chain(layer.chain_id).snapshot == name:
                    return name
            except NotFound:
                return ""
        return ""

    def _make(self, layer: Layer, parent: str, work: Work) -> str:
        key = f"unpack/{uuid.uuid4().hex}"
        name = f"chain/{layer.chain_id}"
        work.hold_snapshots([name])
        labels = {UNPACK_LABEL: str(layer.chain_id)}
        self._snapshotter.prepare(key, parent, labels=labels, lease=work.lease)
        committed = False
        try:
            size = self._apply(key, layer)
            with contextlib.suppress(AlreadyExists):
                self._snapshotter.commit(name, key, lease=work.lease)
                committed = True
        finally:
            if not committed:
                self._discard(key, work)
        self._snapshotter.record_chain(
            ChainRecord(layer.chain_id, name, layer.diff_id, size, regenerable=False)
        )
        return name

    def _apply(self, key: str, layer: Layer) -> int:
        applied = self._snapshotter.apply(key, layer.descriptor)
        if applied.diff_id != layer.diff_id:
            raise DigestMismatch(
                f"layer {layer.descriptor.digest}: holds {applied.diff_id}, want diff_id"
                f" {layer.diff_id}"
            )
        if not layer.is_plain:
            facts = LayerFacts(applied.diff_id, applied.size)
            self._catalog.remember_layer(layer.descriptor.digest, facts)
        return applied.size

    def _discard(self, key: str, work: Work) -> None:
        self._snapshotter.remove_from_lease(work.lease, [key])
        with contextlib.suppress(NotFound):
            self._snapshotter.remove(key)


class _KeyedLocks:
    """A lock per digest, for as long as somebody wants it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Digest, threading.Lock] = {}
        self._users: Counter[Digest] = Counter()

    @contextlib.contextmanager
    def hold(self, key: Digest) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
            self._users[key] += 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key], self._locks[key]
