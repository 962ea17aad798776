"""``slipform serve``: becomes the daemon."""

from __future__ import annotations

import os
import sys


def main(words: list[str], host: str) -> int:
    """Replace this process by the daemon, which reads the rest of the command line."""
    address = [f"--address={host}"] if host else []
    os.execv(sys.executable, [sys.executable, "-m", "slipform.daemon", *address, *words])
