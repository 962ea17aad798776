"""Real root file systems for tests: a static busybox, and Debian as mmdebstrap makes it."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from testkit.requires import find_tool, need, need_root

REPOSITORY: Final = Path(__file__).resolve().parents[3]
PT_INTERP: Final = 3


@dataclass(frozen=True)
class Base:
    """A root file system in a tar, and the name that examples give it."""

    tar: Path
    name: str


@pytest.fixture(scope="session")
def busybox() -> Path:
    """The path of a statically linked busybox, which runs in an otherwise empty image."""
    need("busybox")
    path = Path(find_tool("busybox") or "")
    if not is_static(path):
        pytest.skip(f"{path} is not statically linked (apt-get install busybox-static)")
    return path


@pytest.fixture(scope="session")
def debian_base() -> Base:
    """A small Debian (or Ubuntu: this machine's own release), made once and kept for the next run.

    The tar is shared by all runs of this user: read it, never write it.
    """
    need_root()
    need("mmdebstrap")
    made = subprocess.run(
        [REPOSITORY / "scripts/debian-base"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no Debian base: {made.stderr.strip()[-400:]}")
    tar, name = made.stdout.splitlines()
    return Base(Path(tar), name)


def is_static(path: Path) -> bool:
    """Tells whether a 64-bit ELF program names no dynamic loader."""
    with path.open("rb") as f:
        header = f.read(64)
        if header[:5] != b"\x7fELF\x02":
            return False
        offset, entry_size, count = (
            struct.unpack_from("<Q", header, 32)[0],
            *struct.unpack_from("<HH", header, 54),
        )
        f.seek(offset)
        table = f.read(entry_size * count)
    kinds = (struct.unpack_from("<I", table, index * entry_size)[0] for index in range(count))
    return PT_INTERP not in kinds
