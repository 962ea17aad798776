"""What every suite about content stores starts from."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.content import CHUNK_SIZE, ContentStore
from slipform.core.errors import (
    AlreadyExists,
)
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable


ABSENT: Final = Digest("sha256", "0" * 64)
SIZES: Final = (1, 32 * 1024 + 7, 3 * CHUNK_SIZE + 1)
HOSTILE_NAMES: Final = ("", "x" * 1025, "nul\0inside", "\ud800")
HOSTILE_REFS: Final = (
    "../../../etc/passwd",
    "/absolute",
    "a/../../b",
    "with space and \n newline",
    "ünï¢ode-名前",
    "-rf",
    "%2e%2e%2f",
    "'; DROP TABLE ingests; --",
)


@dataclass(frozen=True)
class ContentWorld:
    """A fresh, empty store whose grace period for collection is zero.

    ``store`` is the default tenant; ``tenant`` gives others of the same store.
    """

    tenant: Callable[[str], ContentStore]

    @property
    def store(self) -> ContentStore:
        """The tenant that most tests use."""
        return self.tenant("default")


def payload(size: int, seed: int = 1) -> bytes:
    """The same ``size`` bytes for the same seed."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - must repeat, not be secret


def put(store: ContentStore, data: bytes, **kwargs: object) -> Digest:
    """Commit ``data`` and return its digest; being there already is fine."""
    digest = Digest.of(data)
    with store.ingest(f"put-{digest}") as ingest:
        ingest.write(data)
        try:
            ingest.commit(expected=digest, **kwargs)  # type: ignore[arg-type]
        except AlreadyExists:
            return digest
    return digest


def fetch(store: ContentStore, digest: Digest, *, offset: int = 0, size: int = 0) -> bytes:
    """All bytes that ``read`` gives."""
    return b"".join(store.read(digest, offset=offset, size=size))
