"""Leases: what keeps content and snapshots from garbage collection.

A lease names resources (digests in the content store, snapshot names in the snapshotter). What a
live lease names, and what that refers to in turn, is never collected. Leases are the only roots:
an image name, a cache record and a running build each hold one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease and when it was made; ``expires_at`` None means never."""

    id: str
    created_at: datetime
    expires_at: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class Leases(Protocol):
    """Leases of one store; every method is atomic and durable."""

    def create_lease(
        self,
        lease_id: str,
        *,
        ttl: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Lease:
        """Make a lease. Raises ``AlreadyExists`` when the id is taken."""
        ...

    def delete_lease(self, lease_id: str) -> None:
        """End a lease; what only it held may be collected. Idempotent: absent is fine."""
        ...

    def list_leases(self) -> list[Lease]:
        """All leases that have not expired, oldest first."""
        ...

    def lease_resources(self, lease_id: str) -> list[str]:
        """What the lease holds, sorted. Raises ``NotFound``."""
        ...

    def add_to_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold more; idempotent; makes the lease (without end) when it does not exist."""
        ...

    def remove_from_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold less; idempotent. Raises ``NotFound`` when the lease does not exist."""
        ...
