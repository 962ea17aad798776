"""``python -m slipform.executor``: this service alone, wired by the configuration."""

from __future__ import annotations

import sys

from slipform.daemon.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["executor", *sys.argv[1:]]))
