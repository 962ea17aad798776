"""``slipform build``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.cli.connect import connect
from slipform.cli.errors import INTERRUPTED, CommandError
from slipform.cli.parsers import VerbParser, key_value
from slipform.core.build import BuildFailed, BuildRequest, BuildSucceeded
from slipform.core.execution import Network
from slipform.core.oci.platform import Platform

if TYPE_CHECKING:
    import argparse

    from slipform.cli.progress import Progress
    from slipform.core.build import BuildHandle

NETWORKS: Final = {"default": Network.HOST, "host": Network.HOST, "none": Network.NONE}


@dataclass(frozen=True, slots=True)
class _Input:
    """Where Dockerfile and context come from."""

    context: Path | None = None
    dockerfile: bytes | None = None
    name: str = ""
    outside: Path | None = None


def main(words: list[str], host: str) -> int:
    """Build, show progress, answer docker's exit status."""
    given = _parser().parse_args(words)
    request = _request(given)
    context = None if given.path == "-" else Path(given.path)
    with connect(host) as client:
        handle = client.build(context, references=given.tag, request=request)
        return _follow(handle, given)


def _follow(handle: BuildHandle, given: argparse.Namespace) -> int:
    from slipform.cli.progress import chosen

    progress = chosen("quiet" if given.quiet else given.progress)
    last: BuildFailed | BuildSucceeded | None = None
    interrupted = False
    with progress:
        while last is None:
            try:
                last = _watch(handle, progress)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                handle.cancel()
    return _finish(last, given, progress)


def _watch(handle: BuildHandle, progress: Progress) -> BuildFailed | BuildSucceeded:
    for event in handle:
        progress.show(event)
        if isinstance(event, BuildFailed | BuildSucceeded):
            return event
    raise CommandError("slipform: the build ended without a result")


def _finish(
    last: BuildFailed | BuildSucceeded, given: argparse.Namespace, progress: Progress
) -> int:
    if isinstance(last, BuildFailed):
        progress.failed(last)
        return INTERRUPTED if last.cancelled else 1
    if given.iidfile:
        _write(given.iidfile, str(last.image_id))
    if given.metadata_file:
        import json

        values = {
            "containerimage.config.digest": str(last.image_id),
            "containerimage.digest": str(last.manifest_digest),
            "image.name": ",".join(last.references),
        }
        _write(given.metadata_file, json.dumps(values, indent=2) + "\n")
    if given.quiet:
        sys.stdout.write(f"{last.image_id}\n")
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as e:
        raise CommandError(f"slipform: cannot write {path}: {e.strerror}") from e


def _request(given: argparse.Namespace) -> BuildRequest:
    found = _input(given)
    arguments = [pair for text in given.build_arg if (pair := _build_argument(text))]
    named = {name for name, _ in arguments}
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch and "SOURCE_DATE_EPOCH" not in named:
        arguments.append(("SOURCE_DATE_EPOCH", epoch))
    return BuildRequest(
        dockerfile=found.dockerfile,
        dockerfile_name=found.name,
        dockerfile_path=found.outside,
        target=given.target,
        build_args=tuple(arguments),
        labels=tuple(given.label),
        platform=Platform.parse(given.platform) if given.platform else None,
        network=NETWORKS[given.network],
        no_cache=given.no_cache,
        extra_hosts=tuple(_extra_host(text) for text in given.add_host),
        allow=tuple(given.allow),
    )


def _build_argument(text: str) -> tuple[str, str] | None:
    """A name without a value takes the environment's; without one there, it is not given."""
    name, equals, value = text.partition("=")
    if not name:
        raise CommandError(f'invalid build argument "{text}": want NAME=value', 125)
    if equals:
        return name, value
    return (name, os.environ[name]) if name in os.environ else None


def _extra_host(text: str) -> tuple[str, str]:
    name, separator, address = text.replace("=", ":", 1).partition(":")
    if not separator or not name or not address:
        raise CommandError(f'invalid argument "{text}" for "--add-host": want NAME:ADDRESS', 125)
    return name, address.strip("[]")


def _input(given: argparse.Namespace) -> _Input:
    """Sort out context and Dockerfile: paths, ``-f -``, and ``-`` for both at once."""
    if given.path == "-":
        if given.file:
            raise CommandError("invalid argument: can't use stdin for the context and -f together")
        return _Input(dockerfile=_from_stdin(), name="Dockerfile")
    context = Path(given.path)
    if not context.is_dir():
        found = "is not a directory" if context.exists() else "not found"
        raise CommandError(f'unable to prepare context: path "{given.path}" {found}')
    if given.file == "-":
        return _Input(context, _from_stdin(), "Dockerfile")
    if not given.file:
        return _Input(context)
    path = Path(given.file).absolute()
    if not path.is_file():
        raise CommandError(f'unable to read Dockerfile: "{given.file}" not found')
    inside = context.resolve()
    if path.parent.resolve().is_relative_to(inside):
        return _Input(context, name=str((path.parent.resolve() / path.name).relative_to(inside)))
    return _Input(context, name=path.name, outside=path)


def _from_stdin() -> bytes:
    """The Dockerfile that stdin is; a tar would be a context, which is not available yet."""
    data = sys.stdin.buffer.read()
    if data[257:262] == b"ustar" or data.startswith(
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
    ):
        raise CommandError("stdin is an archive, want a Dockerfile: unpack it and give its folder")
    return data


def _parser() -> VerbParser:
    parser = VerbParser("build", "Build an image from a Dockerfile.")
    add = parser.add_argument
    add("path", metavar="PATH|-", help="folder of the context; - reads a Dockerfile from stdin")
    add("-t", "--tag", action="append", default=[], metavar="NAME", help="name of the image")
    add("-f", "--file", default="", help='Dockerfile (default: "PATH/Dockerfile"); - is stdin')
    add("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="set an ARG")
    add("--target", default="", metavar="STAGE", help="stage to build")
    add("--label", action="append", default=[], type=key_value, metavar="NAME=VALUE")
    add("--no-cache", action="store_true", help="run every step again")
    add("--network", default="default", choices=sorted(NETWORKS), help="network of RUN steps")
    add("--platform", default="", metavar="OS/ARCH", help="platform of the image")
    add("--add-host", action="append", default=[], metavar="NAME:ADDRESS")
    add(
        "--allow",
        action="append",
        default=[],
        choices=("security.insecure", "network.host"),
        help="let RUN steps out of the sandbox",
    )
    add(
        "--progress",
        default=os.environ.get("BUILDKIT_PROGRESS", "auto"),
        choices=("auto", "tty", "plain", "json", "quiet"),
        help="how to show progress (default: auto)",
    )
    add("-q", "--quiet", action="store_true", help="print only the image id")
    add("--iidfile", type=Path, metavar="FILE", help="write the image id to a file")
    add("--metadata-file", type=Path, metavar="FILE", help="write digests and names as JSON")
    return parser
