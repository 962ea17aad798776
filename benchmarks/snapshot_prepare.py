"""A snapshot's life: prepare, commit and remove per second, beside bare mkdir and bare mount.

One JSON line per case, the median of several runs after one that does not count. ``mkdir`` makes
and removes the same directories without any metadata; ``mount`` mounts and unmounts an overlay.
``ratio`` is our time / the time of mkdir in the same run.

    snapshot_prepare.py [--cycles N] [--repetitions N] [--directory PATH]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.content.store import Content
from slipform.core.errors import Unsupported
from slipform.core.linux.mounting import mounted, private_mount_namespace
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.snapshotter.store import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.core.snapshots import Snapshotter


def main() -> int:
    """Print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--directory", type=Path, default=None, help="where the snapshots lie")
    arguments = parser.parse_args()
    if os.geteuid() == 0:
        private_mount_namespace()
    directory = Path(tempfile.mkdtemp(prefix="slipform-bench-", dir=arguments.directory))
    try:
        run(directory, arguments.cycles, arguments.repetitions)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def run(directory: Path, cycles: int, repetitions: int) -> None:
    """Measure the yardstick, then every driver that works here."""
    made = directory / "made"
    made.mkdir()
    bare = measure(lambda: mkdir_cycles(made, cycles), repetitions)
    report("mkdir", bare, cycles, repetitions, bare)
    for factory in (OverlayDriver, CopyDriver):
        store = directory / factory.name
        store.mkdir()
        try:
            factory.probe(store)
        except Unsupported as e:
            print(json.dumps({"case": factory.name, "skipped": str(e)}), flush=True)
            continue
        measure_driver(factory, store, cycles, repetitions, bare)


def measure_driver(
    factory: Any, store: Path, cycles: int, repetitions: int, bare: list[float]
) -> None:
    """The life of snapshots on a small base, alone and at the top of 100 layers."""
    with (
        contextlib.closing(Content(MemoryBlobs(), None)) as content,
        contextlib.closing(Snapshots(store, factory(store), content.tenant)) as snapshots,
    ):
        s = snapshots.tenant("default")
        layer(s, "base", "")
        seconds = measure(lambda: life(s, "base", cycles), repetitions)
        report(f"{factory.name}_life", seconds, cycles, repetitions, bare)
        if factory is not OverlayDriver:
            return
        top = "base"
        for number in range(100):
            top = layer(s, f"layer-{number}", top)
        seconds = measure(lambda: life(s, top, cycles), repetitions)
        report("overlay_life_on_101_layers", seconds, cycles, repetitions, bare)
        if os.geteuid() == 0:
            s.prepare("mounted", "base")
            target = store.parent / "root"
            target.mkdir()
            seconds = measure(lambda: mount_cycles(s, target, cycles), repetitions)
            report("mount_and_unmount", seconds, cycles, repetitions, bare)


def layer(snapshots: Snapshotter, name: str, parent: str) -> str:
    """Commit an empty layer."""
    snapshots.prepare(f"{name}.key", parent)
    snapshots.commit(name, f"{name}.key")
    return name


def life(snapshots: Snapshotter, parent: str, cycles: int) -> None:
    """What a step costs the snapshotter, and its garbage."""
    for number in range(cycles):
        snapshots.prepare("key", parent, lease="build")
        snapshots.commit(f"name-{number}", "key", lease="build")
        snapshots.remove_from_lease("build", [f"name-{number}"])
        snapshots.remove(f"name-{number}")


def mkdir_cycles(directory: Path, cycles: int) -> None:
    """The same directories by hand: made, moved to a trash, deleted."""
    for number in range(cycles):
        path = directory / str(number)
        path.mkdir()
        (path / "fs").mkdir()
        (path / "work").mkdir()
        gone = path.rename(directory / "gone")
        (gone / "work").rmdir()
        (gone / "fs").rmdir()
        gone.rmdir()


def mount_cycles(snapshots: Snapshotter, target: Path, cycles: int) -> None:
    """Mount and unmount, as every step does."""
    for _ in range(cycles):
        with mounted(snapshots.mounts("mounted"), target):
            pass


def measure(work: Callable[[], None], repetitions: int) -> list[float]:
    """Seconds of each run."""
    seconds = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def report(
    case: str, seconds: list[float], cycles: int, repetitions: int, bare: list[float]
) -> None:
    """Print a case."""
    median = statistics.median(seconds)
    line = {
        "case": case,
        "cycles": cycles,
        "seconds": round(median, 4),
        "per_second": round(cycles / median),
        "microseconds_each": round(median / cycles * 1e6, 1),
        "spread": [round(min(seconds), 4), round(max(seconds), 4)],
        "ratio": round(median / statistics.median(bare), 2),
        "repetitions": repetitions,
        "state": "warm",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
