"""Whole builds, here and by a private dockerd in the same run: RUN steps, COPY, cached rebuilds.

Each case is the command line as a user types it, warm daemons on both sides; the median of
several runs. `ratio` is ours / docker's classic builder; smaller is better.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from testkit import docker  # noqa: E402 - the path to it is set just above
from testkit.slipform import Slipform, embedded  # noqa: E402 - likewise

if TYPE_CHECKING:
    from collections.abc import Callable

REPETITIONS: Final = 5
FILES: Final = 20_000

RUN_TRUE: Final = (
    "FROM scratch\nCOPY busybox /bin/busybox\n"
    'RUN ["/bin/busybox", "--install", "-s", "/bin"]\n' + "RUN true\n" * 20
)
COPY_TREE: Final = "FROM scratch\nCOPY tree /tree\n"
CACHED: Final = (
    "FROM scratch\nCOPY busybox /bin/busybox\n"
    'RUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
    + "".join(f"RUN echo {number} > /file{number}\n" for number in range(7))
    + "ENV A=b\nCOPY app /app\n"
    'CMD ["/bin/sh"]\n'
)


def main() -> int:
    """Print one JSON line per case."""
    directory = Path(tempfile.mkdtemp(prefix="slipform-bench-"))
    daemon, peer = docker.start(_made(directory / "docker"))
    try:
        with embedded(directory / "root") as slipform:
            for name, dockerfile, cached in (
                ("run_true_20", RUN_TRUE, False),
                ("copy_20000_files", COPY_TREE, False),
                ("cached_12_steps", CACHED, True),
            ):
                context = _context(directory / name, dockerfile)
                print(json.dumps(_case(name, context, slipform, peer, cached=cached)), flush=True)
    finally:
        docker.stop(daemon, peer)
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _context(directory: Path, dockerfile: str) -> Path:
    """The files that a Dockerfile copies: busybox, a small app, or 20,000 small files."""
    directory.mkdir()
    (directory / "Dockerfile").write_text(dockerfile)
    if "COPY busybox" in dockerfile:
        shutil.copy(shutil.which("busybox") or "/bin/busybox", directory / "busybox")
    if "COPY app" in dockerfile:
        (directory / "app").write_text("print('hello')\n")
    if "COPY tree" in dockerfile:
        random_bytes = random.Random(7)
        for number in range(FILES):
            path = directory / "tree" / f"d{number // 100:03}" / f"file{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(random_bytes.randbytes(random_bytes.randrange(200, 4000)))
    return directory


def _case(
    name: str, context: Path, slipform: Slipform, peer: docker.Docker, *, cached: bool
) -> dict[str, object]:
    # The steps' own digits change nothing but make a rebuild without a cache hit: --no-cache.
    fresh = [] if cached else ["--no-cache"]
    client = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    words = ["build", "-q", "--network=none", *fresh, "-t", name, str(context)]
    us = [sys.executable, "-m", "slipform.cli", *words]
    ours = _median(lambda: _run(us, slipform.environment()))
    classic = _median(lambda: _run([client, *words], peer.env))
    result: dict[str, object] = {
        "benchmark": f"against_docker.{name}",
        "seconds": round(ours, 4),
        "docker_classic_seconds": round(classic, 4),
        "ratio": round(ours / classic, 3),
    }
    buildkit = {**peer.env, "DOCKER_BUILDKIT": "1"}
    modern = _median(lambda: _run([client, *words], buildkit))
    result["docker_buildkit_seconds"] = round(modern, 4)
    result["repetitions"] = REPETITIONS
    result["cpus"] = os.cpu_count()
    result["kernel"] = platform.release()
    return result


def _median(once: Callable[[], float]) -> float:
    once()
    return statistics.median(once() for _ in range(REPETITIONS))


def _run(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
