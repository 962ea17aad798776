"""Trees to canonical layer tars and diff_ids, beside ``sha256sum`` and ``tar | sha256sum``.

One JSON line per case: the median of several runs, all of them warm, taken in turns so that a
neighbour who wakes up disturbs all alike. ``ratio`` is our time / the time of the yardstick.

    layer_hash.py [--repetitions N] [--corpus DIRECTORY]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.corpus import CORPORA

from slipform.layer.copying import copy_tree
from slipform.layer.diff import directory_changes
from slipform.layer.tar_writer import write_layer

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """Print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--corpus", type=Path, help="make the corpora here and keep them")
    arguments = parser.parse_args()
    home = arguments.corpus or Path(tempfile.mkdtemp(prefix="slipform-bench-"))
    try:
        for kind, make in CORPORA.items():
            tree = home / kind
            if not tree.exists():
                make(tree, 1)
            measure(kind, tree, arguments.repetitions)
        unchanged(home, arguments.repetitions)
    finally:
        if arguments.corpus is None:
            shutil.rmtree(home)
    return 0


def measure(kind: str, tree: Path, repetitions: int) -> None:
    """One corpus: ours, and what others need for the same bytes."""
    size = write_layer(directory_changes(None, tree), None).size
    runs: dict[str, Callable[[], object]] = {
        "slipform": lambda: write_layer(directory_changes(None, tree), None),
        "tar | sha256sum": lambda: shell(f"tar -C '{tree}' -cf - . | sha256sum"),
        "tar | openssl": lambda: shell(f"tar -C '{tree}' -cf - . | openssl dgst -sha256"),
        "sha256 alone": lambda: hash_alone(size),
    }
    if not shutil.which("openssl"):
        del runs["tar | openssl"]
    if kind == "large":
        runs["sha256sum"] = lambda: shell(f"sha256sum '{tree}/large.bin'")
    times = in_turns(runs, repetitions)
    for name, taken in times.items():
        report(f"{kind}: {name}", size, taken, times["slipform"], tree)


def unchanged(home: Path, repetitions: int) -> None:
    """The copy driver's comparison when nothing was changed, with and without its shortcut."""
    tree, copy, marker = home / "small", home / "copy", home / "marker"
    copy_tree(tree, copy)
    marker.touch()
    copied_ns = marker.stat().st_ctime_ns
    size = write_layer(directory_changes(None, tree), None).size
    runs: dict[str, Callable[[], object]] = {
        "compare": lambda: write_layer(directory_changes(tree, copy), None),
        "compare, untouched known": lambda: write_layer(
            directory_changes(tree, copy, untouched_before_ns=copied_ns), None
        ),
        "diff -r": lambda: shell(f"diff -r '{tree}' '{copy}'"),
    }
    times = in_turns(runs, repetitions)
    for name, taken in times.items():
        report(f"small, unchanged: {name}", size, taken, times["compare"], tree)
    shutil.rmtree(copy)


def in_turns(runs: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Every case once without counting, then all of them again and again."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(repetitions + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repetition:
                times[name].append(time.perf_counter() - start)
    return times


def hash_alone(size: int) -> None:
    """As many bytes as the tar has, from memory."""
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 18))
    for _ in range(size >> 18):
        hasher.update(buffer)
    hasher.update(buffer[: size & ((1 << 18) - 1)])


def shell(command: str) -> None:
    """A yardstick made of other programs."""
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)  # noqa: S602 - a pipe of our own words


def report(case: str, size: int, taken: list[float], ours: list[float], tree: Path) -> None:
    """One JSON line."""
    seconds = statistics.median(taken)
    line: dict[str, Any] = {
        "case": case,
        "bytes": size,
        "seconds": round(seconds, 4),
        "mib_per_s": round(size / seconds / (1 << 20), 1),
        "ratio": round(statistics.median(ours) / seconds, 3),
        "repetitions": len(taken),
        "cache": "warm",
        "file_system": file_system(tree),
        "cpu": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(line), flush=True)


def file_system(path: Path) -> str:
    """The type of the file system that holds a path."""
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
