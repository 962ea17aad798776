"""The members of an archive, kept as they stream by: small ones in memory, others as blobs.

What a member is for is known only when the whole archive was seen, so everything is hashed on its
way, compressed members twice (as they are, and what is inside), and nothing is read again.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import AlreadyExists, DigestMismatch, InvalidArgument, NotFound
from slipform.core.oci.digest import Digest
from slipform.core.oci.layout import digest_of_path
from slipform.images.catalog import LayerFacts
from slipform.images.members import ChunkSource, MemberKind, Members, printable
from slipform.layer.decompress import compression_of, open_compressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from slipform.core.content import ContentStore
    from slipform.images.holds import Work

MAX_MEMBERS: Final = 100_000
PLAIN: Final = "none"
_SMALL: Final = 64 << 10
"""Bytes up to which a member stays in memory until it is wanted."""
_MEMORY: Final = 32 << 20
"""Bytes of all members in memory."""
_MAX_LINKS: Final = 32


@dataclass(frozen=True, slots=True)
class Spooled:
    """One file of the archive; ``data`` is None when it became a blob."""

    name: str
    digest: Digest
    size: int
    compression: str
    """``gzip``, ``zstd``, ``bzip2``, ``xz``, or ``PLAIN``."""
    inside: LayerFacts | None
    """The uncompressed stream; None when it is broken (see ``fault``)."""
    data: bytes | None = None
    fault: str = ""


class Spool:
    """Everything an archive holds, by cleaned member name.

    Args:
        content: where members of some size go.
        work: what holds those blobs until the images do.
    """

    def __init__(self, content: ContentStore, work: Work) -> None:
        self._content = content
        self._work = work
        self._files: dict[str, Spooled] = {}
        self._links: dict[str, str] = {}
        self._in_memory = 0
        self._blobs = 0

    def read_archive(self, archive: Iterable[bytes]) -> None:
        """Take in a whole archive, compressed or not.

        Raises:
            InvalidArgument: no archive, truncated, corrupt, or beyond the limits.
            DigestMismatch: a blob that does not hash to its name.
        """
        with Members(archive, "archive", max_members=MAX_MEMBERS) as tar:
            for member in tar:
                name = clean(member.name)
                if member.kind is MemberKind.FILE:
                    self._add(name, self._spool(name, member.size, tar.body()))
                elif member.kind is MemberKind.LINK:
                    here = posixpath.dirname(name)
                    self._links[name] = clean(posixpath.join(here, member.link))
                elif member.kind is MemberKind.HARD_LINK:
                    self._links[name] = clean(member.link)
            # A sender may wait until all of its bytes are taken.
            tar.drain()

    def find(self, name: str) -> Spooled | None:
        """The file of that name, through links inside the archive."""
        name = clean(name)
        for _ in range(_MAX_LINKS):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return self._files.get(self._through_directories(name))
            name = self._links[name]
        raise InvalidArgument(f'archive: too many links behind "{printable(name)}"')

    def text(self, file: Spooled, limit: int) -> bytes:
        """The bytes of a small document; raises ``InvalidArgument`` beyond ``limit``."""
        if file.size > limit:
            raise InvalidArgument(
                f'archive: "{printable(file.name)}" has {file.size} bytes, want at most {limit}'
            )
        return file.data if file.data is not None else b"".join(self._content.read(file.digest))

    def store(self, file: Spooled) -> None:
        """Make sure that the file is a blob, held by the work's lease."""
        if file.data is not None:
            self.store_bytes(file.data)

    def store_bytes(self, data: bytes) -> Digest:
        """Make a blob of a document; returns its digest."""
        return self._work.store(data)

    def store_plain(self, file: Spooled) -> LayerFacts:
        """Make a blob of what is inside a compressed file that no media type describes."""
        assert file.inside is not None  # noqa: S101 - the caller has looked at `fault`
        source = iter((file.data,)) if file.data is not None else self._content.read(file.digest)
        diff_id = file.inside.diff_id
        self._work.hold_blobs([diff_id])
        try:
            with self._work.ingest(diff_id.hex, expected=diff_id) as ingest:
                with open_compressed(ChunkSource(source)) as stream:
                    while chunk := stream.read():
                        ingest.write(chunk)
                self._work.commit(ingest, diff_id)
        except AlreadyExists:
            pass
        return file.inside

    def _add(self, name: str, file: Spooled) -> None:
        known = self._files.get(name)
        if known is not None and known.digest != file.digest:
            raise InvalidArgument(
                f'archive: member "{printable(name)}" stands there twice, with different contents'
            )
        self._files[name] = file

    def _through_directories(self, name: str) -> str:
        """Follow a link in place of a directory, one level: ``<id>`` → ``<other id>``."""
        head, _, tail = name.rpartition("/")
        return f"{self._links[head]}/{tail}" if head in self._links else name

    def _spool(self, name: str, size: int, body: Iterator[bytes]) -> Spooled:
        if size <= _SMALL and self._in_memory + size <= _MEMORY:
            self._in_memory += size
            return self._in_memory_file(name, b"".join(body))
        return self._as_blob(name, size, body)

    def _in_memory_file(self, name: str, data: bytes) -> Spooled:
        digest, kind = Digest.of(data), compression_of(data)
        _check_promise(name, digest)
        facts, fault = LayerFacts(digest, len(data)), ""
        if kind == PLAIN:
            return Spooled(name, digest, len(data), kind, facts, data)
        try:
            return Spooled(name, digest, len(data), kind, _inside((data,), name), data)
        except InvalidArgument as e:
            fault = str(e)
        return Spooled(name, digest, len(data), kind, None, data, fault)

    def _as_blob(self, name: str, size: int, body: Iterator[bytes]) -> Spooled:
        flow = _Flow(body)
        kind = compression_of(flow.head())
        if self._is_stored(digest_of_path(name)):
            hasher = hashlib.sha256()
            inside, fault = self._flow(name, kind, flow, hasher.update)
            digest = Digest("sha256", hasher.hexdigest())
            _check_promise(name, digest)
        else:
            self._blobs += 1
            with self._work.ingest(f"member-{self._blobs}", total=size) as ingest:
                inside, fault = self._flow(name, kind, flow, ingest.write)
                digest = ingest.digest()
                _check_promise(name, digest)
                self._work.commit(ingest, digest)
        if kind == PLAIN:
            inside = LayerFacts(digest, size)
        return Spooled(name, digest, size, kind, inside, None, fault)

    def _is_stored(self, promised: Digest | None) -> bool:
        """Whether a member need only be hashed, because its blob is there; holds it if so."""
        if promised is None or promised.algorithm != "sha256":
            return False
        self._work.hold_blobs([promised])
        try:
            self._content.info(promised)
        except NotFound:
            return False
        return True

    def _flow(
        self, name: str, kind: str, flow: _Flow, sink: Callable[[bytes], object]
    ) -> tuple[LayerFacts | None, str]:
        """Let a body flow into ``sink``; answers what is inside, or why nobody can tell."""
        inside, fault = None, ""
        stream = flow.into(sink)
        if kind != PLAIN:
            try:
                inside = _inside(stream, name)
            except InvalidArgument as e:
                if flow.fault is not None:
                    raise flow.fault from e
                fault = str(e)
        for _ in stream:
            pass
        return inside, fault


