"""Slipform as a user has it: the command line, and daemons in the ways they are deployed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from testkit.requires import need_root

SERVICES: Final = ("content", "snapshotter", "executor", "frontend", "images", "builder")
TIMEOUT_S: Final = 600


@dataclass(frozen=True)
class Slipform:
    """The command line with one data directory."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        *args: str | Path,
        check: bool = True,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs `slipform ARGS…`; a failure shows what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "slipform.cli", *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=self.environment(env),
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        if check and done.returncode != 0:
            said = done.stderr.decode(errors="replace")
            raise AssertionError(f"slipform {' '.join(map(str, args))}: {done.returncode}: {said}")
        return done

    def text(self, *args: str | Path, env: Mapping[str, str] | None = None) -> str:
        """What a command that must succeed prints on stdout."""
        return self.run(*args, env=env).stdout.decode()

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Our variables and nobody else's address."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLIPFORM_HOST")}
        return {**inherited, "SLIPFORM_ROOT": str(self.root), **self.env, **(env or {})}


@contextlib.contextmanager
def embedded(root: Path, driver: str = "auto") -> Iterator[Slipform]:
    """One daemon with all services, as the command line starts it."""
    config = root.with_suffix(".toml")
    config.write_text(f'[snapshotter]\ndriver = "{driver}"\n')
    slipform = Slipform(root, {"SLIPFORM_CONFIG": str(config)})
    try:
        yield slipform
    finally:
        slipform.run("shutdown")


@contextlib.contextmanager
def apart(root: Path, driver: str = "auto") -> Iterator[Slipform]:
    """Every service in a process of its own, found through the configuration file."""
    root.mkdir(mode=0o700)
    config = root.with_suffix(".toml")
    lines = [f'root = "{root}"']
    for service in SERVICES:
        lines += [f"[{service}]", f'address = "unix:{root}/{service}/sock"']
        if service == "snapshotter":
            lines.append(f'driver = "{driver}"')
    config.write_text("\n".join(lines) + "\n")
    slipform = Slipform(root, {"SLIPFORM_CONFIG": str(config)})
    with contextlib.ExitStack() as running:
        for service in SERVICES:
            running.enter_context(served(slipform, service))
        yield slipform


@contextlib.contextmanager
def served(slipform: Slipform, *services: str) -> Iterator[None]:
    """A process with these services (all of them when none is named), where its configuration says.

    It is ended afterwards; its log lies in the data directory.
    """
    slipform.root.mkdir(mode=0o700, exist_ok=True)
    readable, writable = os.pipe()
    log = slipform.root / f"{'-'.join(services) or 'all'}.log"
    with log.open("wb") as out:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "slipform.cli", "serve", *services, f"--ready-fd={writable}"],
            env=slipform.environment(),
            pass_fds=(writable,),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    os.close(writable)
    try:
        ready = os.read(readable, 1)
        os.close(readable)
        assert ready, f"serve {' '.join(services)}: {log.read_text()}"
        yield
    finally:
        daemon.terminate()
        daemon.wait(30)


@pytest.fixture
def slipform(tmp_path: Path) -> Iterator[Slipform]:
    """A data directory of its own, whose daemon ends with the test."""
    need_root()
    with embedded(tmp_path / "root") as running:
        yield running
