"""An image store over a channel."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from slipform.api.images.v1 import images_pb2 as pb
from slipform.api.images.v1 import images_pb2_grpc as pb_grpc
from slipform.core.content import CHUNK_SIZE, DEFAULT_TENANT
from slipform.core.errors import DomainError
from slipform.core.images import Unpacked
from slipform.rpc.convert.images import (
    details_from_pb,
    format_to_pb,
    history_from_pb,
    image_from_pb,
    removal_from_pb,
)
from slipform.rpc.convert.types import descriptor_to_pb, platform_to_pb, time_to_ns
from slipform.rpc.metadata import tenant_metadata
from slipform.rpc.status import domain_errors, domain_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    import grpc

    from slipform.api.types.v1 import types_pb2
    from slipform.core.images import ArchiveFormat, HistoryEntry, Image, ImageDetails, Removal
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.platform import Platform

DEFAULT_TIMEOUT_S: Final = 60.0


class RemoteImages:
    """An ``ImageStore`` elsewhere; also takes archives that lie on the server's host.

    Args:
        channel: to a server of ``ImagesService``; the caller closes it.
        tenant: whose images.
        timeout_s: of calls that move no layers; unpacking, archives and imports take what they
            need.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        tenant: str = DEFAULT_TENANT,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._stub = pb_grpc.ImagesServiceStub(channel)
        self._metadata = tenant_metadata(tenant)
        self._timeout_s = timeout_s

    def create(self, target: Descriptor, references: Sequence[str] = ()) -> Image:
        """As ``ImageStore.create``."""
        request = pb.CreateRequest(target=descriptor_to_pb(target), references=references)
        with domain_errors():
            response = self._stub.Create(request, self._timeout_s, self._metadata)
        return image_from_pb(response.image)

    def get(self, name: str, *, platform: Platform | None = None) -> ImageDetails:
        """As ``ImageStore.get``."""
        request = pb.GetRequest(name=name, platform=_platform(platform))
        with domain_errors():
            response = self._stub.Get(request, self._timeout_s, self._metadata)
        return details_from_pb(response.details)

    def list_images(self) -> list[Image]:
        """As ``ImageStore.list_images``."""
        call = self._stub.List(pb.ListRequest(), self._timeout_s, self._metadata)
        return [image_from_pb(image) for batch in domain_stream(call) for image in batch.images]

    def tag(self, source: str, target: str) -> None:
        """As ``ImageStore.tag``."""
        request = pb.TagRequest(source=source, target=target)
        with domain_errors():
            self._stub.Tag(request, self._timeout_s, self._metadata)

    def remove(self, name: str, *, force: bool = False) -> list[Removal]:
        """As ``ImageStore.remove``."""
        with domain_errors():
            response = self._stub.Remove(
                pb.RemoveRequest(name=name, force=force), metadata=self._metadata
            )
        return [removal_from_pb(removal) for removal in response.removals]

    def history(self, name: str) -> list[HistoryEntry]:
        """As ``ImageStore.history``."""
        with domain_errors():
            response = self._stub.GetHistory(
                pb.GetHistoryRequest(name=name), metadata=self._metadata
            )
        return [history_from_pb(entry) for entry in response.entries]

    def save(self, names: Sequence[str], archive: ArchiveFormat) -> Iterator[bytes]:
        """As ``ImageStore.save``; errors of names come with the first chunk."""
        request = pb.SaveRequest(names=names, format=format_to_pb(archive))
        call = self._stub.Save(request, metadata=self._metadata)
        try:
            for response in domain_stream(call):
                yield response.data
        finally:
            call.cancel()

    def load(self, archive: Iterable[bytes]) -> Iterator[Image]:
        """As ``ImageStore.load``."""
        feed = _Feed(archive)
        return self._load((pb.LoadRequest(data=data) for data in feed), feed)

    def load_file(self, path: Path) -> Iterator[Image]:
        """As ``load``, of an archive that the server reads in place; ``path`` is absolute."""
        return self._load(iter((pb.LoadRequest(path=str(path)),)), _Feed(()))

    def _load(self, requests: Iterator[pb.LoadRequest], feed: _Feed) -> Iterator[Image]:
        call = self._stub.Load(requests, metadata=self._metadata)
        try:
            for response in domain_stream(call):
                yield image_from_pb(response.image)
        except DomainError as e:
            feed.explain(e)
            raise
        finally:
            call.cancel()

    def import_rootfs(
        self,
        archive: Iterable[bytes],
        reference: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
        created: datetime | None = None,
    ) -> Image:
        """As ``ImageStore.import_rootfs``."""
        options = _options(reference, changes, message, platform, created)
        return self._import(options, archive)

    def import_file(
        self,
        path: Path,
        reference: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
        created: datetime | None = None,
    ) -> Image:
        """As ``import_rootfs``, of a tar that the server reads in place; ``path`` is absolute."""
        options = _options(reference, changes, message, platform, created)
        options.path = str(path)
        return self._import(options, ())

    def _import(self, options: pb.ImportOptions, archive: Iterable[bytes]) -> Image:
        first = pb.ImportRequest(options=options)
        feed = _Feed(archive)
        requests = chain((first,), (pb.ImportRequest(data=data) for data in feed))
        try:
            with domain_errors():
                response = self._stub.Import(requests, metadata=self._metadata)
        except DomainError as e:
            feed.explain(e)
            raise
        return image_from_pb(response.image)

    def unpack(self, name: str, *, platform: Platform | None = None) -> Unpacked:
        """As ``ImageStore.unpack``."""
        request = pb.UnpackRequest(name=name, platform=_platform(platform))
        with domain_errors():
            response = self._stub.Unpack(request, metadata=self._metadata)
        return Unpacked(details_from_pb(response.details), response.snapshot)


def _options(
    reference: str,
    changes: Sequence[str],
    message: str,
    platform: Platform | None,
    created: datetime | None,
) -> pb.ImportOptions:
    return pb.ImportOptions(
        reference=reference,
        changes=changes,
        message=message,
        platform=_platform(platform),
        created_at_ns=None if created is None else time_to_ns(created),
    )


def _platform(value: Platform | None) -> types_pb2.Platform | None:
    return None if value is None else platform_to_pb(value)


class _Feed:
    """The caller's chunks on their way out, cut to size; remembers how they failed.

    They are read in a thread of grpc, which swallows what they raise.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from _pieces(self._chunks)
        except (OSError, ValueError, DomainError) as e:
            self._error = e
            raise

    def explain(self, error: DomainError) -> None:
        """Raise what the chunks raised, when that is why the call failed."""
        if self._error is not None:
            raise self._error from error


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if len(chunk) <= CHUNK_SIZE:
            yield bytes(chunk)
        else:
            view = memoryview(chunk)
            yield from (bytes(view[i : i + CHUNK_SIZE]) for i in range(0, len(chunk), CHUNK_SIZE))
