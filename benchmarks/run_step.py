"""The cost of one RUN step that does nothing: `true` in a busybox root, start to last trace.

Yardsticks in the same run: a bare fork and exec, and util-linux' `unshare` with the same
namespaces but without mounts, limits or a security policy. One JSON line per case.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core.errors import DomainError
from slipform.core.execution import Exited, RunRequest
from slipform.core.linux.mounting import private_mount_namespace
from slipform.core.mounts import Mount
from slipform.drivers.executor.native import NativeDriver
from slipform.drivers.executor.oci import OciDriver
from slipform.executor.execution import Execution
from slipform.testing.execution_world import make_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
from functools import partial

REPETITIONS: Final = 50
WARM_UP: Final = 5


def main() -> None:
    """Print one line per case."""
    private_mount_namespace()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("run_step: needs busybox (apt-get install busybox-static)")
    with tempfile.TemporaryDirectory(prefix="slipform-bench-") as directory:
        base = Path(directory)
        root = make_root(base / "lower", Path(busybox))
        for name in ("upper", "work"):
            (base / name).mkdir()
        options = (f"lowerdir={root}", f"upperdir={base}/upper", f"workdir={base}/work")
        rootfs = (Mount("overlay", "overlay", "", options),)
        command = [busybox, "true"]
        report("fork_exec", lambda: subprocess.run(command, check=True))
        flags = ["--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork"]
        report("unshare", lambda: subprocess.run(["unshare", *flags, *command], check=True))
        for driver in (NativeDriver, OciDriver):
            with running(driver, base / driver.__name__) as execution:
                if execution is not None:
                    report(driver.__name__, partial(step, execution, rootfs))


@contextlib.contextmanager
def running(factory: type[NativeDriver | OciDriver], state: Path) -> Iterator[Execution | None]:
    """An executor, or None where the driver can't work."""
    try:
        driver = factory(state)
    except DomainError as e:
        print(json.dumps({"case": factory.__name__, "skipped": str(e)}))
        yield None
        return
    with contextlib.closing(driver):
        yield Execution(driver, state)


def step(execution: Execution, rootfs: tuple[Mount, ...]) -> None:
    """One RUN true."""
    request = RunRequest(f"b{time.monotonic_ns()}", rootfs, ("true",), env=("PATH=/bin",))
    assert list(execution.run(request))[-1] == Exited(0)


def report(case: str, work: Callable[[], object]) -> None:
    """Repeat, and print the median."""
    times = []
    for number in range(WARM_UP + REPETITIONS):
        start = time.perf_counter()
        work()
        if number >= WARM_UP:
            times.append((time.perf_counter() - start) * 1000)
    line = {
        "benchmark": "run_step",
        "case": case,
        "median_ms": round(statistics.median(times), 3),
        "min_ms": round(min(times), 3),
        "p90_ms": round(sorted(times)[int(len(times) * 0.9)], 3),
        "repetitions": REPETITIONS,
        "warm": True,
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
