"""Control groups, version 1, version 2, and both at once.

All groups of one daemon stand under one name at the root of each hierarchy, so that a successor
finds what an unclean death left behind::

    <name>/sandbox        device rules
    <name>/sandbox/all    version 2 only: runs without limits
    <name>/sandbox/<id>   one run with limits
    <name>/open/<id>      the same for privileged runs: no device rules

Moving a process into a group makes the kernel wait for all processors, some 5 ms. So what starts
runs stands in the sandbox itself (``admit``), and ordinary runs are born there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import Unsupported
from slipform.core.linux import devicefilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CONTROLLERS: Final = ("memory", "pids", "cpu")
_REMOVE_FOR_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where cgroups are mounted: v1 by controller, and v2; ``unified`` None is absent."""

    v1: Mapping[str, Path]
    unified: Path | None

    @property
    def version(self) -> int:
        """2 where limits are set through v2, 1 where through v1, 0 where nowhere."""
        if any(controller in self.v1 for controller in _CONTROLLERS):
            return 1
        return 2 if self.unified else 0


@cache
def hierarchies() -> Hierarchies:
    """Look once where cgroups are mounted."""
    v1: dict[str, Path] = {}
    unified = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            before, _, after = line.partition(" - ")
            place = Path(before.split()[4].replace("\\040", " "))
            fstype, _, options = after.split()
            if fstype == "cgroup2" and unified is None:
                unified = place
            elif fstype == "cgroup":
                for option in options.split(","):
                    v1.setdefault(option, place)
    return Hierarchies(v1, unified)


@dataclass(frozen=True, slots=True)
class Group:
    """The directories, one per hierarchy, that a run is put into."""

    joined: tuple[Path, ...]
    own: tuple[Path, ...] = ()
    """Those made for this run alone."""
    memory: Path | None = None

    def enter(self) -> None:
        """Move the calling process into the group."""
        for directory in self.joined:
            _write(directory / "cgroup.procs", "0")

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed something in it for want of memory."""
        if self.memory is None:
            return False
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (self.memory / name).read_text("ascii").splitlines():
                    if line.startswith("oom_kill ") and int(line.split()[1]):
                        return True
        return False

    def remove(self) -> None:
        """Kill what is left in the run's own directories and remove them."""
        for directory in self.own:
            _remove(directory)


def prepare(name: str) -> bool:
    """Make the groups that all runs of a daemon share.

    Returns:
        Whether device rules are in force for processes in ``<name>/sandbox``.
    """
    found = hierarchies()
    with contextlib.suppress(OSError):
        if devices := found.v1.get("devices"):
            _deny_devices(_make(devices / name / "sandbox"))
            return True
        if found.unified is not None:
            devicefilter.attach(str(_make(found.unified / name / "sandbox")))
            _make(found.unified / name / "sandbox" / "all")
            return True
    return False


def admit(name: str, pid: int) -> None:
    """Move a process that will start runs under the device rules; best effort."""
    found = hierarchies()
    devices = found.v1.get("devices") or found.unified
    if devices is None:
        return
    for directory in (devices / name / "sandbox" / "all", devices / name / "sandbox"):
        if directory.exists():
            _write(directory / "cgroup.procs", str(pid))
            return


def create(name: str, run: str, resources: Mapping[str, Any], *, sandbox: bool) -> Group:
    """Make the group of one run.

    Args:
        name: of the daemon's groups, as given to ``prepare``.
        run: the id of the run.
        resources: the runtime-spec's ``linux.resources``.
        sandbox: whether it stays under the device rules of whoever starts it.

    Raises:
        Unsupported: a limit is asked for that this machine can't set.
    """
    found = hierarchies()
    limits = _limits(resources, found.version)
    try:
        if found.version == 1:
            return _create_v1(found, name, run, limits, sandbox=sandbox)
        return _create_v2(found, name, run, limits, sandbox=sandbox)
    except OSError as e:
        raise Unsupported(f"cgroup limits {sorted(limits)} cannot be set: {e}") from e


