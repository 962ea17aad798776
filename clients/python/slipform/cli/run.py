"""``slipform run``, in the foreground."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.cli.connect import connect
from slipform.cli.errors import CommandError
from slipform.cli.parsers import VerbParser
from slipform.cli.units import parse_bytes
from slipform.core.containers import ContainerRequest
from slipform.core.errors import Cancelled, DomainError
from slipform.core.execution import (
    ExecutableNotFound,
    ExecutableNotRunnable,
    Exited,
    Network,
    Output,
    Resources,
    Security,
    Stream,
)
from slipform.core.mounts import Mount

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from slipform.core.execution import RunHandle

FAILURE: Final = 125
"""Docker's exit status when not the process but the tool failed."""

_NOT_RUNNABLE: Final = 126
_NOT_FOUND: Final = 127
_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_VOLUME_OPTIONS: Final = frozenset({"ro", "rw", "z", "Z", "cached", "delegated", "consistent"})
_STDIN_CHUNK: Final = 64 << 10
_LEAST_MEMORY: Final = 6 << 20
"""Docker's minimum: with less, not even the container's start would survive."""
_MOST_CPUS: Final = 100_000.0


def main(words: list[str], host: str) -> int:
    """Run a container until it ends; the exit status is that of its process."""
    given = _parser().parse_args(words)
    request = _request(given)
    with connect(host, failure=FAILURE) as client:
        try:
            handle = client.containers.run_container(request)
            if given.interactive:
                threading.Thread(target=_feed, args=(handle,), daemon=True).start()
            return _follow(handle)
        except ExecutableNotFound as e:
            raise CommandError(f"slipform: Error: {e}", _NOT_FOUND) from e
        except ExecutableNotRunnable as e:
            raise CommandError(f"slipform: Error: {e}", _NOT_RUNNABLE) from e
        except Cancelled:
            raise
        except DomainError as e:
            raise CommandError(f"slipform: Error: {e}", FAILURE) from e


def _follow(handle: RunHandle) -> int:
    """Copy output as it comes; pass signals on to the process."""
    previous = {
        number: signal.signal(number, lambda got, _frame: handle.signal(got))
        for number in _FORWARDED
    }
    try:
        for event in handle:
            if isinstance(event, Output):
                _write(event)
            elif isinstance(event, Exited):
                return event.code
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    raise CommandError("slipform: the container ended without a status", FAILURE)


def _write(event: Output) -> None:
    out = sys.stdout.buffer if event.stream is Stream.STDOUT else sys.stderr.buffer
    out.write(event.data)
    out.flush()


def _feed(handle: RunHandle) -> None:
    """Copy our stdin to the process until one of the two ends."""
    try:
        while data := os.read(sys.stdin.fileno(), _STDIN_CHUNK):
            handle.write_stdin(data)
        handle.close_stdin()
    except (OSError, DomainError):
        # The process is gone, and with it the reader; its exit status says all.
        return


def _request(given: argparse.Namespace) -> ContainerRequest:
    return ContainerRequest(
        image=given.image,
        args=tuple(given.args),
        entrypoint=None if given.entrypoint is None else _entrypoint(given.entrypoint),
        env=(*_files(given.env_file), *map(_variable, given.env)),
        cwd=given.workdir,
        user=given.user,
        name=given.name,
        hostname=given.hostname,
        network=Network(given.network),
        security=Security.INSECURE if given.privileged else Security.SANDBOX,
        volumes=tuple(map(_volume, given.volume)),
        read_only=given.read_only,
        remove=given.rm,
        resources=Resources(
            memory=_memory(given.memory),
            pids=given.pids_limit,
            cpu_quota_us=_cpu_quota(given.cpus),
        ),
        extra_hosts=tuple(map(_extra_host, given.add_host)),
        cap_add=tuple(given.cap_add),
        cap_drop=tuple(given.cap_drop),
        attach_stdin=given.interactive,
    )


def _memory(text: str) -> int:
    size = parse_bytes(text, "-m, --memory") if text else 0
    if 0 < size < _LEAST_MEMORY:
        raise CommandError(
            f'invalid argument "{text}" for "-m, --memory": want at least 6m', FAILURE
        )
    return size


def _cpu_quota(cpus: float) -> int:
    if cpus and not 0.01 <= cpus <= _MOST_CPUS:
        raise CommandError(f'invalid argument "{cpus:g}" for "--cpus": want 0.01 or more', FAILURE)
    return int(cpus * 100_000)


def _entrypoint(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _variable(text: str) -> str:
    """``NAME=value`` as it is; ``NAME`` takes our own value, or unsets the image's."""
    if text.startswith("=") or not text:
        raise CommandError(f'invalid environment variable: "{text}": want NAME=value', FAILURE)
    if "=" in text or text not in os.environ:
        return text
    return f"{text}={os.environ[text]}"


def _files(paths: list[str]) -> Iterator[str]:
    for path in paths:
        try:
            lines = Path(path).read_text("utf-8", "surrogateescape").splitlines()
        except OSError as e:
            raise CommandError(f"slipform: open {path}: {e.strerror}", FAILURE) from e
        for line in lines:
            text = line.lstrip()
            if text and not text.startswith("#"):
                yield _variable(text)


def _volume(text: str) -> Mount:
    """``/host:/container[:ro]``; both absolute."""
    source, separator, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not separator or not target.startswith("/"):
        raise CommandError(
            f'invalid volume specification "{text}": want /host/path:/container/path[:ro]', FAILURE
        )
    if source.startswith("."):
        source = str(Path(source).absolute())
    if not source.startswith("/"):
        raise CommandError(
            f'volume "{source}": named volumes are not available yet, want an absolute path',
            FAILURE,
        )
    words = set(filter(None, options.split(",")))
    if unknown := words - _VOLUME_OPTIONS:
        raise CommandError(f'invalid mode "{",".join(sorted(unknown))}" in "{text}"', FAILURE)
    return Mount("bind", source, target, ("rbind", "ro" if "ro" in words else "rw"))


def _extra_host(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([^:=]+)[:=](.+)", text)
    if match is None:
        raise CommandError(f'bad format for add-host: "{text}": want NAME:ADDRESS', FAILURE)
    return match[1], match[2].strip("[]")


def _parser() -> VerbParser:
    import argparse

    parser = VerbParser("run", "Run a command in a new container of an image.")
    add = parser.add_argument
    add("--rm", action="store_true", help="leave nothing of the container behind")
    add("-i", "--interactive", action="store_true", help="pass stdin on to the process")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    add("--env-file", action="append", default=[], metavar="FILE")
    add("-w", "--workdir", default=None, metavar="DIR")
    add("-u", "--user", default=None, metavar="NAME|UID[:GROUP|GID]")
    add("-v", "--volume", action="append", default=[], metavar="/HOST:/CONTAINER[:ro]")
    add("--entrypoint", default=None, metavar="COMMAND")
    add("--network", "--net", default="host", choices=("host", "none"))
    add("--name", default="")
    add("--hostname", default="")
    add("--read-only", action="store_true", help="mount the root read-only")
    add("--privileged", action="store_true", help="all capabilities, no seccomp policy")
    add("--cap-add", action="append", default=[], metavar="CAP")
    add("--cap-drop", action="append", default=[], metavar="CAP")
    add("--add-host", action="append", default=[], metavar="NAME:ADDRESS")
    add("-m", "--memory", default="", metavar="BYTES")
    add("--cpus", type=float, default=0.0)
    add("--pids-limit", type=int, default=0)
    add("image", metavar="IMAGE")
    add("args", nargs=argparse.REMAINDER, metavar="COMMAND [ARG...]")
    return parser
