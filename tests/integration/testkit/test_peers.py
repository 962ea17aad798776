"""The shared fixtures give what they say: a real base, and a dockerd that takes it."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from testkit.bases import Base
    from testkit.docker import Docker

pytestmark = [pytest.mark.root]


def test_debian_base_is_a_root_file_system(debian_base: Base) -> None:
    with tarfile.open(debian_base.tar) as tar:
        names = set(tar.getnames())
    assert {"./usr/bin/dpkg", "./etc/apt", "./etc/passwd"} <= names
    assert "./etc/resolv.conf" not in names
    assert debian_base.name.startswith("slipform/")


@pytest.mark.requires("dockerd", "busybox")
def test_dockerd_imports_builds_and_runs(dockerd: Docker, busybox: Path, tmp_path: Path) -> None:
    rootfs = io.BytesIO()
    with tarfile.open(fileobj=rootfs, mode="w") as tar:
        tar.add(busybox, "bin/sh")
    dockerd.run("import", "-", "base", stdin=rootfs.getvalue())
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN echo built > /word\n")
    dockerd.run("build", "--network=host", "-t", "word", tmp_path)
    script = "read x < /word; echo $x"
    said = dockerd.run("run", "--rm", "--network=host", "word", "sh", "-c", script)
    assert said.stdout == b"built\n"
