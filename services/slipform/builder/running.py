"""RUN: a process in the step's root, with its mounts, its output and its end."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.builder.copying import Copier, Style
from slipform.builder.faults import ProcessFailed, os_errors
from slipform.builder.selection import Item, Selected, clamp, subtree
from slipform.builder.tree import follow
from slipform.core.errors import Cancelled, NotFound, Unsupported
from slipform.core.execution import (
    ExecutableNotFound,
    ExecutableNotRunnable,
    Exited,
    Output,
    RunRequest,
)
from slipform.core.files import exists_in_root, resolve_in_root
from slipform.core.folder import Folder
from slipform.core.mounts import Mount
from slipform.core.plan import MountType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slipform.builder.cachemounts import CacheMounts
    from slipform.builder.flights import Flight
    from slipform.builder.tree import SourceTree
    from slipform.builder.workshop import Workshop
    from slipform.core.build import BuildRequest
    from slipform.core.context import FileEntry
    from slipform.core.plan import InlineFile, RunMount, RunOp

_PIPES: Final = "/dev/pipes"


@dataclass(frozen=True, slots=True)
class RunStep:
    """Everything one RUN needs besides its root."""

    op: RunOp
    request: BuildRequest
    context: SourceTree
    inputs: Mapping[int, str]
    """Snapshots of the steps that mounts come from, by id."""


class Runner:
    """Runs RUN steps; safe from several threads."""

    def __init__(self, shop: Workshop, cache_mounts: CacheMounts) -> None:
        self._shop = shop
        self._cache_mounts = cache_mounts

    def run(self, step: RunStep, rootfs: tuple[Mount, ...], flight: Flight) -> None:
        """Run the process to its end; its output goes to the flight.

        Raises:
            ProcessFailed: it ended with another code than 0, or could not be started.
            Cancelled: everybody left the flight; nothing of the process is left.
            Unsupported: a kind of mount that this builder lacks.
        """
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(self._shop.scratch())
            mounts: list[Mount] = []
            for mount in step.op.mounts:
                mounts += self._mounts(stack, scratch, step, mount, flight)
            if step.op.pipes:
                mounts.append(_pipes(scratch / "pipes", step.op.pipes))
            self._process(step, rootfs, tuple(mounts), flight)

    def _process(
        self, step: RunStep, rootfs: tuple[Mount, ...], mounts: tuple[Mount, ...], flight: Flight
    ) -> None:
        op, request = step.op, step.request
        wanted = RunRequest(
            id=f"build-{uuid.uuid4().hex}",
            rootfs=rootfs,
            args=op.args,
            env=(*op.env, *op.proxy_env),
            cwd=op.cwd,
            user=op.user,
            network=op.network,
            security=op.security,
            mounts=mounts,
            extra_hosts=request.extra_hosts,
            timeout_s=request.step_timeout_s,
        )
        flight.check()
        end: Exited | None = None
        try:
            handle = self._shop.executor.run(wanted)
            flight.on_cancel(handle.cancel)
            for event in handle:
                if isinstance(event, Output):
                    flight.output(event.stream, event.data, datetime.now(UTC))
                elif isinstance(event, Exited):
                    end = event
        except ExecutableNotFound as e:
            raise ProcessFailed(_failed(op, f"exit code: 127: {e}"), 127) from e
        except ExecutableNotRunnable as e:
            raise ProcessFailed(_failed(op, f"exit code: 126: {e}"), 126) from e
        finally:
            flight.on_cancel(None)
        flight.check()
        _judge(op, end, request.step_timeout_s)

    def _mounts(
        self,
        stack: contextlib.ExitStack,
        scratch: Path,
        step: RunStep,
        mount: RunMount,
        flight: Flight,
    ) -> list[Mount]:
        match mount.type:
            case MountType.TMPFS:
                options = (f"size={mount.size}",) if mount.size else ()
                return [Mount("tmpfs", "tmpfs", mount.target, options)]
            case MountType.CACHE:
                return [stack.enter_context(self._cache(step, mount, flight))]
            case MountType.BIND if mount.from_step is None:
                return [self._from_context(scratch, step.context, mount, flight)]
            case MountType.BIND:
                snapshot = step.inputs[mount.from_step or 0]
                return self._from_stage(stack, scratch, snapshot, mount, flight)
            case _ if not mount.required:
                # As docker: what is not required and not offered is silently absent.
                return []
        raise Unsupported(
            f"RUN --mount=type={mount.type.value}: this builder cannot be given secrets or ssh"
            " agents yet"
        )

    def _from_context(
        self, scratch: Path, tree: SourceTree, mount: RunMount, flight: Flight
    ) -> Mount:
        entry = _source(tree, mount.source)
        if mount.read_only and isinstance(tree, Folder) and tree.unfiltered:
            path = tree.path.absolute() / entry.path
            return Mount("bind", str(path), mount.target, ("bind", "ro"))
        return self._copied(scratch, tree, entry, mount, flight)

    def _from_stage(
        self,
        stack: contextlib.ExitStack,
        scratch: Path,
        snapshot: str,
        mount: RunMount,
        flight: Flight,
    ) -> list[Mount]:
        writable = not mount.read_only
        mounts = stack.enter_context(self._shop.view(snapshot, writable=writable))
        if not clamp(mount.source) and len(mounts) == 1:
            return [replace(mounts[0], target=mount.target)]
        if len(mounts) == 1 and mounts[0].type == "bind":
            return [_part(Path(mounts[0].source), mount)]
        root = stack.enter_context(self._shop.mounted(mounts))
        if self._shop.shared_mounts:
            return [_part(root, mount)]
        folder = Folder(root, keep_owner=True)
        stack.callback(folder.close)
        entry = _source(folder, mount.source)
        return [self._copied(scratch, folder, entry, mount, flight)]

    def _copied(
        self, scratch: Path, tree: SourceTree, entry: FileEntry, mount: RunMount, flight: Flight
    ) -> Mount:
        """A copy that the process may see and change: neither ignored files nor the originals."""
        place = scratch / uuid.uuid4().hex
        place.mkdir(mode=0o755)
        copy_out(tree, entry, place, flight)
        name = "" if stat.S_ISDIR(entry.mode) else f"/{entry.path.rpartition('/')[2]}"
        options = ("bind", "ro") if mount.read_only else ("bind", "rw")
        return Mount("bind", f"{place}{name}", mount.target, options)

    @contextlib.contextmanager
    def _cache(self, step: RunStep, mount: RunMount, flight: Flight) -> Iterator[Mount]:
        snapshot = None if mount.from_step is None else step.inputs[mount.from_step]
        with contextlib.ExitStack() as stack:

            def fill(place: Path) -> None:
                if snapshot is None:
                    return
                mounts = stack.enter_context(self._shop.view(snapshot))
                root = Folder(stack.enter_context(self._shop.mounted(mounts)), keep_owner=True)
                stack.callback(root.close)
                copy_out(root, _source(root, mount.source), place, flight)

            path = stack.enter_context(self._cache_mounts.use(mount, snapshot or "", fill, flight))
            options = ("bind", "ro") if mount.read_only else ("bind", "rw")
            yield Mount("bind", str(path), mount.target, options)


def copy_out(tree: SourceTree, entry: FileEntry, place: Path, flight: Flight) -> None:
    """Copy a directory's contents, or one file under its name, into a directory of the host."""
    if stat.S_ISDIR(entry.mode):
        selected = Selected("", entry, tuple(subtree(tree, entry.path)))
    else:
        name = entry.path.rpartition("/")[2]
        selected = Selected(name, None, (Item(name, entry),))
    root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os_errors("RUN --mount"):
            copier = Copier(tree, root, Style(keep_owner=True), check=flight.check)
            copier.copy([selected], "/", dest_is_dir=True)
    finally:
        os.close(root)


