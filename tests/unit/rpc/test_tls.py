"""Mutual TLS: who may speak to whom, and what is said to the others."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from slipform.client import Client
from slipform.core.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from slipform.daemon.config import load_config
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.connecting import explained
from slipform.rpc.server import Server, Service
from slipform.rpc.status import domain_errors
from slipform.rpc.tls import TlsFiles, server_credentials, tls_files
from testkit.certificates import Authority, free_port

pytestmark = pytest.mark.requires("openssl")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> TlsFiles:
    return authority.issue("ours")


@pytest.fixture
def files(ours: TlsFiles, tmp_path: Path) -> TlsFiles:
    """A copy to spoil."""
    return TlsFiles(*(Path(shutil.copy(path, tmp_path)) for path in dataclasses.astuple(ours)))


@pytest.fixture
def serving() -> Iterator[Callable[[TlsFiles], str]]:
    servers = []

    def serve(files: TlsFiles) -> str:
        handlers: dict[str, Any] = {
            "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        }
        generic = grpc.method_handlers_generic_handler("test.Service", handlers)
        server = Server(
            [Service("test.Service", lambda to: to.add_generic_rpc_handlers((generic,)))]
        )
        servers.append(server)
        address = f"dns:127.0.0.1:{free_port()}"
        server.listen(Address.parse(address), files)
        server.start()
        return address

    yield serve
    for server in servers:
        server.stop(0)


def _call(channel: grpc.Channel) -> Any:
    return channel.unary_unary("/test.Service/Echo")


def _echo(address: str, tls: TlsFiles | None, data: bytes = b"hello") -> bytes:
    with open_channel(address, tls) as channel, domain_errors():
        echoed: bytes = _call(channel)(data, timeout=10)
        return echoed


def test_both_sides_of_one_authority_talk(
    serving: Callable[[TlsFiles], str], authority: Authority, ours: TlsFiles
) -> None:
    address = serving(ours)
    assert _echo(address, authority.issue("client", ("DNS:a-client",))) == b"hello"
    assert _echo(address.replace("127.0.0.1", "localhost"), ours) == b"hello"


def test_a_client_without_a_certificate_gets_no_answer(
    serving: Callable[[TlsFiles], str], ours: TlsFiles
) -> None:
    address = serving(ours)
    only_ca = grpc.ssl_channel_credentials(ours.ca.read_bytes())
    with (
        grpc.secure_channel(address, only_ca) as channel,
        pytest.raises(Unavailable, match="takes only clients whose certificate its CA has signed"),
        domain_errors(),
    ):
        _call(channel)(b"", timeout=10)


def test_plain_tcp_to_a_tls_port_gets_no_answer(
    serving: Callable[[TlsFiles], str], ours: TlsFiles
) -> None:
    address = serving(ours)
    with (
        grpc.insecure_channel(address) as channel,
        pytest.raises(Unavailable, match="closed the connection"),
        domain_errors(),
    ):
        _call(channel)(b"", timeout=10)


def test_a_client_of_another_authority_gets_no_answer(
    serving: Callable[[TlsFiles], str], ours: TlsFiles, tmp_path: Path
) -> None:
    stranger = Authority.make(tmp_path / "other", "other").issue("stranger")
    address = serving(ours)
    with pytest.raises(Unavailable, match="takes only clients whose certificate"):
        _echo(address, dataclasses.replace(stranger, ca=ours.ca))
    with pytest.raises(FailedPrecondition, match="its certificate is not valid by our CA"):
        _echo(address, stranger)


def test_a_server_with_anothers_name_is_not_believed(
    serving: Callable[[TlsFiles], str], authority: Authority, ours: TlsFiles
) -> None:
    address = serving(authority.issue("elsewhere", ("DNS:elsewhere.example",)))
    with pytest.raises(FailedPrecondition, match="certificate for another host"):
        _echo(address, ours)


def test_a_server_that_speaks_no_tls_is_told_nothing(ours: TlsFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"dns:127.0.0.1:{listener.getsockname()[1]}"
        with open_channel(address, ours) as channel:
            call = _call(channel).future(b"secret", timeout=10)
            connection, _ = listener.accept()
            with connection:
                heard = connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                with pytest.raises(FailedPrecondition, match="does not speak TLS"), domain_errors():
                    call.result()
    assert heard[:1] == b"\x16"
    assert b"secret" not in heard


def test_nobody_there_is_said_in_words(ours: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"^no server answers at 127.0.0.1:\d+: .*refused$"):
        _echo(f"dns:127.0.0.1:{free_port()}", ours)
    with pytest.raises(Unavailable, match=r"answers on unix:\S+none.sock: No such file"):
        _echo(f"unix:{tmp_path}/none.sock", None)


def test_a_name_that_means_nothing_is_said(ours: TlsFiles) -> None:
    with pytest.raises(Unavailable, match=r"^cannot resolve no-such-host.invalid:1: \w[^:\]]+$"):
        _echo("dns:no-such-host.invalid:1", ours)


def test_other_messages_are_left_alone() -> None:
    assert explained("content: failed to connect to all addresses") is None
    assert explained("the database is locked") is None


def test_tcp_without_tls_is_refused_on_both_ends() -> None:
    server = Server([])
    with pytest.raises(FailedPrecondition, match="TCP is served with mutual TLS only: configure"):
        server.listen(Address.parse("dns:127.0.0.1:1"))
    server.stop(0)
    with pytest.raises(FailedPrecondition, match="TCP is dialled with mutual TLS only"):
        open_channel("dns:127.0.0.1:1")
    with Client("dns:127.0.0.1:1") as client, pytest.raises(FailedPrecondition):
        client.info()


def test_a_taken_port_is_said(serving: Callable[[TlsFiles], str], ours: TlsFiles) -> None:
    address = serving(ours)
    second = Server([])
    with pytest.raises(Unavailable, match="the port is taken"):
        second.listen(Address.parse(address), ours)
    second.stop(0)


def _remove(path: Path) -> None:
    path.unlink()


def _make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _to_der(path: Path) -> None:
    path.write_bytes(os.urandom(500))


def _garble(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "not base64!", *lines[2:]]) + "\n")


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (_remove, NotFound, "does not exist"),
        (_make_a_folder, InvalidArgument, "cannot be read: Is a directory"),
        (_empty, InvalidArgument, "is not PEM: it holds no"),
        (_to_der, InvalidArgument, "is not PEM: it holds no"),
        (_garble, InvalidArgument, "is not PEM"),
    ],
)
def test_a_spoilt_file_is_named(
    files: TlsFiles,
    name: str,
    spoil: Callable[[Path], None],
    kind: type[DomainError],
    words: str,
) -> None:
    path: Path = getattr(files, name)
    spoil(path)
    for use in (server_credentials, lambda tls: open_channel("dns:127.0.0.1:1", tls)):
        with pytest.raises(kind, match=words) as caught:
            use(files)
        assert str(path) in str(caught.value)


def test_a_key_of_another_certificate_is_refused(files: TlsFiles, authority: Authority) -> None:
    shutil.copy(authority.issue("another").key, files.key)
    with pytest.raises(InvalidArgument, match="does not belong to the certificate in"):
        server_credentials(files)


def test_a_key_with_a_passphrase_is_refused_without_asking(files: TlsFiles) -> None:
    locked = files.key.with_name("locked.key")
    encrypt = ["openssl", "pkcs8", "-topk8", "-passout", "pass:secret"]
    subprocess.run([*encrypt, "-in", files.key, "-out", locked], check=True)
    with pytest.raises(InvalidArgument, match="has a passphrase"):
        server_credentials(dataclasses.replace(files, key=locked))


TABLE = '[tls]\nca = "ca.pem"\ncert = "/etc/cert.pem"\nkey = "keys/key.pem"\n'


def test_configuration_names_files_beside_itself(tmp_path: Path) -> None:
    file = tmp_path / "slipform.toml"
    file.write_text(TABLE)
    config = load_config(file, environment={"SLIPFORM_TLS_KEY": "/run/key.pem"})
    assert config.tls == TlsFiles(tmp_path / "ca.pem", Path("/etc/cert.pem"), Path("/run/key.pem"))
    assert load_config(None, environment={}).tls is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('tls = "yes"', r"\[tls\]: want a table, found str"),
        (f'{TABLE}verify = "no"', r'\[tls\]: unknown key "verify", want one of'),
        ('[tls]\nca = "ca.pem"\ncert = "c.pem"', r"\[tls\] key \(or SLIPFORM_TLS_KEY\) is not set"),
        ("[tls]\nca = 1", r"\[tls\] ca is 1, want the path of a file"),
        ('[tls]\nca = ""', r"\[tls\] ca is '', want the path of a file"),
    ],
)
def test_configuration_that_says_something_else(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "slipform.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=words) as caught:
        load_config(file, environment={})
    assert str(file) in str(caught.value)


def test_environment_alone_is_enough() -> None:
    environment = {f"SLIPFORM_TLS_{name}": f"/tls/{name}" for name in ("CA", "CERT", "KEY")}
    files = tls_files(None, environment, where="environment", base=Path("/"))
    assert files == TlsFiles(Path("/tls/CA"), Path("/tls/CERT"), Path("/tls/KEY"))
