"""Trees to measure with: the same bytes, names and times from the same seed, everywhere.

corpus.py small|large|layer DIRECTORY [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL_FILES: Final = 20_000
LARGE_SIZE: Final = 1 << 30
_EPOCH: Final = 1_700_000_000
_MEDIAN: Final = 2_500  # bytes; sigma 1.4 makes the mean 6.7 KB, as in a node_modules directory
_SIGMA: Final = 1.4


def small_files(root: Path, seed: int = 1, count: int = SMALL_FILES) -> Path:
    """Many small files: sizes log-normal (median 2.5 KB), a hundred to a directory."""
    rng = random.Random(seed)
    pool = rng.randbytes(1 << 20)
    for number in range(count):
        directory = root / f"package-{number // 100:03}" / ("lib" if number % 100 < 50 else "test")
        if number % 50 == 0:
            directory.mkdir(parents=True)
        size = min(int(rng.lognormvariate(0, _SIGMA) * _MEDIAN), 500_000)
        start = rng.randrange(len(pool) - 500_000)
        (directory / f"module-{number:05}.js").write_bytes(pool[start : start + size])
    return _dated(root)


def large_file(root: Path, seed: int = 1, size: int = LARGE_SIZE) -> Path:
    """One file that does not compress."""
    root.mkdir(parents=True)
    rng = random.Random(seed)
    with (root / "large.bin").open("wb") as file:
        for _ in range(size >> 20):
            file.write(rng.randbytes(1 << 20))
    return _dated(root)


def realistic_layer(root: Path, seed: int = 1, count: int = 4_000) -> Path:
    """What ``apt-get install`` leaves: programs, libraries, links, documents, long names."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randrange(2, 12)).hex().encode() for _ in range(2_000)]
    for number in range(count):
        kind = rng.choices(("bin", "lib", "share/doc", "share/locale"), (5, 10, 50, 35))[0]
        directory = root / "usr" / kind / f"package-{number // 20:03}"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{'name-' * rng.randrange(1, 20)}{number}"
        if kind in ("bin", "lib"):
            path.write_bytes(rng.randbytes(int(rng.lognormvariate(10.5, 1.5)) & 0x3FFFFF))
            path.chmod(0o755)
            if number % 3 == 0:
                os.symlink(path.name, directory / f"alias-{number}")
            if number % 10 == 0:
                os.link(path, directory / f"twin-{number}")
        else:
            size = int(rng.lognormvariate(7.5, 1.2)) & 0xFFFFF
            path.write_bytes(b" ".join(rng.choices(words, k=size // 13 + 1))[:size])
    return _dated(root)


def _dated(root: Path) -> Path:
    for directory, directories, files in os.walk(root, topdown=False):
        for name in (*files, *directories):
            path = Path(directory, name)
            os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)
    os.utime(root, (_EPOCH, _EPOCH))
    root.chmod(0o755)
    return root


CORPORA: Final[dict[str, Callable[[Path, int], Path]]] = {
    "small": small_files,
    "large": large_file,
    "layer": realistic_layer,
}


def main() -> None:
    """Make one corpus in a new directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(CORPORA))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    CORPORA[arguments.kind](arguments.directory, arguments.seed)


if __name__ == "__main__":
    main()