def _source(tree: SourceTree, path: str) -> FileEntry:
    entry = follow(tree, clamp(path))
    if entry is None:
        raise NotFound(f'RUN --mount: "{path}": not found')
    return entry


def _part(root: Path, mount: RunMount) -> Mount:
    """A bind mount of a part of a tree that the executor sees where we see it."""
    inner = resolve_in_root(root, mount.source)
    if not exists_in_root(root, str(inner)):
        raise NotFound(f'RUN --mount=from: "{mount.source}": not found')
    options = ("bind", "ro") if mount.read_only else ("bind", "rw")
    return Mount("bind", f"{root}{inner}", mount.target, options)


def _pipes(place: Path, files: tuple[InlineFile, ...]) -> Mount:
    place.mkdir(mode=0o755)
    for file in files:
        path = place / file.name
        path.write_bytes(file.data)
        path.chmod(0o755)
    return Mount("bind", str(place), _PIPES, ("bind", "ro"))


def _judge(op: RunOp, end: Exited | None, timeout_s: float) -> None:
    if end is None:
        raise ProcessFailed(_failed(op, "its end was not reported"), 255)
    if end.timed_out:
        raise ProcessFailed(_failed(op, f"killed after {timeout_s:g} s"), end.code or 137)
    if end.cancelled:
        raise Cancelled("the process was cancelled")
    if end.code == 0:
        return
    more = " (out of memory)" if end.out_of_memory else ""
    raise ProcessFailed(_failed(op, f"exit code: {end.code}{more}"), end.code)


def _failed(op: RunOp, why: str) -> str:
    command = re.sub(r"\s*\n\s*", " ", " ".join(op.args))
    return f'process "{command}" did not complete successfully: {why}'
