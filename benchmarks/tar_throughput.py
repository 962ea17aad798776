"""Layers into directories, compressed and not, and compression itself, beside tar, cp and gzip.

One JSON line per case: the median of several runs taken in turns. Files are written to
``--directory``, so its file system is part of the result; a tmpfs shows the engine alone.
``ratio`` is our time / the time of the yardstick.

    tar_throughput.py [--repetitions N] [--directory PATH]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.corpus import realistic_layer, small_files
from benchmarks.layer_hash import in_turns, report, shell

from slipform.layer.apply import apply_layer
from slipform.layer.compress import Compression, compress
from slipform.layer.copying import copy_tree
from slipform.layer.diff import directory_changes
from slipform.layer.tar_writer import write_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def main() -> int:
    """Print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where files are read and written")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="slipform-bench-", dir=arguments.directory))
    try:
        for kind, make in (("small", small_files), ("layer", realistic_layer)):
            unpacking(kind, make(home / kind, 1), home, arguments.repetitions)
        compressing(home, arguments.repetitions)
    finally:
        shutil.rmtree(home)
    return 0


def unpacking(kind: str, tree: Path, home: Path, repetitions: int) -> None:
    """Apply and copy, each into a new directory."""
    archive, packed = home / f"{kind}.tar", home / f"{kind}.tar.gz"
    with archive.open("wb") as sink:
        size = write_layer(directory_changes(None, tree), sink).size
    with packed.open("wb") as out:
        for chunk in compress(pieces(archive), "gzip"):
            out.write(chunk)
    groups: tuple[dict[str, Callable[[Path], object]], ...] = (
        {
            "apply": lambda to: apply_file(archive, to),
            "tar -xp": lambda to: shell(f"tar -xpf '{archive}' -C '{to}'"),
        },
        {
            "apply gzip": lambda to: apply_file(packed, to),
            "tar -xpz": lambda to: shell(f"tar -xpzf '{packed}' -C '{to}'"),
        },
        {
            "copy_tree": lambda to: copy_tree(tree, to),
            "cp -a": lambda to: shell(f"cp -a '{tree}/.' '{to}'"),
        },
    )
    for group in groups:
        runs = {name: in_new_directory(run, home) for name, run in group.items()}
        times = in_turns(runs, repetitions)
        for name, taken in times.items():
            report(f"{kind}: {name}", size, taken, next(iter(times.values())), home)


def in_new_directory(run: Callable[[Path], object], home: Path) -> Callable[[], object]:
    """Run with a directory that did not exist; the one of the run before goes first."""
    target = home / "target"

    def call() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        run(target)

    return call


def compressing(home: Path, repetitions: int) -> None:
    """Every format, with one worker and with two; gzip(1) beside them."""
    archive = home / "layer.tar"
    size = archive.stat().st_size
    runs: dict[str, Callable[[], object]] = {
        f"{form}, {workers} workers": consumer(archive, form, workers)
        for form in get_args(Compression)
        if form != "none"
        for workers in (1, 2)
    }
    runs["gzip -1"] = lambda: subprocess.run(
        ["gzip", "-1c", archive], stdout=subprocess.DEVNULL, check=True
    )
    times = in_turns(runs, repetitions)
    for name, taken in times.items():
        report(f"layer: {name}", size, taken, times["gzip, 1 workers"], home)


def consumer(archive: Path, form: Compression, workers: int) -> Callable[[], object]:
    """Compress and forget."""

    def call() -> None:
        for _ in compress(pieces(archive), form, workers=workers):
            pass

    return call


def pieces(path: Path) -> Iterator[bytes]:
    """A file in chunks of 1 MiB."""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def apply_file(path: Path, root: Path) -> None:
    """Unpack one layer."""
    with path.open("rb") as file:
        apply_layer(file, root)


if __name__ == "__main__":
    sys.exit(main())
