"""A snapshotter behind a channel."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from slipform.api.snapshot.v1 import snapshot_pb2 as pb
from slipform.api.snapshot.v1 import snapshot_pb2_grpc as pb_grpc
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import InvalidArgument
from slipform.rpc.convert import snapshot as convert
from slipform.rpc.convert.content import labels_to_pb, text_to_pb
from slipform.rpc.convert.types import descriptor_to_pb, lease_from_pb, mount_from_pb
from slipform.rpc.metadata import tenant_metadata
from slipform.rpc.status import domain_errors, domain_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import grpc

    from slipform.api.types.v1 import types_pb2
    from slipform.core.leases import Lease
    from slipform.core.mounts import Mount
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.digest import Digest
    from slipform.core.snapshots import (
        AppliedLayer,
        ChainRecord,
        Kind,
        LayerDiff,
        SnapshotInfo,
        Usage,
    )

LONG_S: Final = 3600.0
"""Calls whose work grows with the files of a snapshot."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class RemoteSnapshotter:
    """Satisfies ``Snapshotter``: one tenant of the snapshotter that the channel leads to.

    Args:
        channel: stays the caller's.
        tenant: whose snapshots.
        timeout_s: of calls that do not touch many files.
        long_timeout_s: of those that may (prepare, remove, usage, apply, diff, collect).
    """

    def __init__(
        self,
        channel: grpc.Channel,
        tenant: str = DEFAULT_TENANT,
        timeout_s: float = 60.0,
        *,
        long_timeout_s: float = LONG_S,
    ) -> None:
        self._stub = pb_grpc.SnapshotServiceStub(channel)
        self._metadata = tenant_metadata(tenant)
        self._timeout_s = timeout_s
        self._long_s = max(timeout_s, long_timeout_s)

    def prepare(
        self,
        key: str,
        parent: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> tuple[Mount, ...]:
        """Raises ``AlreadyExists``, ``NotFound``, ``FailedPrecondition``."""
        request = pb.PrepareRequest(
            key=_key(key), parent=_key(parent), labels=labels_to_pb(labels), lease=_lease(lease)
        )
        return _mounts(self._call(self._stub.Prepare, request, self._long_s).mounts)

    def view(
        self,
        key: str,
        parent: str,
        *,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> tuple[Mount, ...]:
        """Raises as ``prepare`` does."""
        request = pb.ViewRequest(
            key=_key(key), parent=_key(parent), labels=labels_to_pb(labels), lease=_lease(lease)
        )
        return _mounts(self._call(self._stub.View, request).mounts)

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """Raises ``NotFound``, ``FailedPrecondition``."""
        request = pb.GetMountsRequest(key=_key(key))
        return _mounts(self._call(self._stub.GetMounts, request).mounts)

    def commit(
        self, name: str, key: str, *, labels: Mapping[str, str] | None = None, lease: str = ""
    ) -> None:
        """Raises ``AlreadyExists``, ``NotFound``, ``FailedPrecondition``."""
        request = pb.CommitRequest(
            name=_key(name), key=_key(key), labels=labels_to_pb(labels), lease=_lease(lease)
        )
        self._call(self._stub.Commit, request)

    def remove(self, key: str) -> None:
        """Raises ``NotFound``, ``FailedPrecondition``."""
        self._call(self._stub.Remove, pb.RemoveRequest(key=_key(key)), self._long_s)

    def stat(self, key: str) -> SnapshotInfo:
        """Raises ``NotFound``."""
        response = self._call(self._stub.Stat, pb.StatRequest(key=_key(key)))
        return convert.info_from_pb(response.info)

    def update_labels(self, key: str, labels: Mapping[str, str]) -> SnapshotInfo:
        """Set the given labels, leave others alone; an empty value removes that label."""
        request = pb.UpdateLabelsRequest(key=_key(key), labels=labels_to_pb(labels))
        return convert.info_from_pb(self._call(self._stub.UpdateLabels, request).info)

    def walk(
        self,
        *,
        parent: str | None = None,
        kind: Kind | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[SnapshotInfo]:
        """Snapshots by name."""
        request = pb.ListRequest(
            parent=None if parent is None else _key(parent),
            kind=convert.kind_to_pb(kind),
            labels=labels_to_pb(labels),
        )
        call = self._stub.List(request, metadata=self._metadata)
        try:
            for response in domain_stream(call):
                yield from map(convert.info_from_pb, response.infos)
        finally:
            call.cancel()

    def usage(self, key: str) -> Usage:
        """Raises ``NotFound``."""
        request = pb.GetUsageRequest(key=_key(key))
        return convert.usage_from_pb(self._call(self._stub.GetUsage, request, self._long_s))

    def apply(self, key: str, layer: Descriptor) -> AppliedLayer:
        """Raises ``NotFound``, ``InvalidArgument``, ``DigestMismatch``."""
        request = pb.ApplyRequest(key=_key(key), layer=descriptor_to_pb(layer))
        return convert.applied_from_pb(self._call(self._stub.Apply, request, self._long_s))

    def diff(self, key: str, *, clamp_mtime: int | None = None, store: bool = False) -> LayerDiff:
        """Raises ``NotFound``, ``DigestMismatch``."""
        clamp = convert.clamp_to_pb(clamp_mtime)
        request = pb.DiffRequest(key=_key(key), clamp_mtime=clamp, store=store)
        return convert.diff_from_pb(self._call(self._stub.Diff, request, self._long_s))

    def record_chain(self, record: ChainRecord) -> None:
        """Raises ``NotFound``."""
        _key(record.snapshot)
        request = pb.RecordChainRequest(record=convert.record_to_pb(record))
        self._call(self._stub.RecordChain, request)

    def find_chain(self, chain_id: Digest) -> ChainRecord:
        """Raises ``NotFound``."""
        request = pb.FindChainRequest(chain_id=str(chain_id))
        return convert.record_from_pb(self._call(self._stub.FindChain, request).record)

    def collect(self) -> int:
        """Remove what nothing needs; bytes freed."""
        return self._call(self._stub.Collect, pb.CollectRequest(), self._long_s).freed

    def create_lease(
        self,
        lease_id: str,
        *,
        ttl: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Lease:
        """Raises ``AlreadyExists``."""
        request = pb.CreateLeaseRequest(
            id=_lease(lease_id), ttl_ns=_ttl_ns(lease_id, ttl), labels=labels_to_pb(labels)
        )
        return lease_from_pb(self._call(self._stub.CreateLease, request).lease)

    def delete_lease(self, lease_id: str) -> None:
        """End a lease; idempotent."""
        self._call(self._stub.DeleteLease, pb.DeleteLeaseRequest(id=_lease(lease_id)))

    def list_leases(self) -> list[Lease]:
        """All leases that have not expired, oldest first."""
        response = self._call(self._stub.ListLeases, pb.ListLeasesRequest())
        return [lease_from_pb(lease) for lease in response.leases]

    def lease_resources(self, lease_id: str) -> list[str]:
        """What the lease holds, sorted. Raises ``NotFound``."""
        request = pb.ListLeaseResourcesRequest(id=_lease(lease_id))
        return list(self._call(self._stub.ListLeaseResources, request).resources)

    def add_to_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold more; makes the lease when it does not exist."""
        names = [_key(name) for name in resources]
        request = pb.AddToLeaseRequest(id=_lease(lease_id), resources=names)
        self._call(self._stub.AddToLease, request)

    def remove_from_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold less. Raises ``NotFound`` when the lease does not exist."""
        names = [_key(name) for name in resources]
        request = pb.RemoveFromLeaseRequest(id=_lease(lease_id), resources=names)
        self._call(self._stub.RemoveFromLease, request)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        timeout_s: float = 0.0,
    ) -> _Response:
        with domain_errors():
            return method(request, timeout=timeout_s or self._timeout_s, metadata=self._metadata)


def _key(text: str) -> str:
    return text_to_pb("snapshot", text)


def _lease(text: str) -> str:
    return text_to_pb("lease id", text)


def _mounts(mounts: Iterable[types_pb2.Mount]) -> tuple[Mount, ...]:
    return tuple(map(mount_from_pb, mounts))


def _ttl_ns(lease_id: str, ttl: timedelta | None) -> int:
    if ttl is None:
        return 0
    if ttl <= timedelta(0):  # 0 on the wire means "without end"
        raise InvalidArgument(f'lease "{lease_id}": ttl must be positive, found {ttl}')
    return ttl // timedelta(microseconds=1) * 1000
