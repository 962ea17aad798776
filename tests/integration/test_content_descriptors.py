from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.content.store import Content
from slipform.core.errors import InvalidArgument, NotFound, Unavailable, Unsupported
from slipform.core.oci.digest import Digest
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.content.memory import MemoryBlobs
from slipform.rpc.descriptors import MAX_CONNECTIONS, MAX_PACKET, DescriptorClient, DescriptorServer
from slipform.testing.content import ABSENT, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.content import ContentStore


@pytest.fixture
def content(tmp_path: Path) -> Iterator[Content]:
    with contextlib.closing(
        Content(FilesystemBlobs(tmp_path / "store"), tmp_path / "db", grace=timedelta(0))
    ) as content:
        yield content


@pytest.fixture
def path(content: Content, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "fd.sock"
    with serving(DescriptorServer(content, path)):
        yield path


@contextlib.contextmanager
def serving(server: DescriptorServer) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@pytest.fixture
def client(content: Content, path: Path) -> Iterator[DescriptorClient]:
    with contextlib.closing(DescriptorClient(path, content.instance_id)) as client:
        yield client


def connect(path: Path) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    raw.settimeout(30)
    raw.connect(os.fspath(path))
    return raw


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_descriptor_is_the_blob_read_only_and_private(
    content: Content, client: DescriptorClient
) -> None:
    digest = put(content.tenant("t"), b"some bytes")
    fd, size = client.open("t", digest)
    try:
        assert size == 10
        assert os.pread(fd, 100, 0) == b"some bytes"
        assert not os.get_inheritable(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
    finally:
        os.close(fd)


def test_errors_keep_their_class(content: Content, client: DescriptorClient) -> None:
    digest = put(content.tenant("t"), b"x")
    with pytest.raises(NotFound, match=str(ABSENT)):
        client.open("t", ABSENT)
    with pytest.raises(NotFound):
        client.open("other", digest)
    for tenant in ("", "\ud800", "nul\0"):
        with pytest.raises(InvalidArgument):
            client.open(tenant, digest)
    os.close(client.open("t", digest)[0])


def test_the_socket_is_private_and_goes_with_the_server(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "fd.sock"
    server = DescriptorServer(content, path)
    with serving(server):
        assert path.stat().st_mode & 0o777 == 0o600
        assert [p.name for p in tmp_path.iterdir() if "fd.sock" in p.name] == ["fd.sock"]
    assert not path.exists()
    server.stop()


def test_a_live_socket_is_not_stolen_and_a_dead_one_is_replaced(
    content: Content, path: Path, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable):
        DescriptorServer(content, path).start()
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(os.fspath(dead))
    digest = put(content.tenant("t"), b"x")
    with (
        serving(DescriptorServer(content, dead)),
        contextlib.closing(DescriptorClient(dead, content.instance_id)) as client,
    ):
        os.close(client.open("t", digest)[0])


def test_a_path_longer_than_the_kernel_takes(content: Content, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    path = folder / "fd.sock"
    digest = put(content.tenant("t"), b"x")
    with (
        serving(DescriptorServer(content, path)),
        contextlib.closing(DescriptorClient(path, content.instance_id)) as client,
    ):
        os.close(client.open("t", digest)[0])


def test_peers_of_other_users_are_turned_away(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "fd.sock"
    digest = put(content.tenant("t"), b"x")
    with (
        serving(DescriptorServer(content, path, uids=frozenset({os.geteuid() + 1}))),
        contextlib.closing(DescriptorClient(path, content.instance_id)) as client,
        pytest.raises(Unavailable),
    ):
        client.open("t", digest)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"tenant": 1, "digest": 2}',
        b'{"tenant": "t", "digest": "sha256:../../../../etc/passwd"}',
        b'{"tenant": "t", "digest": "/etc/passwd"}',
        b"[" * (MAX_PACKET - 1),
    ],
)
def test_malformed_requests_are_answered(
    path: Path, content: Content, request_bytes: bytes
) -> None:
    good = put(content.tenant("t"), b"x")
    with connect(path) as raw:
        raw.send(request_bytes)
        assert json.loads(raw.recv(MAX_PACKET))["error"] == "InvalidArgument"
        raw.send(json.dumps({"tenant": "t", "digest": str(good)}).encode())
        data, fds, _, _ = socket.recv_fds(raw, MAX_PACKET, 1)
        os.close(fds[0])
        assert json.loads(data)["size"] == 1


def test_a_request_that_is_too_long_ends_the_connection(path: Path) -> None:
    with connect(path) as raw:
        raw.send(b"x" * (MAX_PACKET + 1))
        assert raw.recv(10) == b""


def test_descriptors_that_a_peer_sends_are_not_kept(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "fd.sock"
    before = open_fds()
    with serving(DescriptorServer(content, path)), connect(path) as raw, open(os.devnull) as null:
        rights = array.array("i", [null.fileno()] * 10)
        raw.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        assert "error" in json.loads(raw.recv(MAX_PACKET))
    assert open_fds() == before


def test_connections_are_bounded(path: Path, content: Content) -> None:
    digest = put(content.tenant("t"), b"x")
    request = json.dumps({"tenant": "t", "digest": str(digest)}).encode()
    with contextlib.ExitStack() as stack:
        served = 0
        for _ in range(MAX_CONNECTIONS + 5):
            raw = stack.enter_context(connect(path))
            try:
                raw.send(request)
                data, fds, _, _ = socket.recv_fds(raw, MAX_PACKET, 1)
            except OSError:
                continue
            for fd in fds:
                os.close(fd)
            served += bool(data)
        assert served == MAX_CONNECTIONS


def test_another_store_on_the_same_path_is_refused(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "fd.sock"
    digest = put(content.tenant("t"), b"x")
    before = open_fds()
    with (
        serving(DescriptorServer(content, path)),
        contextlib.closing(DescriptorClient(path, "another instance")) as client,
        pytest.raises(Unavailable, match="another store"),
    ):
        client.open("t", digest)
    assert open_fds() == before


@pytest.mark.parametrize("trick", ["writable", "directory", "size", "none", "nonsense", "silence"])
def test_a_client_checks_what_it_is_given(tmp_path: Path, trick: str) -> None:
    path = tmp_path / "fake.sock"
    (tmp_path / "file").write_bytes(b"x")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(os.fspath(path))
    listener.listen()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(MAX_PACKET)
            what = tmp_path if trick == "directory" else tmp_path / "file"
            fd = os.open(what, os.O_RDWR if trick == "writable" else os.O_RDONLY)
            size = 2 if trick == "size" else os.fstat(fd).st_size
            message = json.dumps({"instance": "i", "size": size}).encode()
            if trick == "nonsense":
                message = b"[" * 100
            if trick == "none":
                connection.send(message)
            elif trick != "silence":
                socket.send_fds(connection, [message], [fd])
            os.close(fd)

    thread = threading.Thread(target=answer)
    thread.start()
    with (
        listener,
        contextlib.closing(DescriptorClient(path, "i")) as client,
        pytest.raises(Unavailable),
    ):
        client.open("t", ABSENT)
    thread.join()


def test_a_client_finds_a_restarted_server(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "fd.sock"
    digest = put(content.tenant("t"), b"x")
    with contextlib.closing(DescriptorClient(path, content.instance_id)) as client:
        for _ in range(2):
            with serving(DescriptorServer(content, path)):
                os.close(client.open("t", digest)[0])
        with pytest.raises(Unavailable):
            client.open("t", digest)


def test_many_threads_share_a_client(content: Content, client: DescriptorClient) -> None:
    blobs = [put(content.tenant("t"), b"%d" % n * n) for n in range(1, 9)]
    failures: list[Digest] = []

    def ask(digest: Digest) -> None:
        for _ in range(50):
            fd, size = client.open("t", digest)
            data = os.pread(fd, 1 << 16, 0)
            os.close(fd)
            if Digest.of(data) != digest or len(data) != size:
                failures.append(digest)

    threads = [threading.Thread(target=ask, args=(digest,)) for digest in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_store_without_files_says_so(tmp_path: Path) -> None:
    path = tmp_path / "fd.sock"
    with contextlib.closing(Content(MemoryBlobs())) as content:
        store: ContentStore = content.tenant("t")
        digest = put(store, b"x")
        with (
            serving(DescriptorServer(content, path)),
            contextlib.closing(DescriptorClient(path, content.instance_id)) as client,
            pytest.raises(Unsupported),
        ):
            client.open("t", digest)