class _Flow:
    """A body that is written into an ingest while somebody else reads it."""

    def __init__(self, body: Iterator[bytes]) -> None:
        self._body = body
        self._first: list[bytes] = []
        self.fault: InvalidArgument | None = None
        """Set when the body itself broke: then nothing can be said about its contents."""

    def head(self) -> bytes:
        while sum(map(len, self._first)) < 6 and (piece := next(self._body, None)) is not None:
            self._first.append(piece)
        return b"".join(self._first)[:6]

    def into(self, sink: Callable[[bytes], object]) -> Iterator[bytes]:
        for piece in self._pieces():
            sink(piece)
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        yield from self._first
        try:
            yield from self._body
        except InvalidArgument as e:
            self.fault = e
            raise


def clean(name: str) -> str:
    """A member name as a key: relative, without ``.``; ``..`` stops at the root."""
    return posixpath.normpath("/" + name).lstrip("/")


def _inside(chunks: Iterable[bytes], name: str) -> LayerFacts:
    with open_compressed(ChunkSource(chunks)) as stream:
        try:
            stream.drain()
        except InvalidArgument as e:
            raise InvalidArgument(f'archive: member "{printable(name)}": {e}') from e
        return LayerFacts(stream.diff_id, stream.plain_size)


def _check_promise(name: str, digest: Digest) -> None:
    promised = digest_of_path(name)
    if promised is not None and promised.algorithm == digest.algorithm and promised != digest:
        raise DigestMismatch(f'archive: member "{name}" hashes to {digest}')