def _create_v1(
    found: Hierarchies, name: str, run: str, limits: dict[str, list[tuple[str, str]]], *,
    sandbox: bool,
) -> Group:  # fmt: skip
    joined: list[Path] = []
    own: list[Path] = []
    if not sandbox and "devices" in found.v1:
        joined.append(found.v1["devices"])
    for controller, settings in limits.items():
        if controller not in found.v1:
            raise Unsupported(f"cgroup controller {controller} is not there")
        directory = _make(found.v1[controller] / name / ("sandbox" if sandbox else "open") / run)
        if directory in own:
            _apply(directory, settings)
            continue
        own.append(directory)
        joined.append(directory)
        _apply(directory, settings)
    memory = next(
        (d for d in own if "memory" in limits and (d / "memory.oom_control").exists()), None
    )
    return Group(tuple(joined), tuple(own), memory)


def _create_v2(
    found: Hierarchies, name: str, run: str, limits: dict[str, list[tuple[str, str]]], *,
    sandbox: bool,
) -> Group:  # fmt: skip
    if found.unified is None:
        if limits:
            raise Unsupported("cgroup limits cannot be set: no cgroup hierarchy is mounted")
        return Group(())
    parent = found.unified / name / ("sandbox" if sandbox else "open")
    if not limits:
        return Group(()) if sandbox else Group((_make(parent / "all"),))
    _make(parent)
    wanted = " ".join(f"+{controller}" for controller in limits)
    for directory in (found.unified, found.unified / name, parent):
        _write(directory / "cgroup.subtree_control", wanted)
    directory = _make(parent / run)
    for settings in limits.values():
        _apply(directory, settings)
    return Group((directory,), (directory,), directory if "memory" in limits else None)


def _limits(resources: Mapping[str, Any], version: int) -> dict[str, list[tuple[str, str]]]:
    """The files to write by controller; a file name that starts with ``?`` may be absent."""
    memory = resources.get("memory", {}).get("limit") or 0
    pids = resources.get("pids", {}).get("limit") or 0
    quota = resources.get("cpu", {}).get("quota") or 0
    period = resources.get("cpu", {}).get("period") or 100_000
    limits: dict[str, list[tuple[str, str]]] = {}
    if memory > 0 and version == 1:
        limits["memory"] = [
            ("memory.limit_in_bytes", f"{memory}"),
            ("?memory.memsw.limit_in_bytes", f"{memory}"),
        ]
    elif memory > 0:
        limits["memory"] = [("memory.max", f"{memory}"), ("?memory.swap.max", "0")]
    if pids > 0:
        limits["pids"] = [("pids.max", f"{pids}")]
    if quota > 0 and version == 1:
        limits["cpu"] = [("cpu.cfs_period_us", f"{period}"), ("cpu.cfs_quota_us", f"{quota}")]
    elif quota > 0:
        limits["cpu"] = [("cpu.max", f"{quota} {period}")]
    return limits


def _apply(directory: Path, settings: Iterable[tuple[str, str]]) -> None:
    for file, value in settings:
        if file.startswith("?") and not (directory / file[1:]).exists():
            continue
        _write(directory / file.removeprefix("?"), value)


def _deny_devices(directory: Path) -> None:
    _write(directory / "devices.deny", "a")
    rules = ["c *:* m", "b *:* m", f"c {devicefilter.PTS_MAJOR}:* rwm"]
    rules += [f"c {major}:{minor} rwm" for major, minor in devicefilter.ALLOWED]
    for rule in rules:
        _write(directory / "devices.allow", rule)


def sweep(name: str) -> None:
    """Kill and remove everything under a daemon's name in every hierarchy; idempotent."""
    found = hierarchies()
    places = {*found.v1.values(), *((found.unified,) if found.unified else ())}
    for place in places:
        for directory, _, _ in os.walk(place / name, topdown=False):
            _remove(Path(directory))


def _remove(directory: Path) -> None:
    """Remove a group with nothing below it; its last process may still be on its way out."""
    deadline = time.monotonic() + _REMOVE_FOR_S
    pause = 0.0005
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as e:
            if e.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            _kill_members(directory)
            # Nothing tells when a killed process has left its group: ask again, ever less often.
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return


def _kill_members(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text("ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _make(directory: Path) -> Path:
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    return directory


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
