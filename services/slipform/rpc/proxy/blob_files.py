"""Blobs of a remote store as files of this host, when server and client share it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import DigestMismatch, Unavailable, Unsupported
from slipform.rpc.descriptors import DescriptorClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slipform.api.content.v1 import content_pb2 as pb
    from slipform.core.oci.digest import Digest


class BlobFiles:
    """Finds the descriptor socket of a server, and finds it again when the server restarts.

    Args:
        server_info: asks the server; called when the first blob is wanted.
    """

    def __init__(self, server_info: Callable[[], pb.GetServerInfoResponse]) -> None:
        self._server_info = server_info
        self._lock = threading.Lock()
        self._client: DescriptorClient | None = None
        self._absent = False

    def open(self, tenant: str, digest: Digest) -> int:
        """A descriptor of the blob.

        Raises:
            NotFound: no such blob.
            Unsupported: the server has none to give, or is on another host.
            Unavailable: nobody answers on the socket, or another store does.
        """
        client = self._found()
        try:
            return client.open(tenant, digest)[0]
        except Unavailable:
            self.forget()
            raise

    def forget(self) -> None:
        """Close the connection; the next blob asks the server again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _found(self) -> DescriptorClient:
        with self._lock:
            if self._client is None and not self._absent:
                server = self._server_info()
                path = Path(server.descriptors_path)
                if path.is_absolute() and path.is_socket():
                    self._client = DescriptorClient(path, server.instance_id)
                else:
                    self._absent = True
            if self._client is None:
                raise Unsupported("the content store hands out no files on this host")
            return self._client


class BlobFile:
    """An open blob; closes itself when nobody refers to it any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def chunks(self, offset: int, end: int) -> Iterator[bytes]:
        """Bytes from ``offset`` to ``end``, in chunks of at most ``CHUNK_SIZE``."""
        while offset < end:
            chunk = os.pread(self._fd, min(CHUNK_SIZE, end - offset), offset)
            if not chunk:
                raise DigestMismatch(f"a blob ends at {offset}, want {end} bytes")
            offset += len(chunk)
            yield chunk

    def __del__(self) -> None:
        os.close(self._fd)
