"""A content store behind a channel; on the same host, its bytes come as open files."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from slipform.api.content.v1 import content_pb2 as pb
from slipform.api.content.v1 import content_pb2_grpc as pb_grpc
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import InvalidArgument, OutOfRange, Unavailable, Unsupported
from slipform.rpc.convert.content import info_from_pb, labels_to_pb, status_from_pb, text_to_pb
from slipform.rpc.convert.types import lease_from_pb
from slipform.rpc.metadata import tenant_metadata
from slipform.rpc.proxy.blob_files import BlobFile, BlobFiles
from slipform.rpc.proxy.ingest import RemoteIngest
from slipform.rpc.status import domain_errors, domain_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import grpc

    from slipform.core.content import BlobInfo, IngestStatus
    from slipform.core.leases import Lease
    from slipform.core.oci.digest import Digest

COLLECT_S: Final = 600.0
_BATCH: Final = 10_000

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class RemoteContentStore:
    """Satisfies ``ContentStore``: one tenant of the store that the channel leads to.

    ``read`` takes bytes from a descriptor when the server is on this host and has files, and
    from a stream otherwise. ``open_descriptor`` raises ``Unsupported`` in the latter case.

    Args:
        channel: stays the caller's.
        tenant: whose blobs.
        timeout_s: of every call except streams.
        descriptors: False always streams.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        tenant: str = DEFAULT_TENANT,
        timeout_s: float = 60.0,
        *,
        descriptors: bool = True,
    ) -> None:
        self._stub = pb_grpc.ContentServiceStub(channel)
        self._tenant = tenant
        self._metadata = tenant_metadata(tenant)
        self._timeout_s = timeout_s
        self._descriptors = BlobFiles(self._server_info) if descriptors else None

    def close(self) -> None:
        """Close the connection for descriptors, if there is one; not the channel."""
        if self._descriptors is not None:
            self._descriptors.forget()

    def info(self, digest: Digest) -> BlobInfo:
        """Raises ``NotFound``."""
        request = pb.GetInfoRequest(digest=str(digest))
        response = self._call(self._stub.GetInfo, request)
        return info_from_pb(response.info)

    def infos(self, digests: Iterable[Digest]) -> list[BlobInfo]:
        """Many blobs in few calls; absent ones are left out."""
        names = [str(digest) for digest in digests]
        found: list[BlobInfo] = []
        for start in range(0, len(names), _BATCH):
            request = pb.BatchGetInfoRequest(digests=names[start : start + _BATCH])
            response = self._call(self._stub.BatchGetInfo, request)
            found.extend(map(info_from_pb, response.infos))
        return found

    def read(self, digest: Digest, *, offset: int = 0, size: int = 0) -> Iterator[bytes]:
        """Chunks of at most ``CHUNK_SIZE``. Raises ``NotFound``, ``OutOfRange`` at once."""
        if offset < 0 or size < 0:
            raise InvalidArgument(f"offset {offset} and size {size}: want no less than 0")
        try:
            fd = self.open_descriptor(digest)
        except (Unsupported, Unavailable):
            return self._stream(digest, offset, size)
        blob = BlobFile(fd)
        if offset > blob.size:
            raise OutOfRange(f"blob {digest}: offset {offset} is past its end {blob.size}")
        return blob.chunks(offset, min(blob.size, offset + size) if size else blob.size)

    def open_descriptor(self, digest: Digest) -> int:
        """As ``SupportsDescriptors``.

        Raises:
            NotFound: no such blob.
            Unsupported: the server has no files, or is not on this host.
            Unavailable: its descriptor socket does not answer.
        """
        if self._descriptors is None:
            raise Unsupported("descriptors are turned off")
        return self._descriptors.open(self._tenant, digest)

    def ingest(self, ref: str, *, total: int = 0, expected: Digest | None = None) -> RemoteIngest:
        """Open or resume a write. Raises ``AlreadyExists``, ``Unavailable``."""
        return RemoteIngest(self._stub, self._metadata, ref, total, expected)

    def status(self, ref: str) -> IngestStatus:
        """Raises ``NotFound``."""
        request = pb.GetStatusRequest(ref=text_to_pb("ref", ref))
        response = self._call(self._stub.GetStatus, request)
        return status_from_pb(response.status)

    def statuses(self, prefix: str = "") -> list[IngestStatus]:
        """Unfinished writes, by ref."""
        request = pb.ListStatusesRequest(prefix=text_to_pb("prefix", prefix))
        response = self._call(self._stub.ListStatuses, request)
        return [status_from_pb(status) for status in response.statuses]

    def abort(self, ref: str) -> None:
        """Drop an unfinished write. Raises ``NotFound``, ``Unavailable``."""
        request = pb.AbortRequest(ref=text_to_pb("ref", ref))
        self._call(self._stub.Abort, request)

    def update_labels(self, digest: Digest, labels: Mapping[str, str]) -> BlobInfo:
        """Set the given labels, leave others alone; an empty value removes that label."""
        request = pb.UpdateLabelsRequest(digest=str(digest), labels=labels_to_pb(labels))
        response = self._call(self._stub.UpdateLabels, request)
        return info_from_pb(response.info)

    def walk(self, labels: Mapping[str, str] | None = None) -> Iterator[BlobInfo]:
        """Blobs by digest that carry all of ``labels``."""
        request = pb.ListRequest(labels=labels_to_pb(labels))
        call = self._stub.List(request, metadata=self._metadata)
        try:
            for response in domain_stream(call):
                yield from map(info_from_pb, response.infos)
        finally:
            call.cancel()

    def delete(self, digest: Digest) -> None:
        """Remove from this tenant. Raises ``NotFound``, ``FailedPrecondition``."""
        request = pb.DeleteRequest(digest=str(digest))
        self._call(self._stub.Delete, request)

    def collect(self) -> int:
        """Remove every blob of this tenant that no lease reaches; bytes freed on disk."""
        timeout_s = max(self._timeout_s, COLLECT_S)
        return self._call(self._stub.Collect, pb.CollectRequest(), timeout_s).freed

    def create_lease(
        self,
        lease_id: str,
        *,
        ttl: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Lease:
        """Make a lease. Raises ``AlreadyExists``."""
        request = pb.CreateLeaseRequest(
            id=text_to_pb("lease id", lease_id),
            ttl_ns=_ttl_ns(lease_id, ttl),
            labels=labels_to_pb(labels),
        )
        response = self._call(self._stub.CreateLease, request)
        return lease_from_pb(response.lease)

    def delete_lease(self, lease_id: str) -> None:
        """End a lease; idempotent."""
        request = pb.DeleteLeaseRequest(id=text_to_pb("lease id", lease_id))
        self._call(self._stub.DeleteLease, request)

    def list_leases(self) -> list[Lease]:
        """All leases that have not expired, oldest first."""
        response = self._call(self._stub.ListLeases, pb.ListLeasesRequest())
        return [lease_from_pb(lease) for lease in response.leases]

    def lease_resources(self, lease_id: str) -> list[str]:
        """What the lease holds, sorted. Raises ``NotFound``."""
        request = pb.ListLeaseResourcesRequest(id=text_to_pb("lease id", lease_id))
        response = self._call(self._stub.ListLeaseResources, request)
        return list(response.resources)

    def add_to_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold more; makes the lease when it does not exist."""
        names = [text_to_pb("leased resource", name) for name in resources]
        request = pb.AddToLeaseRequest(id=text_to_pb("lease id", lease_id), resources=names)
        self._call(self._stub.AddToLease, request)

    def remove_from_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold less. Raises ``NotFound`` when the lease does not exist."""
        names = [text_to_pb("leased resource", name) for name in resources]
        request = pb.RemoveFromLeaseRequest(id=text_to_pb("lease id", lease_id), resources=names)
        self._call(self._stub.RemoveFromLease, request)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        timeout_s: float = 0.0,
    ) -> _Response:
        with domain_errors():
            return method(request, timeout=timeout_s or self._timeout_s, metadata=self._metadata)

    def _stream(self, digest: Digest, offset: int, size: int) -> Iterator[bytes]:
        """Read by stream; waits for the first message, so that errors are raised at once."""
        request = pb.ReadRequest(digest=str(digest), offset=offset, size=size)
        call = self._stub.Read(request, metadata=self._metadata)
        messages = domain_stream(call)
        first = next(messages, None)
        return _data(call, first, messages)

    def _server_info(self) -> pb.GetServerInfoResponse:
        return self._call(self._stub.GetServerInfo, pb.GetServerInfoRequest())


def _data(
    call: grpc.Call, first: pb.ReadResponse | None, rest: Iterator[pb.ReadResponse]
) -> Iterator[bytes]:
    if first is None:
        return
    try:
        yield first.data
        for message in rest:
            yield message.data
    finally:
        call.cancel()


def _ttl_ns(lease_id: str, ttl: timedelta | None) -> int:
    if ttl is None:
        return 0
    if ttl <= timedelta(0):  # 0 on the wire means "without end"
        raise InvalidArgument(f'lease "{lease_id}": ttl must be positive, found {ttl}')
    return ttl // timedelta(microseconds=1) * 1000
