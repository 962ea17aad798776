"""What a container runs: docker's rules for combining an image's configuration with a request."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.core.errors import InvalidArgument
from slipform.core.execution import Network, RunRequest
from slipform.core.oci.config import DEFAULT_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slipform.core.containers import ContainerRequest
    from slipform.core.mounts import Mount
    from slipform.core.oci.config import RunConfig

_SHORT_ID = 12


def run_request(container: str, request: ContainerRequest, config: RunConfig) -> RunRequest:
    """The run of a container, all but its root.

    Raises:
        InvalidArgument: neither image nor request name a command, or a path is not absolute.
    """
    hostname = request.hostname or _hostname(container, request.network)
    cwd = config.working_dir if request.cwd is None else request.cwd
    return RunRequest(
        id=container,
        rootfs=(),
        args=arguments(request, config),
        env=environment(config.env, request.env, hostname),
        cwd=cwd or "/",
        user=config.user if request.user is None else request.user,
        hostname=hostname,
        network=request.network,
        security=request.security,
        mounts=tuple(map(_volume, request.volumes)),
        resources=request.resources,
        read_only=request.read_only,
        extra_hosts=request.extra_hosts,
        cap_add=request.cap_add,
        cap_drop=request.cap_drop,
        stdin=request.stdin,
        open_stdin=request.attach_stdin,
        own_files=True,
    )


def arguments(request: ContainerRequest, config: RunConfig) -> tuple[str, ...]:
    """ENTRYPOINT and CMD: an entrypoint that is given drops the image's CMD."""
    if request.entrypoint is not None:
        words = (*request.entrypoint, *request.args)
    else:
        words = (*(config.entrypoint or ()), *(request.args or config.cmd or ()))
    if not words:
        raise InvalidArgument(f"image {request.image} has no command, and none was given")
    return words


def environment(image: Iterable[str], given: Sequence[str], hostname: str) -> tuple[str, ...]:
    """Later values replace earlier ones in place; a name without value removes the variable."""
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    for entry in (*image, *given):
        name, has_value, value = entry.partition("=")
        if has_value:
            variables[name] = value
        else:
            variables.pop(name, None)
    return tuple(f"{name}={value}" for name, value in variables.items())


def _hostname(container: str, network: Network) -> str:
    return socket.gethostname() if network is Network.HOST else container[:_SHORT_ID]


def _volume(mount: Mount) -> Mount:
    """As ``docker -v``: a source that is absent becomes a directory."""
    if not mount.source.startswith("/"):
        raise InvalidArgument(f"volume source {mount.source!r} is not an absolute path")
    source = Path(mount.source)
    if not source.exists():
        try:
            source.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as e:
            raise InvalidArgument(f"volume source {mount.source}: {e.strerror}") from e
    return mount
