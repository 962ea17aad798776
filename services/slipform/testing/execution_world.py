"""What the executor's contract suite works with: an executor and a root to run things in."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from slipform.core.execution import Exited, Output, RunRequest, Started, Stream
from slipform.core.mounts import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from slipform.core.execution import Executor, RunEvent

ACCOUNTS: Final = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000::/home/app:/bin/sh
other:x:1001:1001::/home/other:/bin/sh
"""
GROUP: Final = "root:x:0:\nwheel:x:10:root\nstaff:x:50:app,other\napp:x:1000:\nother:x:1001:\n"


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that has ended."""

    pid: int
    stdout: str
    stderr: str
    exited: Exited

    @property
    def lines(self) -> list[str]:
        """Standard output by line."""
        return self.stdout.splitlines()


@dataclass(slots=True)
class ExecutionWorld:
    """An executor under test, and a small busybox root on disk.

    Args:
        executor: what is tested.
        root: a directory that ``make_root`` has filled.
    """

    executor: Executor
    root: Path
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def rootfs(self) -> tuple[Mount, ...]:
        """The root as a snapshotter would answer it."""
        return (Mount("bind", str(self.root), "", ("rbind", "rw")),)

    def share_root(self) -> None:
        """Let several runs use the root at once: none has to make mount points in it then."""
        for name in ("proc", "dev", "sys"):
            (self.root / name).mkdir()
        for name in ("hosts", "hostname", "resolv.conf"):
            (self.root / "etc" / name).touch()

    def request(self, *args: str, **more: Any) -> RunRequest:
        """A request to run ``args`` in the root."""
        settings: dict[str, Any] = {
            "id": f"test-{uuid.uuid4().hex}",
            "rootfs": self.rootfs,
            "env": ("PATH=/bin",),
            **self.defaults,
            **more,
        }
        return RunRequest(args=args, **settings)

    def run(self, *args: str, **more: Any) -> Ran:
        """Run ``args`` to their end."""
        return collect(self.executor.run(self.request(*args, **more)))

    def shell(self, script: str, **more: Any) -> Ran:
        """Run a shell script to its end."""
        return self.run("/bin/sh", "-c", script, **more)


def collect(events: Iterable[RunEvent]) -> Ran:
    """Take all events of a run; asserts that they come in the promised order."""
    seen = list(events)
    assert isinstance(seen[0], Started)
    assert isinstance(seen[-1], Exited)
    assert all(isinstance(event, Output) for event in seen[1:-1])
    texts = {
        stream: b"".join(e.data for e in seen if isinstance(e, Output) and e.stream is stream)
        for stream in Stream
    }
    return Ran(
        seen[0].pid,
        texts[Stream.STDOUT].decode("utf-8", "replace"),
        texts[Stream.STDERR].decode("utf-8", "replace"),
        seen[-1],
    )


def make_root(root: Path, busybox: Path) -> Path:
    """Fill a directory with a static busybox and its applets, passwd and group."""
    for name in ("bin", "etc", "root", "tmp"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    target = root / "bin" / "busybox"
    target.write_bytes(busybox.read_bytes())
    target.chmod(0o755)
    listed = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text(ACCOUNTS)
    (root / "etc" / "group").write_text(GROUP)
    return root


def listing(root: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Every path below a root: mode, owner, size, and time of modification."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in (".", *names, *files):
            path = os.path.join(directory, name)
            s = os.lstat(path)
            size = 0 if os.path.isdir(path) else s.st_size
            found[path] = (s.st_mode, s.st_uid, s.st_gid, size, s.st_mtime_ns)
    return found
