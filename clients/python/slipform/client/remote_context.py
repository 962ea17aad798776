"""A local folder as the context of a builder on another host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slipform.core.errors import NotFound
from slipform.core.folder import Folder
from slipform.core.patterns import IgnoreMatcher

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.core.build import Builder, BuildHandle, BuildRequest


def remote_build(builder: Builder, request: BuildRequest, folder: Path) -> BuildHandle:
    """Build with a folder of this host, sent as a list first and then as the files wanted.

    The Dockerfile travels with the request; the ignore file beside it wins over the context's.
    """
    name = request.dockerfile_name or "Dockerfile"
    dockerfile = request.dockerfile
    beside = request.dockerfile_path or folder / name
    if dockerfile is None:
        try:
            dockerfile = beside.read_bytes()
        except OSError as e:
            raise NotFound(f"failed to read Dockerfile {beside}: {e.strerror}") from e
    ignore = _ignore(beside, folder)
    sent = replace(request, dockerfile=dockerfile, dockerfile_name=name, dockerfile_path=None)
    return builder.build(sent, Folder(folder, ignore))


def _ignore(dockerfile: Path, folder: Path) -> IgnoreMatcher | None:
    for path in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"), folder / ".dockerignore"):
        if path.is_file():
            return IgnoreMatcher.parse(path.read_bytes(), str(path.name))
    return None
