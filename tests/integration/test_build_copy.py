"""COPY and ADD as the Dockerfile reference has them, case by case, in real builds."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import os
import socket
import stat
import tarfile
import threading
from typing import TYPE_CHECKING, cast

import pytest

from slipform.builder.builder import ImageBuilder
from slipform.content.store import Content
from slipform.drivers.registry import load
from slipform.executor.execution import Execution
from slipform.frontend.frontend import DockerfileFrontend
from slipform.images.store import Images
from slipform.snapshotter.store import Snapshots
from slipform.testing.building import (
    Site,
    build,
    busybox_members,
    import_rootfs,
    opened_root,
    write_tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.build import Builder

pytestmark = pytest.mark.root


def open_site(root: Path, snapshot: str = "overlay") -> Site:
    resources = contextlib.ExitStack()
    places = {name: root / name for name in ("content", "snapshots", "executor", "images")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    driver = load("executor", "native")(places["executor"])
    resources.callback(driver.close)  # type: ignore[attr-defined]
    executor = Execution(driver, places["executor"])  # type: ignore[arg-type]
    blobs = load("content", "filesystem")(places["content"])
    content_core = Content(blobs, places["content"] / "metadata.db")  # type: ignore[arg-type]
    resources.callback(content_core.close)
    content = content_core.tenant("default")
    layers = load("snapshot", snapshot)(places["snapshots"])
    snapshots = Snapshots(places["snapshots"], layers, content)  # type: ignore[arg-type]
    resources.callback(snapshots.close)
    snapshotter = snapshots.tenant("default")
    images = Images(places["images"] / "images.db", content, snapshotter)
    resources.callback(images.close)

    def new_builder() -> Builder:
        made = ImageBuilder(
            root / "builder", DockerfileFrontend(), content, snapshotter, executor, images
        )
        resources.callback(made.close)
        return cast("Builder", made)

    return Site(
        root, DockerfileFrontend(), content, snapshotter, executor, images, new_builder, resources
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Iterator[Site]:
    made = open_site(tmp_path_factory.mktemp("site"))
    try:
        import_rootfs(made.images, "busybox", busybox_members(busybox))
        import_rootfs(
            made.images,
            "dirs",
            [("have/", b"", 0o700), ("have/old", b"old", 0o600), ("file", b"f", 0o644)],
        )
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def builder(site: Site) -> Builder:
    return site.new_builder()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = write_tree(
        tmp_path / "context",
        {
            "a.txt": "a",
            "b.txt": "b",
            "c.md": "c",
            "dir/one": "1",
            "dir/sub/two": "2",
            "dir/sub/deep/three": "3",
            "odd/[x]": "odd",
            "empty/": "",
        },
    )
    (root / "link.txt").symlink_to("a.txt")
    (root / "abs").symlink_to("/dir/one")
    (root / "out").symlink_to("../../../../../etc/hostname")
    (root / "dirlink").symlink_to("dir")
    (root / "dir/inner").symlink_to("sub")
    (root / "dir/dangling").symlink_to("/nowhere")
    (root / "a.txt").chmod(0o4755)
    (root / "dir").chmod(0o750)
    return root


def shape(root: Path) -> dict[str, str]:
    """Everything below a root: type, mode and content or target, by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        what = ""
        if stat.S_ISLNK(about.st_mode):
            what = f"-> {path.readlink()}"
        elif stat.S_ISREG(about.st_mode):
            what = path.read_text()
        else:
            what = "/"
        found[str(path.relative_to(root))] = what
    return found


DIR = {
    "dangling": "-> /nowhere",
    "inner": "-> sub",
    "one": "1",
    "sub": "/",
    "sub/deep": "/",
    "sub/deep/three": "3",
    "sub/two": "2",
}


def below(name: str, files: dict[str, str]) -> dict[str, str]:
    return {name: "/", **{f"{name}/{path}": what for path, what in files.items()}}


