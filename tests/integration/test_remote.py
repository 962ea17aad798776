"""A daemon on another host, as far as anyone can tell: TCP with mutual TLS."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from slipform.client import Client
from slipform.core.build import BuildRequest, BuildSucceeded
from slipform.core.context import FileEntry
from slipform.core.folder import Folder
from slipform.rpc.address import Address
from slipform.rpc.server import Server
from slipform.rpc.tls import TlsFiles
from testkit.builds import EPOCH, Sample
from testkit.certificates import Authority, free_port
from testkit.slipform import SERVICES, Slipform, embedded, served

pytestmark = [pytest.mark.root, pytest.mark.requires("openssl", "busybox")]

DOCKERFILE: Final = """\
FROM scratch
COPY bin/busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY src /src
RUN cat /src/deep/er/file > /copied
COPY settings.ini other* /etc/app/
CMD ["/bin/sh", "-c", "cat /copied /etc/app/settings.ini; readlink /src/link; find /src | sort"]
"""
AGE_NS: Final = 60_000_000_000
SHOWN: Final = """\
first
colour=red
deep/er/file
/src
/src/deep
/src/deep/er
/src/deep/er/file
/src/kept.log
/src/link
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    root = tmp_path / "context"
    (root / "src/deep/er").mkdir(parents=True)
    (root / "bin").mkdir()
    shutil.copy(busybox, root / "bin/busybox")
    (root / "src/deep/er/file").write_text("first\n")
    (root / "src/link").symlink_to("deep/er/file")
    (root / "settings.ini").write_text("colour=red\n")
    # What is ignored is neither listed nor copied, what nobody copies is listed and not sent.
    (root / "src/noise.log").write_text("ignored")
    (root / "src/kept.log").write_text("")
    (root / "src/secret").mkdir()
    (root / "src/secret/key").write_text("ignored")
    (root / "unused").write_bytes(bytes(3 << 20))
    (root / ".dockerignore").write_text("**/*.log\n!src/kept.log\nsrc/secret\n")
    (root / "Dockerfile").write_text(DOCKERFILE)
    return root


@dataclasses.dataclass(frozen=True)
class Remote:
    """A daemon behind TCP, and a command line that has nothing but its address and certificate."""

    address: str
    tls: TlsFiles
    cli: Slipform

    def with_tls(self, tls: TlsFiles) -> Slipform:
        return dataclasses.replace(self.cli, env={"SLIPFORM_HOST": self.address, **variables(tls)})


def variables(tls: TlsFiles) -> dict[str, str]:
    return {
        f"SLIPFORM_TLS_{field.name.upper()}": str(getattr(tls, field.name))
        for field in dataclasses.fields(tls)
    }


def table(tls: TlsFiles) -> str:
    return f'[tls]\nca = "{tls.ca}"\ncert = "{tls.cert}"\nkey = "{tls.key}"\n'


@pytest.fixture
def remote(tmp_path: Path, authority: Authority) -> Iterator[Remote]:
    address = f"dns:127.0.0.1:{free_port()}"
    config = tmp_path / "server.toml"
    config.write_text(f'address = "{address}"\n{table(authority.issue("server"))}')
    tls = authority.issue("client", ("DNS:a-client",))
    # Were the address not used, a daemon of this data directory would be started.
    elsewhere = tmp_path / "no-daemon-here"
    cli = Slipform(elsewhere, {"SLIPFORM_HOST": address, **variables(tls)})
    with served(Slipform(tmp_path / "server", {"SLIPFORM_CONFIG": str(config)})):
        yield Remote(address, tls, cli)
    assert not elsewhere.exists()


def test_the_same_image_as_from_a_context_on_the_same_host(
    remote: Remote, context: Path, tmp_path: Path
) -> None:
    def identity(slipform: Slipform, *flags: str) -> str:
        slipform.run(*flags, "build", "-t", "app", context, env={"SOURCE_DATE_EPOCH": EPOCH})
        return slipform.text(*flags, "inspect", "-f", "{{.Id}}", "app")

    unaddressed = dataclasses.replace(remote.cli, env=variables(remote.tls))
    with embedded(tmp_path / "local") as local:
        assert identity(remote.cli) == identity(local)
        assert remote.cli.text("run", "--rm", "--network=none", "app") == SHOWN
        (context / "src/deep/er/file").write_text("second\n")
        assert identity(unaddressed, "--host", remote.address) == identity(local)
    shown = remote.cli.text("run", "--rm", "--network=none", "app")
    assert shown == SHOWN.replace("first", "second")


