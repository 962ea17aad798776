"""Memory of the daemon while it builds with a large file in the context: peak RSS in MiB."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from testkit.slipform import embedded  # noqa: E402 - the path to it is set just above

GIB: Final = int(os.environ.get("SLIPFORM_BENCH_GIB", "4"))


def main() -> int:
    """Build with one file of 4 GiB (SLIPFORM_BENCH_GIB for another size); one JSON line."""
    with tempfile.TemporaryDirectory(prefix="slipform-bench-") as directory:
        context = Path(directory) / "context"
        context.mkdir()
        block = os.urandom(1 << 20)
        with (context / "large").open("wb") as file:
            for _ in range(GIB << 10):
                file.write(block)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY large /large\n")
        with embedded(Path(directory) / "root") as slipform:
            slipform.run("build", "-q", "-t", "large", context)
            pid = int(slipform.text("info", "-f", "{{.pid}}"))
            status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    line = {"benchmark": "build_memory", "gib": GIB, "peak_rss_mib": int(peak) // 1024}
    print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