CASES = [
    ("COPY a.txt /", {"a.txt": "a"}),
    ("COPY a.txt /new", {"new": "a"}),
    ("COPY a.txt /new/", {"new": "/", "new/a.txt": "a"}),
    ("COPY a.txt /x/y/z", {"x": "/", "x/y": "/", "x/y/z": "a"}),
    ("COPY /a.txt /", {"a.txt": "a"}),
    ("COPY ../../a.txt /", {"a.txt": "a"}),
    ("COPY a.txt b.txt /t/", {"t": "/", "t/a.txt": "a", "t/b.txt": "b"}),
    ("COPY *.txt /t/", {"t": "/", "t/a.txt": "a", "t/b.txt": "b", "t/link.txt": "a"}),
    ("COPY [ab].txt /t/", {"t": "/", "t/a.txt": "a", "t/b.txt": "b"}),
    ("COPY *.none /t/", {}),
    ("COPY dir /t", below("t", DIR)),
    ("COPY dir/ /t/", below("t", DIR)),
    ("COPY dir /", DIR),
    ("COPY d*r /t/", below("t", DIR)),
    ("COPY dirlink /t", below("t", DIR)),
    ("COPY dirlink/sub/two /t", {"t": "2"}),
    ("COPY link.txt /t", {"t": "a"}),
    ("COPY link.txt /t/", {"t": "/", "t/link.txt": "a"}),
    ("COPY abs /t", {"t": "1"}),
    ('COPY ["odd/[[]x]", "/t"]', {"t": "odd"}),
    ("COPY empty /t", {"t": "/"}),
    ("WORKDIR /w\nCOPY a.txt .", {"w": "/", "w/a.txt": "a"}),
    ("WORKDIR /w\nCOPY a.txt x", {"w": "/", "w/x": "a"}),
    (
        "COPY --exclude=sub dir /t",
        {k: v for k, v in below("t", DIR).items() if "sub" not in k or k == "t/inner"},
    ),
    ("COPY --exclude=*.md --exclude=b.txt [abc].* /t/", {"t": "/", "t/a.txt": "a"}),
    (
        "COPY --parents dir/sub/two a.txt /t/",
        {"t": "/", "t/dir": "/", "t/dir/sub": "/", "t/dir/sub/two": "2", "t/a.txt": "a"},
    ),
    ("COPY --parents dir/./sub/two /t/", {"t": "/", "t/sub": "/", "t/sub/two": "2"}),
    (
        "COPY --parents **/two /t/",
        {"t": "/", "t/dir": "/", "t/dir/sub": "/", "t/dir/sub/two": "2"},
    ),
    ("COPY <<one <<two /t/\n1\none\n2\ntwo", {"t": "/", "t/one": "1\n", "t/two": "2\n"}),
    ("COPY <<x /t\nhello\nx", {"t": "hello\n"}),
    ("COPY a.txt /t\nCOPY b.txt /t", {"t": "b"}),
    ("COPY dir /t\nCOPY a.txt /t/one", {**below("t", DIR), "t/one": "a"}),
    ("COPY dir /t\nCOPY a.txt /t/sub", {**below("t", DIR), "t/sub/a.txt": "a"}),
    ("COPY dir /t\nCOPY a.txt /t/inner", {**below("t", DIR), "t/sub/a.txt": "a"}),
    ("COPY dir /t\nCOPY b.txt /t/dangling", {**below("t", DIR), "nowhere": "b"}),
    ("COPY dir /t\nCOPY dir/sub /t/inner", {**below("t", DIR)}),
]


@pytest.mark.parametrize(("text", "want"), CASES, ids=[text for text, _ in CASES])
def test_copies(
    site: Site, builder: Builder, context: Path, text: str, want: dict[str, str]
) -> None:
    image = build(builder, f"FROM scratch\n{text}\n", context).image
    with opened_root(site, image) as root:
        assert shape(root) == want


REFUSED = [
    ("COPY nope /", '"/nope": not found'),
    ("COPY dir/dangling /x", "not found"),
    ("COPY --parents nope/x /", "not found"),
    ("COPY a.txt /f\nCOPY dir /f", "not a directory"),
    ("COPY a.txt /f\nCOPY b.txt /f/x", "not a directory"),
    ("COPY dir /t\nCOPY <<sub /t/\nx\nsub", "directory"),
    ("COPY *.txt /f", "end it with /"),
    ("COPY --chown=nobody:nogroup a.txt /", "no user"),
    ("COPY out /x", "not found"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text for text, _ in REFUSED])
def test_refuses(builder: Builder, context: Path, text: str, words: str) -> None:
    failure = build(builder, f"FROM scratch\n{text}\n", context).failure
    assert words in failure.message
    assert failure.source is not None
    assert failure.source.start_line == 1 + len(text.partition("\nx")[0].splitlines())


def test_metadata_is_the_files_own_but_the_owner_is_root(
    site: Site, builder: Builder, context: Path
) -> None:
    os.chown(context / "a.txt", 7, 8)
    (context / "a.txt").chmod(0o4755)
    os.setxattr(context / "a.txt", "user.note", b"kept")
    os.utime(context / "a.txt", (1_000_000_000, 1_000_000_000))
    os.utime(context / "dir", (1_000_000_001, 1_000_000_001))
    image = build(builder, "FROM scratch\nCOPY a.txt /p/a.txt\nCOPY dir /d\n", context).image
    with opened_root(site, image) as root:
        about = (root / "p/a.txt").stat()
        assert (about.st_uid, about.st_gid) == (0, 0)
        assert stat.S_IMODE(about.st_mode) == 0o4755
        assert about.st_mtime == 1_000_000_000
        assert os.getxattr(root / "p/a.txt", "user.note") == b"kept"
        assert stat.S_IMODE((root / "p").stat().st_mode) == 0o755
        assert stat.S_IMODE((root / "d").stat().st_mode) == 0o755  # new, so as docker makes it
        assert (root / "d").stat().st_mtime == 1_000_000_001


