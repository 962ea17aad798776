"""In a plain chroot nothing that needs mounts can work; it must say so, and how to help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from slipform.core.errors import Unsupported
from slipform.core.linux.mounting import private_mount_namespace
os.chroot(sys.argv[1])
try:
    private_mount_namespace()
except Unsupported as e:
    print(e)
"""


@pytest.mark.root
@pytest.mark.requires("unshare")
def test_root_that_is_no_mount_point(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    enter = f'mount -t proc proc {tmp_path}/proc && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", enter, "sh",
         sys.executable, "-c", SCRIPT, tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "mount --bind DIR DIR" in done.stdout, done.stderr
