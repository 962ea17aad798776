"""``docker run`` in the foreground: an image becomes a snapshot, and the snapshot a process."""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument, NotFound
from slipform.core.execution import Exited
from slipform.core.snapshots import Kind
from slipform.executor import command, owners, volumes
from slipform.executor.execution import close_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.containers import ContainerRequest
    from slipform.core.execution import Executor, RunEvent, RunHandle
    from slipform.core.images import ImageStore
    from slipform.core.mounts import Mount
    from slipform.core.snapshots import Snapshotter

_LABEL: Final = "slipform.container.owner"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class ContainerRunner:
    """``Containers`` over images, snapshots and an executor."""

    def __init__(self, images: ImageStore, snapshotter: Snapshotter, executor: Executor) -> None:
        """Use what the daemon was wired with; owns none of them.

        File systems of containers whose daemon has died are removed.
        """
        self._images = images
        self._snapshotter = snapshotter
        self._executor = executor
        self._owner = owners.mine()
        self._sweep()

    def run_container(self, request: ContainerRequest) -> RunHandle:
        """Start a container; see ``Containers.run_container``."""
        if request.name and not _NAME.fullmatch(request.name):
            raise InvalidArgument(
                f"container name {request.name!r}: want letters, digits, '_', '.', '-'"
            )
        unpacked = self._images.unpack(request.image)
        config = unpacked.details.config.config
        container = secrets.token_hex(32)
        run = command.run_request(container, request, config)
        with contextlib.ExitStack() as undo:
            rootfs = self._prepare(container, unpacked.snapshot, undo)
            anonymous = volumes.provide(
                rootfs,
                [path for path in config.volumes if path not in {v.target for v in run.mounts}],
                writable_root=not request.read_only,
                undo=undo,
            )
            run = replace(run, rootfs=rootfs, mounts=(*anonymous, *run.mounts))
            return _Container(self._executor.run(run), undo.pop_all())

    def _prepare(
        self, container: str, parent: str, undo: contextlib.ExitStack
    ) -> tuple[Mount, ...]:
        """A writable snapshot of the image; ``undo`` removes it."""
        key = f"container-{container}"
        mounts = self._snapshotter.prepare(key, parent, labels={_LABEL: self._owner})
        undo.callback(self._snapshotter.remove, key)
        return mounts

    def _sweep(self) -> None:
        for found in self._snapshotter.walk(kind=Kind.ACTIVE, labels={_LABEL: ""}):
            if owners.is_dead(found.labels[_LABEL]):
                with contextlib.suppress(NotFound):
                    self._snapshotter.remove(found.name)


@dataclass(slots=True)
class _Container:
    """A handle that removes the container's file system when the container is gone."""

    _handle: RunHandle
    _cleanup: contextlib.ExitStack

    def __iter__(self) -> Iterator[RunEvent]:
        events = iter(self._handle)
        last: Exited | None = None
        try:
            for event in events:
                # The last event waits until the file system is gone, as with `docker run --rm`.
                if isinstance(event, Exited):
                    last = event
                else:
                    yield event
        finally:
            close_events(events)
            self._cleanup.close()
        if last is not None:
            yield last

    def cancel(self) -> None:
        """See ``RunHandle``."""
        self._handle.cancel()

    def signal(self, number: int) -> None:
        """See ``RunHandle``."""
        self._handle.signal(number)

    def write_stdin(self, data: bytes) -> None:
        """See ``RunHandle``."""
        self._handle.write_stdin(data)

    def close_stdin(self) -> None:
        """See ``RunHandle``."""
        self._handle.close_stdin()
