"""Dockerfiles whose corners are easy to get wrong: the same files and configuration as docker.

The classic builder of a real dockerd is the judge; where it and BuildKit differ, we follow
BuildKit, and the case is left to it. What both say is what people's images rely on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from testkit.docker import Docker
from testkit.flatten import Flat, flatten_archive
from testkit.slipform import Slipform, embedded

pytestmark = pytest.mark.root

TOOLS: Final = (
    "chmod chown cp echo id ln ls mkdir mkfifo mv pwd rm sh sleep touch true cat"
).split()
EMPTY_FIELDS: Final = (
    "Hostname Domainname Image AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce"
).split()


@dataclass(frozen=True)
class Case:
    """A Dockerfile, its context, and flags for both builders."""

    dockerfile: str
    files: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] = lambda context: None
    flags: tuple[str, ...] = ()


def make_archives(context: Path) -> None:
    tree = context / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/file").write_text("hello")
    (tree / "d/file").chmod(0o4711)
    (tree / "d/link").symlink_to("file")
    (tree / "d/hard").hardlink_to(tree / "d/file")
    for name, mode in (("a.tar", "w"), ("a.tgz", "w:gz"), ("a.bz2", "w:bz2"), ("a.xz", "w:xz")):
        with tarfile.open(context / name, mode) as archive:  # type: ignore[call-overload]
            archive.add(tree / "d", "d", filter=_foreign)
    shutil.rmtree(tree)


def _foreign(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 1000
    return info


def make_links(context: Path) -> None:
    (context / "folder").symlink_to("real")
    (context / "alias").symlink_to("f")
    (context / "outside").symlink_to("/etc/passwd")
    (context / "broken").symlink_to("nowhere")
    os.chown(context / "f", 33, 44)
    (context / "f").chmod(0o640)
    (context / "real").chmod(0o2775)


def make_modes(context: Path) -> None:
    (context / "d").chmod(0o700)
    (context / "d/s").chmod(0o711)
    (context / "d/s/f").chmod(0o604)


CASES: Final = {
    "stages": Case(
        "ARG V=base\nFROM ${V} AS a\nRUN mkdir -p /o/x/y && echo 1 >/o/x/y/f && ln -s x /o/l"
        " && ln /o/x/y/f /o/hard && chmod 4755 /o/hard && chown 5:6 /o/x /o/hard\n"
        "FROM $V AS b\nCOPY --from=a /o /copied\nCOPY --from=0 /o/l /deref\n"
        "COPY --from=a /o/x/y/f /o/hard /two/\nCOPY --from=a --chown=7:8 /o/ /given/\n"
        "from b\nCOPY --from=A /o/. /dot/\nCOPY --from=b /two/f /renamed\n"
        "COPY --from=base /bin/busybox /again\n"
    ),
    "arguments": Case(
        "ARG V=base\nARG G=global\nFROM $V\nARG G\nARG L=local\nENV E=$L\nENV L=env\nARG L=again\n"
        'RUN echo "$G $L $E ${X:-unset}" > /1\nARG X\nARG Y=default\nRUN echo "$G $L $X $Y" > /2\n'
        "ENV A=${X:-none} B=${X:+other} C=\"a b\" D='$X' F=a\\ b\nENV OLD style value\n"
        'LABEL x="$A $B" y=\'$A\' "z z"=1 multi="line \\\ncont"\nEXPOSE $G 53/UDP 8000-8002\n',
        flags=("--build-arg=X=given", "--build-arg=G=80", "--build-arg=Y"),
    ),
    "onbuild": Case(
        "FROM triggers\nUSER 0\nRUN echo after > /after\n", {"f": "1", "d/g": "2"}
    ),
    "metadata": Case(
        'FROM base\nMAINTAINER Joe <j@x>\nSHELL ["/bin/sh", "-ec"]\nRUN echo $0 > /shell\n'
        'HEALTHCHECK --interval=1m30s --timeout=5s --retries=7 CMD ["a", "b"]\nSTOPSIGNAL 9\n'
        "CMD a b\nENTRYPOINT exec c \"$D\"\nLABEL a=b\nLABEL a=c d='e f'\nVOLUME /v /u\nVOLUME "
        '["/w", "/x y"]\nUSER joe:crew\nENV PATH=/foo:$PATH\n'
    ),
    "inherited command": Case(
        'FROM base AS a\nCMD ["a"]\nENTRYPOINT ["e"]\nHEALTHCHECK CMD x\nFROM a\n'
        'ENTRYPOINT ["n"]\nHEALTHCHECK NONE\n'
    ),
    "owners": Case(
        "FROM base\nRUN echo joe:x:12:34::/home/joe:/bin/sh >> /etc/passwd && echo crew:x:77:joe"
        " >> /etc/group\nCOPY --chown=joe:crew d /named\nCOPY --chown=55:66 d /new/\n"
        "COPY --chown=77 f /n\nADD --chown=joe:34 d /added\nUSER joe\n"
        "RUN id > /tmp/id && echo $HOME >> /tmp/id\nCOPY f /tmp/roots\nUSER 99\n"
        "RUN id > /tmp/99; touch /tmp/mine\n",
        {"f": "x", "d/e": "y", "d/s/t": "z"},
    ),
    "existing directories": Case(
        "FROM base\nRUN mkdir -p /d/s /d/t && chmod 750 /d /d/s && chown 5:6 /d /d/s"
        " && echo old > /d/s/f\nCOPY d /d\nCOPY --chown=9:10 d /d/\nCOPY d /new\n",
        {"d/s/f": "1"},
        make_modes,
    ),
    "patterns": Case(
        "FROM base\nCOPY *.txt /g/\nCOPY d?/[a-b]* /h/\nCOPY d1 d2 /m/\nCOPY a.txt d1/a /n/\n"
        'WORKDIR /rel\nCOPY a.txt .\nCOPY a.txt sub/\nCOPY ["sp ace", "/x y"]\nCOPY ünï* /u/\n'
        "COPY [[]x] /o/\nCOPY . /all/\n",
        {
            "a.txt": "1", "b.txt": "2", "d1/a": "3", "d1/b": "4", "d1/c": "5", "d2/a": "6",
            "sp ace": "8", "ünïcødé": "9", "[x]": "0", "tab\tname": "a", "new\nline": "b",
        },
    ),
    "ignored": Case(
        "FROM base\nCOPY . /a/\n",
        {
            ".dockerignore": "# no\n*/tmp\n**/.git\n/foo\nbar/\n!bar/keep\n*.md\n!README.md\n"
            "  spaced  \nx[0-9]\n\\!bang\nd?r/*.o\n!dir/k.o\n",
            "a/tmp": "1", "a/b/tmp": "2", "a/.git/c": "1", ".git/x": "1", "foo": "1", "z/foo": "1",
            "bar/keep": "1", "bar/no": "1", "README.md": "1", "X.md": "2", "sub/Y.md": "3",
            "spaced": "1", "x1": "1", "xa": "1", "!bang": "1", "dir/a.o": "1", "dir/k.o": "2",
            "dir/s/a.o": "1",
        },
    ),
    "archives": Case(
        "FROM base\nADD a.tar /tar\nADD a.tgz /gz/\nADD a.bz2 /bz\nADD a.xz /xz\n"
        "ADD a.tar a.tgz f /many/\nCOPY a.tar /copied/\nRUN ln -s /gz /l\nADD a.tar /l/in\n",
        {"f": "plain"},
        make_archives,
    ),
    "links of the context": Case(
        "FROM base\nCOPY folder /a\nCOPY alias /b\nCOPY . /c/\nCOPY folder/ /d/\n"
        "COPY folder/f /e\n",
        {"f": "1", "real/f": "2"},
        make_links,
    ),
    "links of the destination": Case(
        "FROM base\nRUN mkdir -p /real/dir /r2 && ln -s /real/dir /link && ln -s real/dir /rel"
        " && ln -s /nowhere /broken && ln -s ../../../../r2 /real/up && echo t > /t"
        " && ln -s t /lf\nCOPY f /link/\nCOPY f /rel/g\nCOPY d /link\nCOPY f /real/up/\n"
        "COPY d/ /broken/\nCOPY f /lf\n"
        "WORKDIR /link\nRUN pwd > /pwd; echo w > w\nWORKDIR sub\nCOPY f .\n",
        {"f": "x", "d/e": "y"},
    ),
    "removed and made again": Case(
        "FROM base\nRUN mkdir -p /a/b/c && echo 1 > /a/b/c/f && echo 2 > /a/b/g && mkdir /z\n"
        "RUN rm -r /a && mkdir /a && echo new > /a/n\nRUN rm -r /a/n && mkdir -p /a/n/x\n"
        "RUN rm -r /a/n && ln -s /etc /a/n\nRUN rm -r /z && touch /z\n"
        "RUN rm /z && mkdir -m 1777 /z && mkfifo /z/fifo\nRUN mv /a /moved\n"
        "RUN chmod 700 /moved && chown 5:6 /moved\nRUN rm -r /moved; echo x > '/ü x'\n"
    ),
    "words of RUN": Case(
        'FROM base\nRUN ["sh", "-c", "echo \\"q\\" \'x\' $HOME > /1"]\nRUN echo a \\\n'
        "  # between\n  b \\\n\n  c > /2\nrun echo ${FOO:-unset} $((1+2)) > /3\nENV FOO=\"x y\"\n"
        "RUN echo $FOO \"${FOO}\" '${FOO}' \\$FOO > /4\nRUN sleep 100 & echo done > /5\n"
    ),
    "another escape": Case(
        "# escape=`\r\nFROM base\r\nRUN echo a `\r\n b > /c\r\nCOPY f C:\\x\r\nENV X=a\\b\r\n",
        {"f": "1"},
    ),
    "an earlier stage": Case(
        "FROM base AS one\nRUN echo 1 > /1\nFROM missing\nRUN false\n", flags=("--target=one",)
    ),
    "nothing": Case("FROM scratch\nENV A=b\nCOPY f /\n", {"f": "1"}),
}  # fmt: skip


@dataclass(frozen=True)
class Builders:
    """Both, with the same base images."""

    slipform: Slipform
    docker: Docker


@pytest.fixture(scope="module")
def builders(
    dockerd: Docker, busybox: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Builders]:
    directory = tmp_path_factory.mktemp("dockerfiles")
    context = directory / "triggers"
    context.mkdir()
    base = make_base(directory, busybox)
    (context / "Dockerfile").write_text(
        "FROM base\nONBUILD COPY . /on/\nONBUILD RUN echo on > /ran\nONBUILD ENV ON=1\n"
        "ONBUILD USER 5\n"
    )
    with embedded(directory / "root") as slipform:
        slipform.run("import", base, "base")
        slipform.run("build", "-t", "triggers", context)
        dockerd.run("import", base, "base")
        dockerd.run("build", "--network=host", "-t", "triggers", context)
        yield Builders(slipform, dockerd)


def make_base(directory: Path, busybox: Path) -> Path:
    """A root file system with one program under many names."""
    root = directory / "base"
    for name in ("bin", "etc", "root", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(busybox, root / "bin/busybox")
    for tool in TOOLS:
        (root / "bin" / tool).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    archive = directory / "base.tar"
    subprocess.run(["tar", "-C", root, "--owner=0", "--group=0", "-cf", archive, "."], check=True)
    return archive


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_same_image_as_docker(case: Case, builders: Builders, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    for name, text in {**case.files, "Dockerfile": case.dockerfile}.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_bytes(text.encode())
    case.prepare(context)
    builders.slipform.run("build", "-t", "case", *case.flags, context)
    builders.slipform.run("save", "-o", tmp_path / "ours", "case")
    builders.docker.run("build", "--network=host", "-t", "case", *case.flags, context)
    builders.docker.run("save", "-o", tmp_path / "theirs", "case")
    ours, theirs = flatten_archive(tmp_path / "ours"), flatten_archive(tmp_path / "theirs")
    differing = {
        path: (ours.files.get(path), theirs.files.get(path))
        for path in sorted(ours.files.keys() | theirs.files.keys())
        if ours.files.get(path) != theirs.files.get(path)
    }
    assert differing == {}
    assert comparable(ours) == comparable(theirs)


def comparable(image: Flat) -> dict[str, Any]:
    """The run configuration; null, empty and absent are the same."""
    values = {
        key: value
        for key, value in image.config["config"].items()
        if key not in EMPTY_FIELDS and value not in (None, "", [], {})
    }
    values.setdefault("WorkingDir", "/")
    return {**values, "author": image.config.get("author", "")}


def test_more_layers_than_one_page_of_mount_options_names(builders: Builders) -> None:
    text = "FROM base\n" + "".join(f"RUN echo {n} > /f\n" for n in range(130))
    builders.slipform.run("build", "-t", "deep", "-", stdin=text.encode())
    shown = builders.slipform.text("run", "--rm", "--network=none", "deep", "cat", "/f")
    assert shown == "129\n"