def test_existing_directory_keeps_its_mode_and_files_are_replaced(
    site: Site, builder: Builder, context: Path
) -> None:
    (context / "dir/old").write_text("new")
    image = build(builder, "FROM dirs\nCOPY --chown=5:6 dir /have\n", context).image
    with opened_root(site, image) as root:
        assert stat.S_IMODE((root / "have").stat().st_mode) == 0o700
        assert (root / "have").stat().st_uid == 0
        assert (root / "have/old").read_text() == "new"
        assert (root / "have/sub").stat().st_gid == 6
    text = "FROM dirs\nCOPY dir /have\nCOPY --chown=7:8 dir /have\n"
    with opened_root(site, build(builder, text, context).image) as root:
        assert (root / "have").stat().st_uid == 0
        assert (root / "have/sub").stat().st_gid == 8


@pytest.mark.parametrize(
    ("chown", "want"),
    [
        ("1:2", (1, 2)),
        ("7", (7, 7)),
        ("app", (1000, 1001)),
        ("app:staff", (1000, 50)),
        ("root:app", (0, 1001)),
        ("5:staff", (5, 50)),
    ],
)
def test_chown_looks_names_up_in_the_image(
    site: Site, builder: Builder, context: Path, chown: str, want: tuple[int, int]
) -> None:
    text = f"FROM busybox\nCOPY --chown={chown} dir /n/m\n"
    with opened_root(site, build(builder, text, context).image) as root:
        for path in (root / "n", root / "n/m", root / "n/m/one"):
            assert (path.stat().st_uid, path.stat().st_gid) == want
        link = (root / "n/m/inner").lstat()
        assert (link.st_uid, link.st_gid) == want


def test_chmod_applies_to_files_and_directories(
    site: Site, builder: Builder, context: Path
) -> None:
    text = "FROM scratch\nCOPY --chmod=0600 dir /o\nCOPY --chmod=u=rwX,go=rX dir /s\n"
    with opened_root(site, build(builder, text, context).image) as root:
        assert stat.S_IMODE((root / "o/one").stat().st_mode) == 0o600
        assert stat.S_IMODE((root / "o/sub").stat().st_mode) == 0o600
        assert stat.S_IMODE((root / "s/one").stat().st_mode) == 0o644
        assert stat.S_IMODE((root / "s/sub").stat().st_mode) == 0o755


def test_hard_links_stay_linked_and_holes_stay_holes(
    site: Site, builder: Builder, context: Path
) -> None:
    os.link(context / "dir/one", context / "dir/same")
    with (context / "dir/sparse").open("wb") as file:
        file.truncate(50 << 20)
        file.seek(20 << 20)
        file.write(b"data")
    with opened_root(site, build(builder, "FROM scratch\nCOPY dir /d\n", context).image) as root:
        assert (root / "d/one").stat().st_ino == (root / "d/same").stat().st_ino
        sparse = (root / "d/sparse").stat()
        assert sparse.st_size == 50 << 20
        assert sparse.st_blocks * 512 < 1 << 20


