"""The leak check finds what it promises to find, and leaves others' things alone."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from testkit import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE_S", 0.0)


@contextmanager
def sleeper(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PATH": os.environ["PATH"], leaks.MARK: mark}
    with subprocess.Popen(["sleep", "600"], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_finds_and_ends_a_process_by_its_mark(tmp_path: Path) -> None:
    mark = str(tmp_path)  # no other test's
    with sleeper(mark) as process:
        found = leaks.find_and_clear(leaks.Watch(tmp_path, mark))
        assert found == [f"process {process.pid}: sleep 600"]
        assert process.wait() == -signal.SIGKILL


def test_finds_a_process_by_the_directory_in_its_command(tmp_path: Path) -> None:
    command = ["sh", "-c", "read wait", f"{tmp_path}/some/file"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.pid in leaks.Watch(tmp_path, str(tmp_path)).processes()


def test_leaves_processes_of_other_sessions_alone(tmp_path: Path) -> None:
    with sleeper("of another session") as process:
        assert leaks.find_and_clear(leaks.Watch(tmp_path, str(tmp_path))) == []
        assert process.poll() is None


@pytest.mark.root
def test_finds_and_removes_a_mount(tmp_path: Path) -> None:
    target = tmp_path / "a place"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", target], check=True)
    watch = leaks.Watch(tmp_path, str(tmp_path), {str(target): "test_x.py::test_y"})
    assert leaks.find_and_clear(watch) == [f"mount {target}, first seen after test_x.py::test_y"]
    assert leaks.find_and_clear(watch) == []


@pytest.mark.parametrize(
    ("escaped", "plain"), [(r"/a\040b", "/a b"), (r"/\134040", r"/\040"), ("/plain", "/plain")]
)
def test_unescape(escaped: str, plain: str) -> None:
    assert leaks.unescape(escaped) == plain
