"""What the snapshotter's contract works with: a world of tenants, edits of mounted roots."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import AlreadyExists
from slipform.core.linux.mounting import mounted
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.media_types import OCI_LAYER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slipform.core.content import ContentStore
    from slipform.core.mounts import Mount
    from slipform.core.snapshots import Snapshotter


@dataclass(frozen=True)
class SnapshotWorld:
    """A snapshotter under test.

    Attributes:
        tenant: a tenant's view of the snapshotter.
        content: the content store that the default tenant's layers are in.
        directory: an empty directory for mount points, on the same machine.
    """

    tenant: Callable[[str], Snapshotter]
    content: ContentStore
    directory: Path

    @property
    def snapshots(self) -> Snapshotter:
        """The default tenant's view."""
        return self.tenant(DEFAULT_TENANT)

    @contextlib.contextmanager
    def mounted(self, mounts: Sequence[Mount]) -> Iterator[Path]:
        """The root that the mounts make, for the time of the block."""
        target = Path(tempfile.mkdtemp(prefix="root-", dir=self.directory))
        try:
            with mounted(mounts, target):
                yield target
        finally:
            target.rmdir()

    def layer(self, name: str, parent: str, *edits: Callable[[Path], object]) -> str:
        """Commit ``name`` on ``parent`` after these edits of its root; answers ``name``."""
        snapshots = self.snapshots
        with self.mounted(snapshots.prepare(f"{name}-active", parent)) as root:
            for edit in edits:
                edit(root)
        snapshots.commit(name, f"{name}-active")
        return name

    @contextlib.contextmanager
    def viewed(self, parent: str) -> Iterator[Path]:
        """A mounted view of a committed snapshot, for the time of the block."""
        key = f"view-of-{parent}-{os.urandom(4).hex()}"
        mounts = self.snapshots.view(key, parent)
        try:
            with self.mounted(mounts) as root:
                yield root
        finally:
            self.snapshots.remove(key)

    def store(self, data: bytes, media_type: str = OCI_LAYER) -> Descriptor:
        """Put a blob into the content store."""
        digest = Digest.of(data)
        with (
            contextlib.suppress(AlreadyExists),
            self.content.ingest(f"test-{digest.hex}", expected=digest) as ingest,
        ):
            ingest.write(data)
            ingest.commit(expected=digest)
        return Descriptor(media_type, digest, len(data))


def describe(root: Path, *, links: bool = True) -> dict[str, tuple[object, ...]]:
    """All that must be equal in equal trees: type, mode, owner, content, links, attributes.

    Files are linked when two names are there: the link count of an overlay's lower file also
    counts names that were deleted above it. A layer can't say that a new name belongs to an
    unchanged file below it; ``links`` False leaves links out.
    """
    found: dict[str, tuple[object, ...]] = {}
    linked: defaultdict[int, list[str]] = defaultdict(list)
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(directory, name)
            inner = str(path.relative_to(root))
            status = path.lstat()
            linked[status.st_ino].append(inner)
            owner = (status.st_uid, status.st_gid)
            same = linked[status.st_ino] if links else []
            more = _content(path, status), _attributes(path)
            found[inner] = (oct(status.st_mode), owner, same, *more)
    for same in linked.values():
        same.sort()
    return found


def _content(path: Path, status: os.stat_result) -> str:
    if stat.S_ISREG(status.st_mode):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        return str(path.readlink())
    return str(status.st_rdev)


def _attributes(path: Path) -> list[tuple[str, bytes]]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    wanted = [name for name in names if not name.startswith("trusted.overlay.")]
    return [(name, os.getxattr(path, name, follow_symlinks=False)) for name in wanted]
