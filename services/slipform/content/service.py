"""The content store over gRPC: parse, call, convert."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from slipform.api.content.v1 import content_pb2 as pb
from slipform.api.content.v1 import content_pb2_grpc as pb_grpc
from slipform.core.errors import InvalidArgument, NotFound, OutOfRange
from slipform.core.oci.digest import Digest
from slipform.rpc.convert.content import info_to_pb, status_to_pb
from slipform.rpc.convert.types import digest_from_pb, lease_to_pb
from slipform.rpc.metadata import tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import grpc

    from slipform.content.ingest import OpenIngest
    from slipform.content.store import Content
    from slipform.content.tenant import TenantStore

MAX_BATCH: Final = 10_000
LIST_BATCH: Final = 100


class ContentServicer(pb_grpc.ContentServiceServicer):
    """Answers for all tenants of one store.

    Args:
        content: the store.
        descriptors_path: where a ``DescriptorServer`` for it listens on this host; None is
            nowhere. Only told to clients when the store has files.
    """

    def __init__(self, content: Content, descriptors_path: Path | None = None) -> None:
        self._content = content
        self._descriptors_path = descriptors_path if content.has_descriptors else None

    def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetInfoResponse:
        """One blob."""
        info = self._store(context).info(Digest.parse(request.digest))
        return pb.GetInfoResponse(info=info_to_pb(info))

    def BatchGetInfo(
        self, request: pb.BatchGetInfoRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetInfoResponse:
        """Many blobs; absent ones are left out."""
        if len(request.digests) > MAX_BATCH:
            raise InvalidArgument(
                f"{len(request.digests)} digests in one call, at most {MAX_BATCH}"
            )
        store = self._store(context)
        response = pb.BatchGetInfoResponse()
        for digest in [Digest.parse(text) for text in request.digests]:
            try:
                response.infos.append(info_to_pb(store.info(digest)))
            except NotFound:
                continue
        return response

    def Read(
        self, request: pb.ReadRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadResponse]:
        """The bytes of a blob."""
        offset = request.offset
        digest = Digest.parse(request.digest)
        for chunk in self._store(context).read(digest, offset=offset, size=request.size):
            yield pb.ReadResponse(offset=offset, data=chunk)
            offset += len(chunk)

    def Write(
        self, request_iterator: Iterator[pb.WriteRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.WriteResponse]:
        """One write, from ``open`` to ``commit`` or the end of the stream."""
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("step") != "open":
            raise InvalidArgument("the first message of a write must be open")
        wanted = first.open
        expected = digest_from_pb(wanted.expected)
        store = self._store(context)
        with store.ingest(wanted.ref, total=wanted.total, expected=expected) as ingest:
            yield _standing(ingest)
            for request in request_iterator:
                step = request.WhichOneof("step")
                if step == "data":
                    _append(ingest, request.data)
                elif step == "commit":
                    yield _commit(ingest, request.commit)
                    return
                else:
                    _adjust(ingest, request, step)
                    yield _standing(ingest)

    def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetStatusResponse:
        """One unfinished write."""
        return pb.GetStatusResponse(status=status_to_pb(self._store(context).status(request.ref)))

    def ListStatuses(
        self, request: pb.ListStatusesRequest, context: grpc.ServicerContext
    ) -> pb.ListStatusesResponse:
        """Unfinished writes."""
        found = self._store(context).statuses(request.prefix)
        return pb.ListStatusesResponse(statuses=map(status_to_pb, found))

    def Abort(self, request: pb.AbortRequest, context: grpc.ServicerContext) -> pb.AbortResponse:
        """Drop an unfinished write."""
        self._store(context).abort(request.ref)
        return pb.AbortResponse()

    def UpdateLabels(
        self, request: pb.UpdateLabelsRequest, context: grpc.ServicerContext
    ) -> pb.UpdateLabelsResponse:
        """Set and remove labels."""
        digest = Digest.parse(request.digest)
        info = self._store(context).update_labels(digest, dict(request.labels))
        return pb.UpdateLabelsResponse(info=info_to_pb(info))

    def List(
        self, request: pb.ListRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListResponse]:
        """Blobs by digest."""
        found = map(info_to_pb, self._store(context).walk(dict(request.labels)))
        while batch := list(itertools.islice(found, LIST_BATCH)):
            yield pb.ListResponse(infos=batch)

    def Delete(self, request: pb.DeleteRequest, context: grpc.ServicerContext) -> pb.DeleteResponse:
        """Remove a blob from the tenant."""
        self._store(context).delete(Digest.parse(request.digest))
        return pb.DeleteResponse()

    def Collect(
        self, request: pb.CollectRequest, context: grpc.ServicerContext
    ) -> pb.CollectResponse:
        """Remove what no lease reaches."""
        return pb.CollectResponse(freed=self._store(context).collect())

    def CreateLease(
        self, request: pb.CreateLeaseRequest, context: grpc.ServicerContext
    ) -> pb.CreateLeaseResponse:
        """Make a lease."""
        ttl = timedelta(microseconds=request.ttl_ns / 1000) if request.ttl_ns else None
        lease = self._store(context).create_lease(request.id, ttl=ttl, labels=dict(request.labels))
        return pb.CreateLeaseResponse(lease=lease_to_pb(lease))

    def DeleteLease(
        self, request: pb.DeleteLeaseRequest, context: grpc.ServicerContext
    ) -> pb.DeleteLeaseResponse:
        """End a lease."""
        self._store(context).delete_lease(request.id)
        return pb.DeleteLeaseResponse()

    def ListLeases(
        self, request: pb.ListLeasesRequest, context: grpc.ServicerContext
    ) -> pb.ListLeasesResponse:
        """Leases, oldest first."""
        return pb.ListLeasesResponse(leases=map(lease_to_pb, self._store(context).list_leases()))

    def ListLeaseResources(
        self, request: pb.ListLeaseResourcesRequest, context: grpc.ServicerContext
    ) -> pb.ListLeaseResourcesResponse:
        """What a lease holds."""
        found = self._store(context).lease_resources(request.id)
        return pb.ListLeaseResourcesResponse(resources=found)

    def AddToLease(
        self, request: pb.AddToLeaseRequest, context: grpc.ServicerContext
    ) -> pb.AddToLeaseResponse:
        """Hold more."""
        self._store(context).add_to_lease(request.id, request.resources)
        return pb.AddToLeaseResponse()

    def RemoveFromLease(
        self, request: pb.RemoveFromLeaseRequest, context: grpc.ServicerContext
    ) -> pb.RemoveFromLeaseResponse:
        """Hold less."""
        self._store(context).remove_from_lease(request.id, request.resources)
        return pb.RemoveFromLeaseResponse()

    def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetServerInfoResponse:
        """How to get descriptors."""
        path = self._descriptors_path
        return pb.GetServerInfoResponse(
            descriptors_path="" if path is None else str(path.absolute()),
            instance_id=self._content.instance_id,
        )

    def _store(self, context: grpc.ServicerContext) -> TenantStore:
        return self._content.tenant(tenant_of(context))


def _standing(ingest: OpenIngest) -> pb.WriteResponse:
    return pb.WriteResponse(offset=ingest.offset, digest=str(ingest.digest()))


def _append(ingest: OpenIngest, data: pb.WriteData) -> None:
    if data.offset != ingest.offset:
        raise OutOfRange(f"data at offset {data.offset}, want {ingest.offset}")
    ingest.write(data.data)


def _adjust(ingest: OpenIngest, request: pb.WriteRequest, step: str | None) -> None:
    if step == "truncate":
        ingest.truncate(request.truncate.size)
    elif step != "stat":
        raise InvalidArgument(f"a write cannot go on with {step or 'an empty message'}")


def _commit(ingest: OpenIngest, wanted: pb.WriteCommit) -> pb.WriteResponse:
    info = ingest.commit(
        size=wanted.size,
        expected=digest_from_pb(wanted.expected),
        labels=dict(wanted.labels),
        lease=wanted.lease,
    )
    return pb.WriteResponse(offset=info.size, digest=str(info.digest), info=info_to_pb(info))
