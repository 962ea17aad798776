"""The snapshotter over gRPC: parse, call, convert."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from slipform.api.snapshot.v1 import snapshot_pb2 as pb
from slipform.api.snapshot.v1 import snapshot_pb2_grpc as pb_grpc
from slipform.core.errors import InvalidArgument
from slipform.core.oci.digest import Digest
from slipform.rpc.convert import snapshot as convert
from slipform.rpc.convert.types import descriptor_from_pb, lease_to_pb, mount_to_pb
from slipform.rpc.metadata import tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from slipform.core.snapshots import Snapshotter
    from slipform.snapshotter.store import Snapshots

LIST_BATCH: Final = 100


class SnapshotServicer(pb_grpc.SnapshotServiceServicer):
    """Answers for all tenants of one snapshotter."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def Prepare(
        self, request: pb.PrepareRequest, context: grpc.ServicerContext
    ) -> pb.PrepareResponse:
        """An active snapshot."""
        mounts = self._tenant(context).prepare(
            request.key, request.parent, labels=request.labels, lease=request.lease
        )
        return pb.PrepareResponse(mounts=map(mount_to_pb, mounts))

    def View(self, request: pb.ViewRequest, context: grpc.ServicerContext) -> pb.ViewResponse:
        """A read-only view."""
        mounts = self._tenant(context).view(
            request.key, request.parent, labels=request.labels, lease=request.lease
        )
        return pb.ViewResponse(mounts=map(mount_to_pb, mounts))

    def GetMounts(
        self, request: pb.GetMountsRequest, context: grpc.ServicerContext
    ) -> pb.GetMountsResponse:
        """How to mount it."""
        mounts = self._tenant(context).mounts(request.key)
        return pb.GetMountsResponse(mounts=map(mount_to_pb, mounts))

    def Commit(self, request: pb.CommitRequest, context: grpc.ServicerContext) -> pb.CommitResponse:
        """Freeze an active snapshot."""
        self._tenant(context).commit(
            request.name, request.key, labels=request.labels, lease=request.lease
        )
        return pb.CommitResponse()

    def Remove(self, request: pb.RemoveRequest, context: grpc.ServicerContext) -> pb.RemoveResponse:
        """Remove it and free its space."""
        self._tenant(context).remove(request.key)
        return pb.RemoveResponse()

    def Stat(self, request: pb.StatRequest, context: grpc.ServicerContext) -> pb.StatResponse:
        """What is known of it."""
        return pb.StatResponse(info=convert.info_to_pb(self._tenant(context).stat(request.key)))

    def UpdateLabels(
        self, request: pb.UpdateLabelsRequest, context: grpc.ServicerContext
    ) -> pb.UpdateLabelsResponse:
        """Set or remove single labels."""
        info = self._tenant(context).update_labels(request.key, request.labels)
        return pb.UpdateLabelsResponse(info=convert.info_to_pb(info))

    def List(
        self, request: pb.ListRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListResponse]:
        """Snapshots by name, in pages."""
        infos = self._tenant(context).walk(
            parent=request.parent if request.HasField("parent") else None,
            kind=convert.kind_from_pb(request.kind),
            labels=request.labels,
        )
        while page := list(itertools.islice(infos, LIST_BATCH)):
            yield pb.ListResponse(infos=map(convert.info_to_pb, page))

    def GetUsage(
        self, request: pb.GetUsageRequest, context: grpc.ServicerContext
    ) -> pb.GetUsageResponse:
        """Disk use without parents."""
        usage = self._tenant(context).usage(request.key)
        return pb.GetUsageResponse(size=usage.size, inodes=usage.inodes)

    def Apply(self, request: pb.ApplyRequest, context: grpc.ServicerContext) -> pb.ApplyResponse:
        """Unpack a layer."""
        if not request.HasField("layer"):
            raise InvalidArgument("layer is absent, want a descriptor")
        layer = descriptor_from_pb(request.layer)
        applied = self._tenant(context).apply(request.key, layer)
        return pb.ApplyResponse(diff_id=str(applied.diff_id), size=applied.size)

    def Diff(self, request: pb.DiffRequest, context: grpc.ServicerContext) -> pb.DiffResponse:
        """Make a layer."""
        clamp = request.clamp_mtime if request.HasField("clamp_mtime") else None
        tenant = self._tenant(context)
        return convert.diff_to_pb(tenant.diff(request.key, clamp_mtime=clamp, store=request.store))

    def RecordChain(
        self, request: pb.RecordChainRequest, context: grpc.ServicerContext
    ) -> pb.RecordChainResponse:
        """Remember a chain."""
        self._tenant(context).record_chain(convert.record_from_pb(request.record))
        return pb.RecordChainResponse()

    def FindChain(
        self, request: pb.FindChainRequest, context: grpc.ServicerContext
    ) -> pb.FindChainResponse:
        """Who holds a chain."""
        record = self._tenant(context).find_chain(Digest.parse(request.chain_id))
        return pb.FindChainResponse(record=convert.record_to_pb(record))

    def Collect(
        self, request: pb.CollectRequest, context: grpc.ServicerContext
    ) -> pb.CollectResponse:
        """Remove what nothing needs."""
        return pb.CollectResponse(freed=self._tenant(context).collect())

    def CreateLease(
        self, request: pb.CreateLeaseRequest, context: grpc.ServicerContext
    ) -> pb.CreateLeaseResponse:
        """Make a lease."""
        ttl = timedelta(microseconds=request.ttl_ns // 1000) if request.ttl_ns else None
        lease = self._tenant(context).create_lease(request.id, ttl=ttl, labels=request.labels)
        return pb.CreateLeaseResponse(lease=lease_to_pb(lease))

    def DeleteLease(
        self, request: pb.DeleteLeaseRequest, context: grpc.ServicerContext
    ) -> pb.DeleteLeaseResponse:
        """End a lease."""
        self._tenant(context).delete_lease(request.id)
        return pb.DeleteLeaseResponse()

    def ListLeases(
        self, request: pb.ListLeasesRequest, context: grpc.ServicerContext
    ) -> pb.ListLeasesResponse:
        """All leases."""
        leases = self._tenant(context).list_leases()
        return pb.ListLeasesResponse(leases=map(lease_to_pb, leases))

    def ListLeaseResources(
        self, request: pb.ListLeaseResourcesRequest, context: grpc.ServicerContext
    ) -> pb.ListLeaseResourcesResponse:
        """What a lease holds."""
        resources = self._tenant(context).lease_resources(request.id)
        return pb.ListLeaseResourcesResponse(resources=resources)

    def AddToLease(
        self, request: pb.AddToLeaseRequest, context: grpc.ServicerContext
    ) -> pb.AddToLeaseResponse:
        """Hold more."""
        self._tenant(context).add_to_lease(request.id, request.resources)
        return pb.AddToLeaseResponse()

    def RemoveFromLease(
        self, request: pb.RemoveFromLeaseRequest, context: grpc.ServicerContext
    ) -> pb.RemoveFromLeaseResponse:
        """Hold less."""
        self._tenant(context).remove_from_lease(request.id, request.resources)
        return pb.RemoveFromLeaseResponse()

    def _tenant(self, context: grpc.ServicerContext) -> Snapshotter:
        return self._snapshots.tenant(tenant_of(context))
