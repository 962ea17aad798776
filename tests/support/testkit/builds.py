"""The three builds that prove the whole: from nothing, on Debian, and compiled."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from testkit.bases import REPOSITORY, Base

EPOCH: Final = "1700000000"
"""SOURCE_DATE_EPOCH of all three."""

BUSYBOX: Final = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /data/deep && echo one > /data/deep/file && ln -s deep /data/link && \\
    ln /data/deep/file /data/hard && chmod 2750 /data/deep && chown 12:34 /data/hard
RUN rm -r /data/deep && mkdir /data/deep && echo two > /data/deep/other
WORKDIR /work
ENV GREETING=hello NAME="a b"
LABEL org.example.one=1
USER 1000:1000
VOLUME /data
EXPOSE 80 53/udp
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD ["/bin/true"]
ENTRYPOINT ["/bin/echo"]
CMD ["hello"]
"""

COMPILED: Final = """\
ARG BASE
FROM ${BASE} AS compiler
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null
COPY hello.c /src/hello.c
RUN gcc -static -O2 -s -o /hello /src/hello.c
FROM scratch
COPY --from=compiler /hello /hello
ENTRYPOINT ["/hello"]
"""

HELLO_C: Final = """\
#include <stdio.h>

int main(int argc, char **argv) {
    printf("hello from %s\\n", argc > 1 ? argv[1] : "scratch");
    return 0;
}
"""


@dataclass(frozen=True)
class Sample:
    """A build context, what its base must be called, and how to run what comes out."""

    name: str
    context: Path
    base: Base | None = None
    build_args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """Arguments for a container, and …"""
    prints: bytes = b""
    """… what it must print."""


@pytest.fixture
def busybox_sample(tmp_path: Path, busybox: Path) -> Sample:
    """Scratch and a static busybox."""
    context = tmp_path / "busybox-context"
    context.mkdir()
    shutil.copy(busybox, context / "busybox")
    (context / "Dockerfile").write_text(BUSYBOX)
    return Sample("busybox", context, command=("good day",), prints=b"good day\n")


@pytest.fixture
def webapp_sample(debian_base: Base) -> Sample:
    """Debian, apt-get install and an application: what `make demo` builds."""
    return Sample(
        "webapp",
        REPOSITORY / "examples/webapp",
        debian_base,
        (f"BASE={debian_base.name}",),
        ("id", "-un"),
        b"www-data\n",
    )


@pytest.fixture
def compiled_sample(tmp_path: Path, debian_base: Base) -> Sample:
    """A C program, compiled on Debian and copied into scratch."""
    context = tmp_path / "compiled-context"
    context.mkdir()
    (context / "Dockerfile").write_text(COMPILED)
    (context / "hello.c").write_text(HELLO_C)
    return Sample(
        "compiled",
        context,
        debian_base,
        (f"BASE={debian_base.name}",),
        ("docker",),
        b"hello from docker\n",
    )


SAMPLES: Final = ("busybox_sample", "webapp_sample", "compiled_sample")
