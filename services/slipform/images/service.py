"""The image store over gRPC: parse, call, convert."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.api.images.v1 import images_pb2 as pb
from slipform.api.images.v1 import images_pb2_grpc as pb_grpc
from slipform.core.content import CHUNK_SIZE, DEFAULT_TENANT
from slipform.core.errors import InvalidArgument, NotFound, PermissionDenied
from slipform.rpc.convert.images import (
    details_to_pb,
    format_from_pb,
    history_to_pb,
    image_to_pb,
    removal_to_pb,
)
from slipform.rpc.convert.types import descriptor_from_pb, platform_from_pb, time_from_ns
from slipform.rpc.metadata import tenant_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc

    from slipform.core.images import Image, ImageStore
    from slipform.core.oci.platform import Platform

LIST_BATCH: Final = 200


class ImagesServicer(pb_grpc.ImagesServiceServicer):
    """Answers for the default tenant, and for others when it is told how to find them.

    Args:
        images: the default tenant's images.
        tenants: makes or finds another tenant's; None means that there are no others.
    """

    def __init__(
        self, images: ImageStore, tenants: Callable[[str], ImageStore] | None = None
    ) -> None:
        self._images = images
        self._tenants = tenants

    def Create(self, request: pb.CreateRequest, context: grpc.ServicerContext) -> pb.CreateResponse:
        """Record a manifest."""
        target = descriptor_from_pb(request.target)
        image = self._store(context).create(target, tuple(request.references))
        return pb.CreateResponse(image=image_to_pb(image))

    def Get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.GetResponse:
        """One image."""
        details = self._store(context).get(request.name, platform=_platform(request))
        return pb.GetResponse(details=details_to_pb(details))

    def List(
        self, request: pb.ListRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListResponse]:
        """All images."""
        found = map(image_to_pb, self._store(context).list_images())
        while batch := list(itertools.islice(found, LIST_BATCH)):
            yield pb.ListResponse(images=batch)

    def Tag(self, request: pb.TagRequest, context: grpc.ServicerContext) -> pb.TagResponse:
        """Point a reference at an image."""
        self._store(context).tag(request.source, request.target)
        return pb.TagResponse()

    def Remove(self, request: pb.RemoveRequest, context: grpc.ServicerContext) -> pb.RemoveResponse:
        """Untag, and perhaps delete."""
        removals = self._store(context).remove(request.name, force=request.force)
        return pb.RemoveResponse(removals=map(removal_to_pb, removals))

    def GetHistory(
        self, request: pb.GetHistoryRequest, context: grpc.ServicerContext
    ) -> pb.GetHistoryResponse:
        """What made the layers."""
        entries = self._store(context).history(request.name)
        return pb.GetHistoryResponse(entries=map(history_to_pb, entries))

    def Save(
        self, request: pb.SaveRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.SaveResponse]:
        """An archive."""
        chunks = self._store(context).save(tuple(request.names), format_from_pb(request.format))
        for chunk in chunks:
            yield pb.SaveResponse(data=chunk)

    def Load(
        self, request_iterator: Iterator[pb.LoadRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.LoadResponse]:
        """Read an archive."""
        first = next(request_iterator, None)
        chunks: Iterator[bytes]
        if first is None or not first.path:
            requests = itertools.chain(() if first is None else (first,), request_iterator)
            chunks = (request.data for request in requests)
        else:
            chunks = _file(first.path, context)
        for image in self._store(context).load(chunks):
            yield pb.LoadResponse(image=image_to_pb(image))

    def Import(
        self, request_iterator: Iterator[pb.ImportRequest], context: grpc.ServicerContext
    ) -> pb.ImportResponse:
        """Make an image of a tar."""
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("step") != "options":
            raise InvalidArgument("the first message of an import must be options")
        options = first.options
        chunks: Iterator[bytes]
        if options.path:
            chunks = _file(options.path, context)
        else:
            chunks = (request.data for request in request_iterator)
        return pb.ImportResponse(image=image_to_pb(self._import(options, chunks, context)))

    def Unpack(self, request: pb.UnpackRequest, context: grpc.ServicerContext) -> pb.UnpackResponse:
        """Make the layers a snapshot."""
        unpacked = self._store(context).unpack(request.name, platform=_platform(request))
        details = details_to_pb(unpacked.details)
        return pb.UnpackResponse(details=details, snapshot=unpacked.snapshot)

    def _import(
        self, options: pb.ImportOptions, chunks: Iterator[bytes], context: grpc.ServicerContext
    ) -> Image:
        has_time = options.HasField("created_at_ns")
        return self._store(context).import_rootfs(
            chunks,
            options.reference,
            changes=tuple(options.changes),
            message=options.message,
            platform=_platform(options),
            created=time_from_ns(options.created_at_ns) if has_time else None,
        )

    def _store(self, context: grpc.ServicerContext) -> ImageStore:
        tenant = tenant_of(context)
        if tenant == DEFAULT_TENANT:
            return self._images
        if self._tenants is None:
            raise NotFound(f'tenant "{tenant}" has no images here')
        return self._tenants(tenant)


def _platform(
    request: pb.GetRequest | pb.UnpackRequest | pb.ImportOptions,
) -> Platform | None:
    return platform_from_pb(request.platform) if request.HasField("platform") else None


def _file(path: str, context: grpc.ServicerContext) -> Iterator[bytes]:
    """A file of this host, for those who reached us through a socket of this host only.

    Who may use that socket is this user or root; anybody else would make us read what is not
    theirs.
    """
    if not context.peer().startswith("unix:"):
        raise PermissionDenied("a path is read for clients on this host only: send the bytes")
    if not Path(path).is_absolute():
        raise InvalidArgument(f'path "{path}" is not absolute')
    return _read_file(_open(path))


def _open(path: str) -> int:
    try:
        # Without O_NONBLOCK a named pipe would hold the thread until somebody writes.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as e:
        raise NotFound(f"{path}: no such file") from e
    except OSError as e:
        raise InvalidArgument(f"{path}: {e.strerror}") from e
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidArgument(f"{path}: is not a regular file")
    return descriptor


def _read_file(descriptor: int) -> Iterator[bytes]:
    with open(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_SIZE):
            yield chunk
