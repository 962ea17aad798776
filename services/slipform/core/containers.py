"""Containers of images: what ``slipform run`` asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from slipform.core.execution import Network, Resources, RunHandle, Security

if TYPE_CHECKING:
    from slipform.core.mounts import Mount


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """``docker run`` in the foreground; None means "as the image says"."""

    image: str
    args: tuple[str, ...] = ()
    """Replace the image's CMD when not empty."""
    entrypoint: tuple[str, ...] | None = None
    """Replaces the image's ENTRYPOINT and drops its CMD; an empty tuple resets it."""
    env: tuple[str, ...] = ()
    """``NAME=value`` sets, ``NAME`` alone removes the image's variable."""
    cwd: str | None = None
    user: str | None = None
    name: str = ""
    hostname: str = ""
    """Empty is the first twelve digits of the container id; with host network the host's name."""
    network: Network = Network.HOST
    security: Security = Security.SANDBOX
    volumes: tuple[Mount, ...] = ()
    """Bind mounts; sources are absolute host paths, made as directories when absent."""
    read_only: bool = False
    remove: bool = False
    resources: Resources = field(default_factory=Resources)
    extra_hosts: tuple[tuple[str, str], ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    stdin: bytes = b""
    attach_stdin: bool = False
    """Standard input is fed by ``RunHandle.write_stdin`` (``docker run -i``)."""


class Containers(Protocol):
    """Starts containers from images."""

    def run_container(self, request: ContainerRequest) -> RunHandle:
        """Unpack the image, make a writable snapshot, run it; the snapshot goes afterwards.

        Raises:
            NotFound: no such image, or no such executable in it.
            and whatever ``Executor.run`` raises.
        """
        ...
