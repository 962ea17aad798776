"""The ``oci`` driver: the same bundles, run by runc or crun."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import DomainError, Unsupported
from slipform.core.execution import Bundle, Exited
from slipform.core.executor_driver import DriverInfo
from slipform.core.linux import cgroups
from slipform.core.mounts import Mount
from slipform.drivers.executor.handle import Run
from slipform.drivers.executor.launcher import Launcher
from slipform.drivers.executor.native import cgroup_name

if TYPE_CHECKING:
    from slipform.core.execution import RunHandle

_RUNTIMES: Final = ("crun", "runc")
"""In the order of preference: crun starts faster, but 1.8 refuses hybrid cgroups."""


class OciDriver:
    """Runs bundles with an OCI runtime that is installed."""

    def __init__(self, state: Path, *, runtime: str = "") -> None:
        """Choose a runtime by trying it, and remove what an unclean death left.

        Args:
            state: a directory of the driver's own; made when absent.
            runtime: name or path of the runtime; empty tries crun, then runc.

        Raises:
            Unsupported: none works here; says why for each.
        """
        self._state = state
        self._root = state / "rootfs"
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cgroup = cgroup_name(state)
        cgroups.sweep(self._cgroup)
        for leftover in ("runtime", "bundles"):
            shutil.rmtree(state / leftover, ignore_errors=True)
            (state / leftover).mkdir(mode=0o700)
        self._launcher = Launcher()
        try:
            self._runtime = self._choose((runtime,) if runtime else _RUNTIMES)
        except BaseException:
            self._launcher.close()
            raise

    @classmethod
    def probe(cls, root: Path) -> None:
        """Run a container in a directory of its own."""
        with tempfile.TemporaryDirectory(dir=root) as state:
            cls(Path(state)).close()

    def info(self) -> DriverInfo:
        """What this driver is."""
        return DriverInfo("oci", self._runtime, cgroups.hierarchies().version, device_rules=True)

    def start(self, bundle: Bundle) -> Run:
        """Start the process of a bundle."""
        return self._start(bundle, self._runtime)

    def close(self) -> None:
        """End the zygote, all runs, and the cgroups."""
        self._launcher.close()
        cgroups.sweep(self._cgroup)
        for leftover in ("runtime", "bundles"):
            shutil.rmtree(self._state / leftover, ignore_errors=True)

    def _start(self, bundle: Bundle, runtime: str) -> Run:
        directory = self._state / "bundles" / bundle.id
        directory.mkdir(mode=0o700)
        bundle.spec["linux"]["cgroupsPath"] = f"/{self._cgroup}/{bundle.id}"
        settings: dict[str, Any] = {
            "runtime": runtime,
            "state": str(self._state / "runtime"),
            "bundle": str(directory),
        }
        return Run(
            self._launcher.open_run(),
            bundle,
            settings,
            str(self._root),
            finished=lambda: shutil.rmtree(directory, ignore_errors=True),
        )

    def _choose(self, candidates: tuple[str, ...]) -> str:
        refused = []
        for candidate in candidates:
            path = shutil.which(candidate)
            if path is None:
                refused.append(f"{candidate} is not installed")
                continue
            try:
                self._try(path)
            except DomainError as e:
                refused.append(f"{candidate}: {e}")
            else:
                return path
        raise Unsupported(f"executor driver oci: {'; '.join(refused)}")

    def _try(self, runtime: str) -> None:
        """Run ``true`` of the host in a read-only image of the host: nothing less tells."""
        handle: RunHandle = self._start(
            Bundle("probe", _probe_spec(), (Mount("bind", "/", "", ("rbind", "ro")),)), runtime
        )
        events = list(handle)
        if events[-1] != Exited(0):
            raise Unsupported(f"a trial container ended with {events[-1]}")


def _probe_spec() -> dict[str, Any]:
    kinds = ("mount", "pid", "ipc", "uts", "cgroup")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {},
            "args": ["true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {},
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "probe",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": []},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in kinds], "resources": {}},
    }
