"""SIGKILL in the middle of preparing and committing: what was answered is there, and whole."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.content.store import Content
from slipform.core.errors import Unsupported
from slipform.core.snapshots import Kind
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.snapshotter.store import Snapshots

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

CHILD = """
import sys
from pathlib import Path
from slipform.content.store import Content
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.snapshotter.store import Snapshots

root, run = Path(sys.argv[1]), sys.argv[2]
driver = {"overlay": OverlayDriver, "copy": CopyDriver}[sys.argv[3]](root)
s = Snapshots(root, driver, Content(MemoryBlobs(), None).tenant).tenant("default")
parent = ""
for step in range(100_000):
    name = f"{run}.{step}"
    s.prepare(f"{name}.key", parent if step % 20 else "")
    tree = root / "snapshots" / max((root / "snapshots").iterdir(), key=lambda p: int(p.name)).name
    (tree / "fs" / f"file-{step}").write_text(name)
    s.commit(name, f"{name}.key", lease="all" if step % 3 else "")
    print(name, flush=True)
    if step % 20 == 19:
        s.prepare(f"{name}.gone", name)
        s.remove(f"{name}.gone")
        s.collect()
    parent = name
"""


@pytest.mark.parametrize("factory", [OverlayDriver, CopyDriver])
def test_what_was_committed_survives_sigkill(factory: Any, tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    try:
        factory.probe(root)
    except Unsupported as e:
        pytest.skip(str(e))
    for run in range(5):
        answered = killed_after(run * 17 + 3, root, str(run), factory.name)
        check(root, factory, answered)


def killed_after(lines: int, root: Path, run: str, driver: str) -> list[str]:
    """Let a process work until it has told that many names, kill it, and return all it told."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), run, driver],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(lines)]
        child.kill()
        told += [line.strip() for line in child.stdout if line.endswith("\n")]
    return told


def check(root: Path, factory: Any, answered: list[str]) -> None:
    with (
        contextlib.closing(Content(MemoryBlobs(), None, grace=timedelta(0))) as content,
        contextlib.closing(Snapshots(root, factory(root), content.tenant)) as snapshots,
    ):
        s = snapshots.tenant("default")
        infos = {info.name: info for info in s.walk()}
        leased = set(s.lease_resources("all"))
        kept = {name for name in answered if name in leased}
        assert kept <= infos.keys()
        assert {info.parent for info in infos.values()} - {""} <= infos.keys()
        rows = snapshots._state.catalog.numbers()
        assert rows == set(snapshots._state.driver.numbers())
        assert os.listdir(root / "trash") == []
        for name in infos:
            if infos[name].kind is Kind.COMMITTED:
                row = snapshots._state.require("default", name)
                step = name.partition(".")[2]
                file = root / "snapshots" / str(row.number) / "fs" / f"file-{step}"
                assert file.read_text() == name
            else:
                s.remove(name)
