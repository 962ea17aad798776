"""A private dockerd for the tests that compare with it: own root and socket, no network.

Containers and RUN steps need `--network host` (or none): it has no bridge, and so it changes no
firewall rule and no interface of the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from testkit.leaks import mount_points
from testkit.requires import SEARCH_PATH, find_tool, need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_S: Final = 60.0
STOP_S: Final = 20.0


@dataclass(frozen=True)
class Docker:
    """A running daemon, and the docker client that speaks with it and with nobody else."""

    host: str  # unix:///…, as in DOCKER_HOST
    directory: Path
    driver: str

    @property
    def env(self) -> dict[str, str]:
        """The environment for a client: this daemon, the classic builder, no user configuration."""
        ours = {
            "DOCKER_HOST": self.host,
            "DOCKER_BUILDKIT": "0",
            "DOCKER_CONFIG": str(self.directory / "config"),
            "DOCKER_CLI_HINTS": "false",
            "PATH": SEARCH_PATH,
        }
        return {**os.environ, **ours}

    def run(
        self, *args: str | Path, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs `docker ARGS…`; a failure shows what docker said."""
        client = find_tool("docker") or "docker"
        done = subprocess.run(
            [client, *args], input=stdin, env=self.env, capture_output=True, check=False
        )
        if check and done.returncode != 0:
            said = done.stderr.decode(errors="replace") or done.stdout.decode(errors="replace")
            raise AssertionError(f"docker {' '.join(map(str, args))}: {done.returncode}: {said}")
        return done


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Docker]:
    """A private dockerd, started for the first test that asks and ended after the last."""
    need_root()
    need("dockerd", "docker", "containerd")
    # Short, because a socket's path has 107 bytes at most.
    directory = Path(tempfile.mkdtemp(prefix="slipform-dockerd-")).resolve()
    try:
        daemon, docker = start(directory)
        try:
            yield docker
        finally:
            stop(daemon, docker)
    finally:
        clear(directory)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Sends every test that wants dockerd to one xdist worker, so that only one is started."""
    for item in items:
        if "dockerd" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("dockerd"))


def start(directory: Path) -> tuple[subprocess.Popen[bytes], Docker]:
    """Starts dockerd with the best storage driver that this disk allows."""
    complaints = []
    for driver in ("overlay2", "vfs"):
        docker = Docker(f"unix://{directory}/docker.sock", directory, driver)
        daemon = launch(docker)
        if answers(daemon, docker):
            return daemon, docker
        stop(daemon, docker)
        complaints.append(f"{driver}: {(directory / 'log').read_text(errors='replace')[-1500:]}")
    pytest.fail("dockerd does not start:\n" + "\n".join(complaints))


def launch(docker: Docker) -> subprocess.Popen[bytes]:
    """Starts dockerd in a session of its own, logging to a file."""
    directory = docker.directory
    (directory / "config").mkdir(exist_ok=True)
    command = [
        # Ends dockerd also when pytest is killed and no fixture is ever finished.
        *(("setpriv", "--pdeathsig", "TERM", "--") if find_tool("setpriv") else ()),
        find_tool("dockerd") or "dockerd",
        f"--host={docker.host}",
        f"--data-root={directory}/{docker.driver}",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/pid",
        f"--storage-driver={docker.driver}",
        "--config-file=",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=docker.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def answers(daemon: subprocess.Popen[bytes], docker: Docker) -> bool:
    """Waits until dockerd answers, has ended, or has had its time."""
    deadline = time.monotonic() + START_S
    while daemon.poll() is None and time.monotonic() < deadline:
        if docker.run("version", check=False).returncode == 0:
            return True
        time.sleep(0.1)
    return False


def stop(daemon: subprocess.Popen[bytes], docker: Docker) -> None:
    """Ends the containers, then dockerd, then what is left of its session (its containerd)."""
    if daemon.poll() is None:
        containers = docker.run("ps", "-aq", check=False).stdout.decode().split()
        if containers:
            docker.run("rm", "--force", *containers, check=False)
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


def clear(directory: Path) -> None:
    """Unmounts what lies below the daemon's directory, and removes it."""
    for mount in reversed(mount_points("self")):
        if mount.startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(directory)