def test_one_changed_file_runs_again_only_what_depends_on_it(remote: Remote, context: Path) -> None:
    assert _cached(remote.cli, context) == set()
    (context / "settings.ini").write_text("colour=blue\n")
    first = {"COPY bin/busybox /bin/busybox", 'RUN ["/bin/busybox", "--install", "-s", "/bin"]'}
    assert _cached(remote.cli, context) == {
        *first, "COPY src /src", "RUN cat /src/deep/er/file > /copied",
    }  # fmt: skip
    (context / "src/deep/er/file").write_text("changed\n")
    assert _cached(remote.cli, context) == first
    # The name and the bytes count, not when they were written.
    shutil.copy(context / "settings.ini", context / "new")
    (context / "new").replace(context / "settings.ini")
    assert len(_cached(remote.cli, context)) == 5


def _cached(slipform: Slipform, context: Path) -> set[str]:
    """Which steps of a build came from the cache."""
    lines = slipform.text("build", "--progress=json", "-t", "app", context).splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "StepEvent"]
    return {event["name"].partition("] ")[2] for event in steps if event["state"] == "cached"}


class Watched(Folder):
    """A folder that remembers which files were read, and whose files are not brand-new.

    The builder trusts no time stamp of the last two seconds.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.opened: list[str] = []

    def entries(self) -> Iterator[FileEntry]:
        for entry in super().entries():
            mtime_ns, ctime_ns = entry.mtime_ns - AGE_NS, entry.ctime_ns - AGE_NS
            yield dataclasses.replace(entry, mtime_ns=mtime_ns, ctime_ns=ctime_ns)

    def open(self, path: str) -> BinaryIO:
        self.opened.append(path)
        return super().open(path)


def test_only_wanted_files_are_sent_and_each_once(remote: Remote, context: Path) -> None:
    def sent() -> list[str]:
        folder = Watched(context)
        with Client(remote.address, tls=remote.tls) as client:
            events = list(client.builder.build(BuildRequest(dockerfile=text), folder))
        folder.close()
        assert isinstance(events[-1], BuildSucceeded), events[-1]
        return sorted(folder.opened)

    text = b"FROM scratch\nCOPY src/deep /deep\nCOPY settings.ini /\n"
    assert sent() == ["settings.ini", "src/deep/er/file"]
    assert sent() == []
    (context / "settings.ini").write_text("colour=green\n")
    assert sent() == ["settings.ini"]


def test_a_dockerfile_from_elsewhere_and_one_from_stdin(
    remote: Remote, context: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "Other.Dockerfile"
    outside.write_text("FROM scratch\nCOPY settings.ini /\n")
    remote.cli.run("build", "-f", outside, "-t", "outside", context)
    remote.cli.run("build", "-t", "piped", "-", stdin=b"FROM scratch\nLABEL a=b\n")
    assert remote.cli.text("inspect", "-f", "{{json .Config.Labels}}", "piped") == '{"a":"b"}\n'
    failed = remote.cli.run(
        "build", "-f", "-", context, stdin=b"FROM scratch\nCOPY src/secret/key /\n", check=False
    )
    assert failed.returncode == 1
    assert b"src/secret/key" in failed.stderr


def test_images_save_load_run(remote: Remote, busybox_sample: Sample, tmp_path: Path) -> None:
    cli = remote.cli
    cli.run("build", "-t", "sample:1", busybox_sample.context)
    assert cli.text("images").splitlines()[1].split()[:2] == ["sample", "1"]
    archive = tmp_path / "sample.tar"
    cli.run("save", "-o", archive, "sample:1")
    with tarfile.open(archive) as tar:
        assert "manifest.json" in tar.getnames()
    cli.run("rmi", "sample:1")
    assert cli.text("images", "-q") == ""
    assert cli.text("load", "-i", archive) == "Loaded image: sample:1\n"
    assert cli.text("run", "--rm", "--network=none", "sample:1", "over TCP") == "over TCP\n"
    words = ["run", "--rm", "-i", "--network=none", "--entrypoint", "sh", "sample:1", "-c"]
    done = cli.run(*words, "cat; exit 3", stdin=b"fed\n", check=False)
    assert (done.returncode, done.stdout) == (3, b"fed\n")


def test_strangers_are_refused_in_one_sentence(
    remote: Remote, authority: Authority, context: Path, tmp_path: Path
) -> None:
    other = Authority.make(tmp_path / "other", "other").issue("stranger")
    unsigned = remote.with_tls(dataclasses.replace(other, ca=authority.certificate))
    distrusting = remote.with_tls(other)
    plain = dataclasses.replace(remote.cli, env={"SLIPFORM_HOST": remote.address})
    half = dataclasses.replace(
        remote.cli,
        env={"SLIPFORM_HOST": remote.address, "SLIPFORM_TLS_CA": str(authority.certificate)},
    )
    for client, words in (
        (unsigned, "takes only clients whose certificate its CA has signed"),
        (distrusting, "its certificate is not valid by our CA"),
        (plain, "TCP is dialled with mutual TLS only"),
        (half, "SLIPFORM_TLS_CERT) is not set"),
    ):
        for command, code in (
            (["build", str(context)], 1),
            (["images"], 1),
            (["load", "-i", str(context / "unused")], 1),
            (["run", "--rm", "app"], 125),
        ):
            done = client.run(*command, check=False)
            said = done.stderr.decode()
            assert (done.returncode, done.stdout) == (code, b""), (command, said)
            assert words in said
            assert len(said.splitlines()) == 1, said
    remote.cli.run("images")


def test_a_server_that_is_another_is_refused_in_one_sentence(
    authority: Authority, tmp_path: Path
) -> None:
    address = f"dns:127.0.0.1:{free_port()}"
    cli = Slipform(
        tmp_path / "no-daemon-here",
        {"SLIPFORM_HOST": address, **variables(authority.issue("client"))},
    )
    server = Server([])
    server.listen(Address.parse(address), authority.issue("elsewhere", ("DNS:elsewhere",)))
    server.start()
    try:
        done = cli.run("images", check=False)
    finally:
        server.stop(0)
    said = done.stderr.decode()
    assert (done.returncode, len(said.splitlines())) == (1, 1), said
    assert "its subjectAltName must have the name that was dialled" in said


def test_serve_refuses_tcp_without_tls(tmp_path: Path) -> None:
    slipform = Slipform(tmp_path / "root")
    done = slipform.run("serve", f"--address=dns:127.0.0.1:{free_port()}", check=False)
    assert done.returncode == 1
    assert b"TCP is served with mutual TLS only: configure [tls] ca, cert, key" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_services_apart_with_content_on_tcp(
    tmp_path: Path, authority: Authority, busybox_sample: Sample
) -> None:
    root = tmp_path / "apart"
    root.mkdir(mode=0o700)
    addresses = {service: f"unix:{root}/{service}/sock" for service in SERVICES}
    addresses["content"] = f"dns:localhost:{free_port()}"
    config = tmp_path / "apart.toml"
    sections = [f'[{service}]\naddress = "{where}"\n' for service, where in addresses.items()]
    config.write_text(f'root = "{root}"\n{"".join(sections)}{table(authority.issue("peer"))}')
    slipform = Slipform(root, {"SLIPFORM_CONFIG": str(config)})
    with ExitStack() as running:
        for service in SERVICES:
            running.enter_context(served(slipform, service))
        slipform.run("build", "-t", "sample:1", busybox_sample.context)
        assert slipform.text("run", "--rm", "--network=none", "sample:1") == "hello\n"
        saved = slipform.run("save", "sample:1").stdout
        slipform.run("rmi", "sample:1")
        assert b"Loaded image: sample:1" in slipform.run("load", stdin=saved).stdout
        with Client(addresses["content"], tls=authority.issue("reader")) as client:
            assert list(client.content.walk())
