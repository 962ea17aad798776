"""After the last test: no mount below the test directories, and no process that a test started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK: Final = "SLIPFORM_TEST_SESSION"
# Processes that have been told to end may take a moment; nobody measures by this.
GRACE_S: Final = 5.0


@dataclass
class Watch:
    """What one test process watches: its directory, its mark, and who left which mount first."""

    base: Path
    mark: str
    first_seen: dict[str, str] = field(default_factory=dict)

    def mounts(self) -> list[str]:
        """Returns the mount points below the test directory, deepest first."""
        prefix = f"{self.base}/"
        return [m for m in reversed(mount_points("self")) if f"{m}/".startswith(prefix)]

    def processes(self) -> dict[int, str]:
        """Returns pid → command of living processes that tests of this session started."""
        return {pid: command for pid, command in commands() if self._is_ours(pid, command)}

    def _is_ours(self, pid: int, command: str) -> bool:
        if pid == os.getpid() or "multiprocessing.resource_tracker" in command:
            return False
        return (
            f"{MARK}={self.mark}".encode() in read(f"/proc/{pid}/environ").split(b"\0")
            or f"{self.base}/" in f"{command}/"
            or self._roots_here(pid)
        )

    def _roots_here(self, pid: int) -> bool:
        # A container has neither our environment nor our paths, but its root lies on our disk.
        for line in read(f"/proc/{pid}/mountinfo").decode(errors="replace").splitlines():
            fields = line.split(" ")
            if fields[4] == "/":
                return f"{self.base}/" in line
        return False


def read(path: str) -> bytes:
    """Returns a file of /proc, or nothing when the process is gone or not ours to read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def mount_points(pid: str) -> list[str]:
    """Returns the mount points that a process sees, in the order in which they were made."""
    lines = read(f"/proc/{pid}/mountinfo").decode(errors="surrogateescape").splitlines()
    return [unescape(line.split(" ")[4]) for line in lines]


def unescape(text: str) -> str:
    """Undoes mountinfo's octal escapes of blank, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def commands() -> Iterator[tuple[int, str]]:
    """Yields (pid, command line) of every process but zombies and kernel threads."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and (line := read(f"/proc/{name}/cmdline")):
            yield int(name), line.replace(b"\0", b" ").decode(errors="replace").strip()


class LeakCheck:
    """The plugin: one per test process; xdist's controller only collects what workers report."""

    def __init__(self, config: pytest.Config) -> None:
        """Marks this process's children before any test starts one."""
        self.controls_workers = bool(getattr(config.option, "dist", "no") != "no") and not hasattr(
            config, "workerinput"
        )
        self.mark = uuid.uuid4().hex
        self.watch: Watch | None = None
        self.leaks: list[str] = []
        if not self.controls_workers:
            os.environ[MARK] = self.mark

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Remembers after which test a mount was there for the first time."""
        if self.watch:
            for mount in self.watch.mounts():
                self.watch.first_seen.setdefault(mount, item.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Reports what is left and clears it: pytest's cleaning must not walk into a mount."""
        if self.watch:
            self.leaks += find_and_clear(self.watch)
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["slipform_leaks"] = self.leaks
        elif self.leaks and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Takes over what an xdist worker found; the hook exists only where xdist does."""
        output: dict[str, list[str]] = getattr(node, "workeroutput", {})
        self.leaks += output.get("slipform_leaks", [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Says what was left behind."""
        if self.leaks:
            terminalreporter.section("left behind", sep="=", red=True)
            for leak in self.leaks:
                terminalreporter.write_line(leak, red=True)


CHECK: Final = pytest.StashKey[LeakCheck]()


@pytest.fixture(scope="session", autouse=True)
def _watch_leaks(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    check = pytestconfig.stash[CHECK]
    check.watch = Watch(tmp_path_factory.getbasetemp().resolve(), check.mark)


def find_and_clear(watch: Watch) -> list[str]:
    """Returns one line per mount or process that is still there after a moment's grace."""
    deadline = time.monotonic() + GRACE_S
    while (watch.processes() or watch.mounts()) and time.monotonic() < deadline:
        time.sleep(0.05)
    leaks = []
    for pid, command in watch.processes().items():
        leaks.append(f"process {pid}: {command[:200]}")
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            leaks.pop()
    for mount in watch.mounts():
        after = watch.first_seen.get(mount, "an unknown test")
        leaks.append(f"mount {mount}, first seen after {after}")
        subprocess.run(["umount", "--lazy", mount], check=False)
    return leaks


def pytest_configure(config: pytest.Config) -> None:
    """Starts watching."""
    check = LeakCheck(config)
    config.stash[CHECK] = check
    config.pluginmanager.register(check, "slipform-leaks")
