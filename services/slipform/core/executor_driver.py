"""What an executor driver is: it runs OCI bundles (DESIGN.md, decision 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.core.execution import Bundle, RunHandle


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a driver is and can do here."""

    name: str
    runtime: str
    """Path of the runtime program; empty when the driver needs none."""
    cgroup_version: int
    """1 or 2: through which limits are set; 0 when they can't be."""
    device_rules: bool
    """Whether a cgroup decides which devices may be opened."""


@runtime_checkable
class SupportsInfo(Protocol):
    """An executor that knows its driver."""

    def info(self) -> DriverInfo:
        """What runs processes, and what it can do; cheap, but may be a remote call."""
        ...


class ExecutorDriver(Protocol):
    """Runs bundles; safe to call from several threads.

    The constructor takes a directory for the driver's state, removes what an unclean death left
    there, and must be called before gRPC is imported where it forks.
    """

    @classmethod
    def probe(cls, root: Path) -> None:
        """Try whether the driver can work here, with state below ``root``.

        Raises:
            Unsupported, PermissionDenied: it can't; says why.
        """
        ...

    def info(self) -> DriverInfo:
        """What this driver is; cheap."""
        ...

    def start(self, bundle: Bundle) -> RunHandle:
        """Start the process of a bundle; returns when it has been exec'd.

        The handle, once iterated to its end or closed, leaves nothing of the run behind.

        Raises:
            as ``Executor.run`` does.
        """
        ...

    def close(self) -> None:
        """Kill what runs and free everything; idempotent."""
        ...
