"""The ``native`` driver: no runtime binary; a fork of the zygote enters the namespaces itself."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from slipform.core.errors import DomainError, PermissionDenied, Unsupported
from slipform.core.executor_driver import DriverInfo
from slipform.core.linux import cgroups, mountapi, namespaces
from slipform.core.linux.seccomp.compiler import compile_policy
from slipform.core.oci.config import DEFAULT_PATH
from slipform.drivers.executor.handle import Run
from slipform.drivers.executor.launcher import Launcher
from slipform.drivers.executor.monitor import STAGE, TEMPLATE
from slipform.drivers.executor.template import TOPS, Current, split

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.core.execution import Bundle


class NativeDriver:
    """Runs bundles in namespaces; needs root and nothing installed."""

    def __init__(self, state: Path) -> None:
        """Exec the zygote, and remove what an unclean death left.

        Args:
            state: a directory of the driver's own; made when absent.

        Raises:
            Unavailable: the zygote did not start.
        """
        self._directory = state.resolve()
        self._root = self._directory / "rootfs"
        for path in (self._root, *(self._directory / STAGE / top for top in TOPS)):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cgroup = cgroup_name(state)
        cgroups.sweep(self._cgroup)
        self._guarded = cgroups.prepare(self._cgroup)
        self._current = Current(self._directory / TEMPLATE)
        self._launcher = Launcher(self._admit, str(self._directory))

    @classmethod
    def probe(cls, root: Path) -> None:
        """Try the namespaces and a mount, in a thread that ends with them."""
        if os.geteuid() != 0:
            raise PermissionDenied("executor driver native: needs root")
        outcome: list[DomainError] = []
        thread = threading.Thread(target=_try_namespaces, args=(root, outcome))
        thread.start()
        thread.join()
        if outcome:
            raise outcome[0]

    def info(self) -> DriverInfo:
        """What this driver is."""
        return DriverInfo("native", "", cgroups.hierarchies().version, self._guarded)

    def start(self, bundle: Bundle) -> Run:
        """Start the process of a bundle."""
        rules = bundle.spec["linux"]["resources"].get("devices") or ()
        extra: dict[str, Any] = {
            "path": DEFAULT_PATH,
            "guarded": self._guarded or all(rule["allow"] for rule in rules),
        }
        policy = bundle.spec["linux"].get("seccomp")
        if policy:
            extra["seccomp"] = _compiled(json.dumps(policy))
        template, rest = split(bundle.spec, extra)
        self._current.announce(template)
        settings: dict[str, Any] = {
            "cgroup": self._cgroup,
            "template": template.name,
            "directory": str(self._directory),
        }
        return Run(
            self._launcher.open_run(),
            replace(bundle, spec=rest),
            settings,
            str(self._root),
            finished=lambda: None,
            template=template.content,
        )

    def _admit(self, pid: int) -> None:
        if self._guarded:
            cgroups.admit(self._cgroup, pid)

    def close(self) -> None:
        """End the zygote, all runs, and the cgroups."""
        self._launcher.close()
        cgroups.sweep(self._cgroup)


def cgroup_name(state: Path) -> str:
    """The name of a driver's cgroups: the same for the same directory."""
    digest = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()
    return f"slipform-{digest[:12]}"


@lru_cache(maxsize=64)
def _compiled(policy: str) -> str:
    return base64.b64encode(compile_policy(json.loads(policy))).decode("ascii")


def _try_namespaces(root: Path, outcome: list[DomainError]) -> None:
    try:
        namespaces.unshare(
            namespaces.CLONE_FS
            | namespaces.CLONE_NEWNS
            | namespaces.CLONE_NEWIPC
            | namespaces.CLONE_NEWUTS
            | namespaces.CLONE_NEWCGROUP
            | namespaces.CLONE_NEWNET
            | namespaces.CLONE_NEWPID
        )
        mountapi.mount("", "/", "", mountapi.MS_REC | mountapi.MS_PRIVATE)
        root.mkdir(parents=True, exist_ok=True)
        mountapi.mount("tmpfs", root, "tmpfs", mountapi.MS_NODEV, "size=4k")
    except OSError as e:
        outcome.append(Unsupported(f"executor driver native: {e.filename}: {e.strerror}"))
