"""What tests of building need: a builder on real services, base images, and the contract suite.

``Site`` is everything in one process below one directory. The contract classes want two fixtures:
``site`` (a ``Site``) and ``builder`` (a ``Builder`` on it, direct or over gRPC).
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from slipform.core.build import (
    BuildFailed,
    BuildRequest,
    BuildSucceeded,
    LogEvent,
    StepEvent,
    StepState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from slipform.core.build import Builder, BuildEvent
    from slipform.core.content import ContentStore
    from slipform.core.context import ContextSource
    from slipform.core.execution import Executor
    from slipform.core.images import ImageStore
    from slipform.core.plan import Frontend
    from slipform.core.snapshots import Snapshotter


@dataclass(slots=True)
class Site:
    """Real services; ``new_builder`` makes a builder on its state (again, after ``close``)."""

    state: Path
    frontend: Frontend
    content: ContentStore
    snapshotter: Snapshotter
    executor: Executor
    images: ImageStore
    new_builder: Callable[[], Builder]
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def close(self) -> None:
        """Close what was made for this site."""
        self.resources.close()


@dataclass(frozen=True, slots=True)
class Report:
    """All events of one build, read to the end."""

    events: tuple[BuildEvent, ...]

    @property
    def last(self) -> BuildSucceeded | BuildFailed:
        """How it ended."""
        last = self.events[-1]
        assert isinstance(last, BuildSucceeded | BuildFailed)
        return last

    @property
    def image(self) -> BuildSucceeded:
        """The image; fails the test with the build's message when there is none."""
        assert isinstance(self.last, BuildSucceeded), self.last
        return self.last

    @property
    def failure(self) -> BuildFailed:
        """Why there is no image."""
        assert isinstance(self.last, BuildFailed), self.last
        return self.last

    @property
    def log(self) -> str:
        """Everything that processes wrote."""
        data = b"".join(event.data for event in self.events if isinstance(event, LogEvent))
        return data.decode()

    def states(self) -> dict[str, StepState]:
        """The last state of each step, by name."""
        return {e.name: e.state for e in self.events if isinstance(e, StepEvent)}

    def ran(self) -> list[str]:
        """Names of the steps that were made anew, without bases."""
        done = {e.step for e in self.events if isinstance(e, StepEvent) and e.miss_reason}
        finished = [e for e in self.events if isinstance(e, StepEvent)]
        return [e.name for e in finished if e.state is StepState.DONE and e.step in done]

    def reasons(self) -> list[str]:
        """Why steps missed the cache."""
        return [e.miss_reason for e in self.events if isinstance(e, StepEvent) and e.miss_reason]


def build(
    builder: Builder,
    dockerfile: str,
    context: Path | None = None,
    *references: str,
    source: ContextSource | None = None,
    **options: Any,
) -> Report:
    """Build to the end. ``options`` are fields of ``BuildRequest``."""
    request = BuildRequest(
        dockerfile=dockerfile.encode(), local_context=context, references=references
    )
    return Report(tuple(builder.build(replace(request, **options), source)))


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a directory; names that end in ``/`` are directories."""
    for name, data in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    root.mkdir(parents=True, exist_ok=True)
    return root


def import_rootfs(
    images: ImageStore, reference: str, members: Iterable[tuple[str, bytes, int]]
) -> None:
    """Import an image of files, given as (name, data, mode); directories end in ``/``."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data, mode in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = mode
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    images.import_rootfs([archive.getvalue()], reference)


def busybox_members(busybox: Path) -> list[tuple[str, bytes, int]]:
    """A root file system with one static busybox, a few of its names, passwd and group."""
    data = busybox.read_bytes()
    passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
    group = b"root:x:0:\napp:x:1001:\nstaff:x:50:app\n"
    names = ("bin/", "etc/", "tmp/", "root/", "home/", "usr/", "var/")
    members: list[tuple[str, bytes, int]] = [(name, b"", 0o755) for name in names]
    members += [("etc/passwd", passwd, 0o644), ("etc/group", group, 0o644)]
    members.append(("bin/busybox", data, 0o755))
    applets = "sh cat echo ls mkdir rm sleep stat test touch true false id find ln readlink wc"
    members += [
        (f"bin/{applet}", f'#!/bin/busybox sh\nexec /bin/busybox {applet} "$@"\n'.encode(), 0o755)
        for applet in applets.split()
        if applet != "sh"
    ]
    members.append(("bin/sh", data, 0o755))
    return members
