"""What goes wrong says one clear thing, loses nothing, and the next build works."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.builds import Sample
from testkit.slipform import Slipform, embedded

pytestmark = pytest.mark.root


def _build(
    slipform: Slipform, context: Path, dockerfile: str
) -> subprocess.CompletedProcess[bytes]:
    return slipform.run("build", "-f", "-", context, stdin=dockerfile.encode(), check=False)


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FROM scratch\nRUNN x\n", ["Dockerfile:2", "RUNN", "RUN"]),
        ("FROM scratch\nCOPY <<EOF /x\nnever ends\n", ["Dockerfile:2", "EOF"]),
        ("FROM scratch\nCOPY nope /x\n", ["Dockerfile:2", "nope", "not found"]),
        ("FROM scratch\nCOPY ../../etc/shadow /x\n", ["Dockerfile:2", "etc/shadow", "not found"]),
        ("FROM scratch AS a\nCOPY --from=b x /x\nFROM scratch AS b\nCOPY --from=a x /x\n", ["b"]),
        ("FROM no-such-image\n", ["no-such-image"]),
        ("FROM scratch\nCOPY busybox /bin/sh\nRUN exit 3\n", ["Dockerfile:3", "exit code: 3"]),
        ("", ["empty"]),
    ],
)
def test_dockerfiles(
    slipform: Slipform, busybox_sample: Sample, dockerfile: str, said: list[str]
) -> None:
    done = _build(slipform, busybox_sample.context, dockerfile)
    text = done.stderr.decode()
    assert done.returncode == 1
    assert "Traceback" not in text
    assert "internal error" not in text
    for word in said:
        assert word in text
    slipform.run("build", "-q", busybox_sample.context)


def test_failed_step_shows_its_last_words(slipform: Slipform, busybox_sample: Sample) -> None:
    dockerfile = "FROM scratch\nCOPY busybox /bin/sh\nRUN echo last words >&2; exit 3\n"
    text = _build(slipform, busybox_sample.context, dockerfile).stderr.decode()
    assert "last words" in text.rpartition("------")[0]
    assert "RUN echo last words >&2; exit 3" in text


@pytest.fixture
def archive(slipform: Slipform, busybox_sample: Sample, tmp_path: Path) -> Path:
    slipform.run("build", "-t", "kept", busybox_sample.context)
    path = tmp_path / "archive.tar"
    slipform.run("save", "-o", path, "kept")
    return path


@pytest.mark.parametrize("cut", [0, 100, 5_000, 500_000])
def test_truncated_archives(slipform: Slipform, archive: Path, cut: int) -> None:
    done = slipform.run("load", stdin=archive.read_bytes()[:cut], check=False)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    _nothing_lost(slipform)


def test_corrupt_archive_names_the_digest(slipform: Slipform, archive: Path) -> None:
    with tarfile.open(archive) as tar:
        largest = max(tar, key=lambda member: member.size)
    data = bytearray(archive.read_bytes())
    data[largest.offset_data + largest.size // 2] ^= 1
    slipform.run("rmi", "kept")
    done = slipform.run("load", stdin=bytes(data), check=False)
    assert done.returncode == 1
    assert b"sha256:" in done.stderr
    assert slipform.text("images", "-q") == ""


def _nothing_lost(slipform: Slipform) -> None:
    assert slipform.text("run", "--rm", "kept", "still here") == "still here\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 16 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_full_disk(small_disk: Path, busybox_sample: Sample) -> None:
    with embedded(small_disk / "root") as slipform:
        slipform.run("build", "-t", "kept", busybox_sample.context)
        done = _build(
            slipform,
            busybox_sample.context,
            "FROM kept\nUSER 0\nRUN dd if=/dev/zero of=/big bs=1M count=64\n",
        )
        assert done.returncode == 1
        assert b"No space left on device" in done.stderr
        (busybox_sample.context / "big").write_bytes(bytes(64 << 20))
        done = _build(slipform, busybox_sample.context, "FROM kept\nCOPY big /big\n")
        assert done.returncode == 1
        assert b"no space left" in done.stderr.lower()
        assert b"internal error" not in done.stderr
        _nothing_lost(slipform)
        slipform.run(
            "build", "-q", "-f", "-", busybox_sample.context, stdin=b"FROM kept\nENV A=b\n"
        )


@pytest.mark.parametrize("after", [b"begun", b"[1/2]"])
def test_daemon_that_dies_in_mid_build(
    tmp_path: Path, busybox_sample: Sample, after: bytes
) -> None:
    with embedded(tmp_path / "root") as slipform:
        slipform.run("build", "-t", "kept", busybox_sample.context)
        pid = int(slipform.text("info", "-f", "{{.pid}}"))
        (busybox_sample.context / "Slow").write_text(
            "FROM scratch\nCOPY busybox /bin/sh\n"
            "RUN echo begun; exec /bin/sh -c 'while :; do :; done'\n"
        )
        running = subprocess.Popen(
            [sys.executable, "-m", "slipform.cli", "build", "--progress=plain", "-f",
             busybox_sample.context / "Slow", busybox_sample.context],
            env=slipform.environment(), stderr=subprocess.PIPE,
        )  # fmt: skip
        assert running.stderr is not None
        for line in running.stderr:
            if after in line:
                break
        os.kill(pid, signal.SIGKILL)
        said = running.communicate(timeout=30)[1]
        assert running.returncode == 1
        assert b"Traceback" not in said
        _nothing_lost(slipform)
        slipform.run("build", "-q", busybox_sample.context)
    assert _busy_processes(tmp_path) == []


def _busy_processes(root: Path) -> list[int]:
    """Processes whose root file system lies below ``root``."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            mounts = Path(f"/proc/{name}/mountinfo").read_text()
            if any(f"{root}/" in line for line in mounts.splitlines() if " / / " in line):
                found.append(int(name))
    return found


def test_not_our_socket(tmp_path: Path) -> None:
    slipform = Slipform(tmp_path / "root", {})
    done = slipform.run(
        "images", env={"SLIPFORM_HOST": f"unix:{tmp_path}/nobody.sock"}, check=False
    )
    assert done.returncode == 1
    assert b"nobody.sock" in done.stderr
    done = slipform.run("images", env={"SLIPFORM_HOST": "tcp://x"}, check=False)
    assert done.returncode == 1
    assert b"want unix:/absolute/path or dns:host:port" in done.stderr
