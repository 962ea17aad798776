"""The other way to start: through an OCI runtime, runc or crun.

The monitor has mounted and prepared the root. ``create`` and ``start`` return, and the container's
first process becomes the monitor's child, so that its end is seen exactly.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core.errors import DomainError, Unsupported
from slipform.core.execution import ExecutableNotFound, ExecutableNotRunnable
from slipform.core.linux import cgroups, process
from slipform.drivers.executor import executables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipform.drivers.executor.monitor import Request

_MEANINGS: Final[tuple[tuple[str, type[DomainError]], ...]] = (
    ("executable file not found", ExecutableNotFound),
    ("executable file `", ExecutableNotFound),
    ("no such file or directory", ExecutableNotFound),
    ("permission denied", ExecutableNotRunnable),
    ("exec format error", ExecutableNotRunnable),
    ("is a directory", ExecutableNotRunnable),
)


@dataclass(frozen=True, slots=True)
class RuntimeChild:
    """A container of an OCI runtime."""

    pid: int
    id: str
    command: tuple[str, ...]
    cgroup: str

    def kill(self) -> None:
        """Kill the first process, and with it the pid namespace."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def finish(self) -> bool:
        """Have the runtime forget the container; whether the memory limit killed something."""
        found = cgroups.hierarchies()
        place = found.v1.get("memory") if found.version == 1 else found.unified
        memory = None if place is None else place / self.cgroup
        starved = cgroups.Group((), (), memory).ran_out_of_memory()
        _run([*self.command, "delete", "--force", self.id])
        return starved


def start(request: Request, root: int, stdio: list[int]) -> RuntimeChild:
    """Create and start the container of a bundle.

    Raises:
        ExecutableNotFound, ExecutableNotRunnable: the runtime says so.
        Unsupported: it fails otherwise; the message is the runtime's own.
    """
    settings = request.settings
    spec = request.spec
    executables.check(root, spec["process"])
    _limit_capabilities(spec["process"]["capabilities"])
    spec["root"]["path"] = request.root
    bundle = Path(settings["bundle"])
    (bundle / "config.json").write_text(json.dumps(spec), "utf-8")
    log, pid_file = bundle / "log", bundle / "pid"
    command = (settings["runtime"], "--root", settings["state"])
    logged = (*command, "--log", str(log), "--log-format", "json")
    process.adopt_orphans()
    path = spec["linux"]["cgroupsPath"].strip("/")
    create = ["create", "--bundle", str(bundle), "--pid-file", str(pid_file), request.id]
    try:
        _must([*logged, *create], log, stdio)
        child = RuntimeChild(int(pid_file.read_text("ascii")), request.id, command, path)
        _must([*logged, "start", request.id], log)
    except DomainError:
        _run([*command, "delete", "--force", request.id])
        _reap()
        raise
    return child


def _limit_capabilities(sets: dict[str, list[str]]) -> None:
    """Leave out what we do not have ourselves: runtimes refuse where docker's daemon shrugs."""
    owned = process.permitted_mask()
    for name, wanted in sets.items():
        sets[name] = [each for each in wanted if process.mask_of((each,)) & owned]


def _must(command: Sequence[str], log: Path, stdio: Sequence[int] = ()) -> None:
    status = _run(command, stdio)
    if status == 0:
        return
    message = _last_error(log) or f"{' '.join(command)} failed with status {status}"
    lowered = message.lower()
    if "exec" in lowered:
        for words, kind in _MEANINGS:
            if words in lowered:
                raise kind(message)
    raise Unsupported(message)


def _run(command: Sequence[str], stdio: Sequence[int] = ()) -> int:
    """Run the runtime. Container output goes to ``stdio``; its own goes to the log file."""
    stdin, stdout, stderr = stdio or (subprocess.DEVNULL,) * 3
    return subprocess.run(
        command, stdin=stdin, stdout=stdout, stderr=stderr, check=False
    ).returncode


def _last_error(log: Path) -> str:
    with contextlib.suppress(OSError):
        for line in reversed(log.read_text("utf-8", "replace").splitlines()):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("level") in ("error", "fatal"):
                    return str(entry.get("msg", ""))
    return ""


def _reap() -> None:
    """Wait for what a failed start left to us; deleting it has killed it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
