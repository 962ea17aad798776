"""What clients of other languages may do to the content service, and what they get."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from slipform.api.content.v1 import content_pb2 as pb
from slipform.api.content.v1 import content_pb2_grpc
from slipform.content.service import ContentServicer
from slipform.content.store import Content
from slipform.core.oci.digest import Digest
from slipform.drivers.content.memory import MemoryBlobs
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.server import Server, Service
from slipform.testing.content import ABSENT, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def content() -> Iterator[Content]:
    with contextlib.closing(Content(MemoryBlobs(), grace=timedelta(0))) as content:
        yield content


@pytest.fixture
def stub(content: Content, tmp_path: Path) -> Iterator[content_pb2_grpc.ContentServiceStub]:
    servicer = ContentServicer(content, tmp_path / "fd.sock")
    service = Service(
        "slipform.api.content.v1.ContentService",
        lambda server: content_pb2_grpc.add_ContentServiceServicer_to_server(servicer, server),
    )
    server = Server([service], reflection=False)
    address = Address(path=tmp_path / "api.sock")
    server.listen(address)
    server.start()
    try:
        with open_channel(str(address)) as channel:
            yield content_pb2_grpc.ContentServiceStub(channel)
    finally:
        server.stop(1)


def opening(ref: str, **announced: str | int) -> pb.WriteRequest:
    return pb.WriteRequest(open=pb.WriteOpen(ref=ref, **announced))  # type: ignore[arg-type]


def data(offset: int, chunk: bytes) -> pb.WriteRequest:
    return pb.WriteRequest(data=pb.WriteData(offset=offset, data=chunk))


COMMIT = pb.WriteRequest(commit=pb.WriteCommit())
STAT = pb.WriteRequest(stat=pb.WriteStat())


def code(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    call: Any = error.value  # an RpcError and a Call at once, which no static type can say
    found: grpc.StatusCode = call.code()
    return found


def test_a_write_without_waiting_for_any_answer(stub: content_pb2_grpc.ContentServiceStub) -> None:
    steps = [opening("r"), data(0, b"abc"), STAT, data(3, b""), data(3, b"def"), COMMIT]
    answers = list(stub.Write(iter(steps)))
    assert [answer.offset for answer in answers] == [0, 3, 6]
    assert [answer.digest for answer in answers] == [
        str(Digest.of(part)) for part in (b"", b"abc", b"abcdef")
    ]
    assert answers[-1].info.size == 6
    assert not answers[0].HasField("info")


def test_resuming_at_the_offset_that_open_tells(stub: content_pb2_grpc.ContentServiceStub) -> None:
    list(stub.Write(iter([opening("r"), data(0, b"abc")])))
    assert stub.GetStatus(pb.GetStatusRequest(ref="r")).status.offset == 3
    answers = list(stub.Write(iter([opening("r"), data(3, b"def"), COMMIT])))
    assert [answer.offset for answer in answers] == [3, 6]


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT),
        ([data(0, b"x")], grpc.StatusCode.INVALID_ARGUMENT),
        ([COMMIT], grpc.StatusCode.INVALID_ARGUMENT),
        ([pb.WriteRequest()], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening("r"), pb.WriteRequest()], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening("r"), opening("r")], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening("")], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening("r", total=-1)], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening("r", expected="sha256:../../x")], grpc.StatusCode.INVALID_ARGUMENT),
        ([opening("r"), data(1, b"x")], grpc.StatusCode.OUT_OF_RANGE),
        ([opening("r"), data(-1, b"x")], grpc.StatusCode.OUT_OF_RANGE),
        ([opening("r", total=1), data(0, b"xy")], grpc.StatusCode.OUT_OF_RANGE),
        (
            [opening("r"), pb.WriteRequest(truncate=pb.WriteTruncate(size=1))],
            grpc.StatusCode.OUT_OF_RANGE,
        ),
        (
            [opening("r"), pb.WriteRequest(truncate=pb.WriteTruncate(size=-1))],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            [opening("r"), pb.WriteRequest(commit=pb.WriteCommit(size=5))],
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
        (
            [opening("r"), pb.WriteRequest(commit=pb.WriteCommit(expected=str(ABSENT)))],
            grpc.StatusCode.DATA_LOSS,
        ),
    ],
)
def test_faults_of_a_write(
    stub: content_pb2_grpc.ContentServiceStub,
    steps: list[pb.WriteRequest],
    status: grpc.StatusCode,
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Write(iter(steps)))
    assert code(error) == status
    list(stub.Write(iter([opening("r")])))  # and the ref is free


def test_a_client_that_vanishes_frees_its_ref(
    stub: content_pb2_grpc.ContentServiceStub, content: Content
) -> None:
    gone, hang = threading.Event(), threading.Event()

    def steps() -> Iterator[pb.WriteRequest]:
        yield opening("r")
        yield data(0, b"abc")
        yield STAT
        hang.wait(30)

    call = stub.Write(steps())
    assert [next(call).offset, next(call).offset] == [0, 3]
    released = content.released

    def watch(ingest: object) -> None:
        released(ingest)  # type: ignore[arg-type]
        gone.set()

    content.released = watch  # type: ignore[method-assign]
    call.cancel()
    assert gone.wait(30)
    hang.set()
    with content.tenant("default").ingest("r") as ingest:
        assert ingest.offset == 3


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32]
)
def test_malformed_digests(stub: content_pb2_grpc.ContentServiceStub, digest: str) -> None:
    for use in (
        lambda: stub.GetInfo(pb.GetInfoRequest(digest=digest)),
        lambda: list(stub.Read(pb.ReadRequest(digest=digest))),
        lambda: stub.Delete(pb.DeleteRequest(digest=digest)),
        lambda: stub.BatchGetInfo(pb.BatchGetInfoRequest(digests=[digest])),
        lambda: stub.UpdateLabels(pb.UpdateLabelsRequest(digest=digest)),
        lambda: stub.AddToLease(pb.AddToLeaseRequest(id="l", resources=[digest])),
    ):
        with pytest.raises(grpc.RpcError) as error:
            use()
        assert code(error) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("tenant", ["", "../x", "UPPER", "x" * 64, "a b"])
def test_malformed_tenants(stub: content_pb2_grpc.ContentServiceStub, tenant: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stub.ListStatuses(pb.ListStatusesRequest(), metadata=(("slipform-tenant", tenant),))
    assert code(error) == grpc.StatusCode.INVALID_ARGUMENT


def test_read_numbers_its_messages_from_the_start_of_the_blob(
    stub: content_pb2_grpc.ContentServiceStub, content: Content
) -> None:
    digest = put(content.tenant("default"), bytes(3 << 20))
    answers = list(stub.Read(pb.ReadRequest(digest=str(digest), offset=5)))
    assert [answer.offset for answer in answers] == [5, 5 + (1 << 20), 5 + (2 << 20)]
    assert sum(len(answer.data) for answer in answers) == (3 << 20) - 5


def test_list_comes_in_batches(stub: content_pb2_grpc.ContentServiceStub, content: Content) -> None:
    for n in range(201):
        put(content.tenant("default"), b"%d" % n)
    batches = [len(answer.infos) for answer in stub.List(pb.ListRequest())]
    assert batches == [100, 100, 1]


def test_batch_leaves_out_what_is_absent(
    stub: content_pb2_grpc.ContentServiceStub, content: Content
) -> None:
    digests = [str(put(content.tenant("default"), data)) for data in (b"a", b"b")]
    request = pb.BatchGetInfoRequest(digests=[digests[1], str(ABSENT), digests[0]])
    infos = stub.BatchGetInfo(request).infos
    assert [info.digest for info in infos] == [digests[1], digests[0]]
    with pytest.raises(grpc.RpcError) as error:
        stub.BatchGetInfo(pb.BatchGetInfoRequest(digests=[str(ABSENT)] * 10_001))
    assert code(error) == grpc.StatusCode.INVALID_ARGUMENT


def test_a_store_without_files_tells_no_path(
    stub: content_pb2_grpc.ContentServiceStub, content: Content
) -> None:
    answer = stub.GetServerInfo(pb.GetServerInfoRequest())
    assert answer.descriptors_path == ""
    assert answer.instance_id == content.instance_id