def test_sockets_and_pipes_are_entries(site: Site, builder: Builder, context: Path) -> None:
    os.mkfifo(context / "dir/fifo")
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(context / "dir", os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/sock")
        os.close(here)
    with opened_root(site, build(builder, "FROM scratch\nCOPY dir /d\n", context).image) as root:
        assert stat.S_ISFIFO((root / "d/fifo").stat().st_mode)


def test_links_of_the_image_are_followed_inside_it(
    site: Site, builder: Builder, context: Path
) -> None:
    text = (
        "FROM busybox\nRUN ln -s /real /abs && ln -s ../../../../real /up && mkdir /real\n"
        "COPY a.txt /abs/\nCOPY b.txt /up/new/\nCOPY dir /abs/sub\n"
    )
    with opened_root(site, build(builder, text, context).image) as root:
        assert sorted(p.name for p in (root / "real").iterdir()) == ["a.txt", "new", "sub"]


def test_copying_from_a_stage_ignores_its_workdir_and_keeps_modes_and_owners(
    site: Site, builder: Builder
) -> None:
    text = (
        "FROM busybox AS made\nWORKDIR /w\nRUN echo x > f && /bin/busybox chown 9:9 f"
        " && /bin/busybox chmod 4711 f\nFROM scratch\nCOPY --from=made w/f /\nCOPY --from=0 /w /w\n"
    )
    with opened_root(site, build(builder, text).image) as root:
        about = (root / "f").stat()
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (9, 0o4711)
        assert (root / "w/f").read_text() == "x\n"
        assert (root / "w").stat().st_uid == 0
    text = text.replace("9:9", "9:10")
    with opened_root(site, build(builder, text).image) as root:
        assert (root / "w/f").stat().st_gid == 10
    text = text.replace("--from=0", "--from=0 --chown=1")
    with opened_root(site, build(builder, text).image) as root:
        assert (root / "w/f").stat().st_gid == 1


def test_workdir_belongs_to_the_user_and_to_root_when_there_is_none(
    site: Site, builder: Builder
) -> None:
    text = "FROM busybox\nUSER 12\nWORKDIR /n/m\nUSER nobody-here\nWORKDIR /x\n"
    with opened_root(site, build(builder, text).image) as root:
        assert ((root / "n/m").stat().st_uid, (root / "n").stat().st_gid) == (12, 12)
        assert (root / "x").stat().st_uid == 0


def test_ignored_files_do_not_exist(site: Site, builder: Builder, context: Path) -> None:
    (context / ".dockerignore").write_text("# no\n*.txt\ndir/**\n!dir/sub/two\n")
    with opened_root(site, build(builder, "FROM scratch\nCOPY . /\n", context).image) as root:
        assert "a.txt" not in shape(root)
        assert shape(root)["dir/sub/two"] == "2"
        assert "dir/one" not in shape(root)
    failure = build(builder, "FROM scratch\nCOPY a.txt /\n", context).failure
    assert '"/a.txt": not found' in failure.message


def test_ignore_file_beside_the_dockerfile_wins(
    site: Site, builder: Builder, context: Path
) -> None:
    (context / ".dockerignore").write_text("a.txt\n")
    (context / "Other").write_text("FROM scratch\nCOPY *.txt /\n")
    (context / "Other.dockerignore").write_text("b.txt\n")
    report = build(builder, None, context, dockerfile_name="Other")
    with opened_root(site, report.image) as root:
        assert sorted(shape(root)) == ["a.txt", "link.txt"]


def make_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("in/side")
        info.size, info.uid, info.gid, info.mode = 2, 3, 4, 0o640
        tar.addfile(info, io.BytesIO(b"in"))
    return out.getvalue()


def test_add_unpacks_archives_by_content(site: Site, builder: Builder, context: Path) -> None:
    (context / "plain.bin").write_bytes(make_tar())
    (context / "packed.bin").write_bytes(gzip.compress(make_tar()))
    (context / "text.tar.gz").write_bytes(gzip.compress(b"just text"))
    text = (
        "FROM scratch\nADD plain.bin /p\nADD packed.bin /q/\nADD text.tar.gz /r/\n"
        "ADD --chown=8:9 plain.bin /s\nADD --unpack=false plain.bin /u/\nCOPY plain.bin /c/\n"
    )
    with opened_root(site, build(builder, text, context).image) as root:
        assert (root / "p/in/side").read_text() == "in"
        assert (root / "p/in/side").stat().st_uid == 3
        assert (root / "q/in/side").exists()
        assert (root / "r/text.tar.gz").is_file()
        assert (root / "s/in/side").stat().st_uid == 8
        assert (root / "u/plain.bin").is_file()
        assert (root / "c/plain.bin").is_file()


def test_broken_archive_fails(builder: Builder, context: Path) -> None:
    (context / "broken.tar").write_bytes(make_tar()[:700])
    failure = build(builder, "FROM scratch\nADD broken.tar /\n", context).failure
    assert failure.source is not None


class Web(http.server.BaseHTTPRequestHandler):
    hits: list[str]
    body = b"from the web"

    def do_GET(self) -> None:
        type(self).hits.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file.bin")
            self.end_headers()
            return
        if self.path == "/evil":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.headers.get("If-None-Match") == '"1"':
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sun, 09 Sep 2001 01:46:40 GMT")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    Web.hits = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_add_of_a_url(site: Site, builder: Builder, web: str) -> None:
    text = f"FROM scratch\nADD {web}/file.bin /d/\nADD {web}/moved /named\n"
    with opened_root(site, build(builder, text).image) as root:
        about = (root / "d/file.bin").stat()
        assert stat.S_IMODE(about.st_mode) == 0o600
        assert about.st_mtime == 1_000_000_000
        assert (root / "named").read_bytes() == Web.body
    report = build(builder, text)
    assert report.ran() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ADD {web}/gone /x", "404"),
        ("ADD {web}/evil /x", "http"),
        ("ADD --checksum=sha256:" + "0" * 64 + " {web}/file.bin /x", "want sha256:000"),
    ],
)
def test_add_of_a_bad_url(builder: Builder, web: str, line: str, words: str) -> None:
    failure = build(builder, f"FROM scratch\n{line.format(web=web)}\n").failure
    assert words in failure.message
