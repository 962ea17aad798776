"""Nothing survives: a daemon or zygote that is killed in mid-step leaves nothing for long."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import Unavailable
from slipform.core.execution import Exited, Resources, RunRequest, Started
from slipform.core.linux import cgroups
from slipform.core.mounts import Mount
from slipform.drivers.executor.native import NativeDriver, cgroup_name
from slipform.drivers.executor.oci import OciDriver
from slipform.executor.execution import Execution
from slipform.testing.execution_world import ExecutionWorld, make_root
from testkit.requires import find_tool, need

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.requires("busybox")]

DRIVERS = {"native": NativeDriver, "oci": OciDriver}
WAIT_S = 30
DAEMON = """
import sys
from pathlib import Path
from slipform.core.execution import Resources, RunRequest, Started
from slipform.core.linux.mounting import private_mount_namespace
from slipform.core.mounts import Mount
from slipform.drivers.registry import load
from slipform.executor.execution import Execution

private_mount_namespace()
name, state, root = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
driver = load("executor", name)(state)
handle = Execution(driver, state).run(RunRequest(
    id="victim", rootfs=(Mount("bind", root, "", ("rbind",)),),
    args=("/bin/sh", "-c", "sleep 1000 & setsid sleep 1000 & echo up; wait"),
    env=("PATH=/bin",), resources=Resources(pids=int(sys.argv[4])),
    mounts=(Mount("tmpfs", "tmpfs", "/some/where"),),
))
for event in handle:
    print(event.pid if isinstance(event, Started) else "up", flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root", Path(str(find_tool("busybox"))))


@pytest.fixture(params=["native", "oci"])
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "oci":
        need("runc")
    return str(request.param)


def limits() -> Resources:
    return Resources(pids=100 if cgroups.hierarchies().version else 0)


def family(pid: int) -> set[int]:
    """A process and all its descendants, namespaces notwithstanding."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = {pid}
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def watch(pids: set[int]) -> dict[int, int]:
    fds = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fds[pid] = os.pidfd_open(pid)
    return fds


def assert_all_end(fds: dict[int, int]) -> None:
    for pid, fd in fds.items():
        ready, _, _ = select.select([fd], [], [], WAIT_S)
        os.close(fd)
        assert ready, f"process {pid} lives on"


def groups(state: Path) -> list[Path]:
    """What stands in any hierarchy under the driver's name."""
    found = cgroups.hierarchies()
    places = {*found.v1.values(), *((found.unified,) if found.unified else ())}
    roots = [place / cgroup_name(state) for place in places]
    return [d for top in roots if top.exists() for d in [top, *top.rglob("*")] if d.is_dir()]


@contextlib.contextmanager
def daemon(name: str, state: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON, name, str(state), str(root), str(limits().pids)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_daemon_leaves_nothing(name: str, tmp_path: Path, root: Path) -> None:
    state = tmp_path / "state"
    with daemon(name, state, root) as process:
        assert process.stdout is not None
        container = int(process.stdout.readline())
        assert process.stdout.readline() == "up\n"
        watched = watch(family(process.pid) | family(container))
        assert len(watched) >= 5  # daemon, zygote, monitor, shell, two sleeps (one may be early)
        process.send_signal(signal.SIGKILL)
        assert_all_end(watched)
    driver = DRIVERS[name](state)
    with contextlib.closing(driver):
        assert not [d for d in groups(state) if "victim" in d.name]
        world = ExecutionWorld(Execution(driver, state), root)
        assert world.run("/bin/true", id="victim").exited == Exited(0)
        assert not [*(state / "files").glob("run-*")]
    assert groups(state) == []
    assert not [*state.glob("bundles/*"), *state.glob("runtime/*")]
    assert not (root / "some").exists()


def test_a_killed_zygote_is_replaced(name: str, tmp_path: Path, root: Path) -> None:
    driver = DRIVERS[name](tmp_path / "state")
    with contextlib.closing(driver):
        execution = Execution(driver, tmp_path / "state")
        world = ExecutionWorld(execution, root)
        world.share_root()
        events = iter(execution.run(world.request("/bin/sleep", "1000")))
        started = next(events)
        assert isinstance(started, Started)
        zygote = driver._launcher._process.pid
        watched = watch(family(zygote) | {started.pid})
        os.kill(zygote, signal.SIGKILL)
        assert_all_end({pid: fd for pid, fd in watched.items() if pid != zygote})
        with pytest.raises(Unavailable):
            list(events)
        assert world.run("/bin/true").exited == Exited(0)
        os.close(watched[zygote])


def test_closing_a_driver_ends_its_runs(name: str, tmp_path: Path, root: Path) -> None:
    driver = DRIVERS[name](tmp_path / "state")
    with contextlib.closing(driver):
        execution = Execution(driver, tmp_path / "state")
        request = RunRequest(
            id="long",
            rootfs=(Mount("bind", str(root), "", ("rbind",)),),
            args=("/bin/sleep", "1000"),
            resources=limits(),
        )
        handle = execution.run(request)
        started = next(iter(handle))
        assert isinstance(started, Started)
        watched = watch({started.pid})
    assert_all_end(watched)
    assert groups(tmp_path / "state") == []
