"""Which blobs nobody needs any more, and which are too young to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import timedelta


def unreachable(references: Mapping[str, Sequence[str]], roots: Iterable[str]) -> set[str]:
    """Those keys of ``references`` that no root leads to; cycles and dangling ends are fine."""
    live: set[str] = set()
    waiting = [root for root in roots if root in references]
    while waiting:
        found = waiting.pop()
        if found not in live:
            live.add(found)
            waiting.extend(ref for ref in references[found] if ref in references)
    return references.keys() - live


class Recent:
    """Blobs that clients got an answer about a moment ago and may be about to lease.

    Counts on the monotonic clock, so that setting the time neither kills nor keeps anything.
    Not locked: the store calls it under its own lock.
    """

    def __init__(self, grace: timedelta, monotonic: Callable[[], float]) -> None:
        self._grace_s = grace.total_seconds()
        self._monotonic = monotonic
        self._until: dict[tuple[str, str], float] = {}
        self._sweep_at = 1024

    def touch(self, tenant: str, digest: str) -> None:
        """The grace period of this blob begins now."""
        if self._grace_s <= 0:
            return
        self._until[tenant, digest] = self._monotonic() + self._grace_s
        if len(self._until) >= self._sweep_at:
            self._forget()
            self._sweep_at = max(1024, 2 * len(self._until))

    def of(self, tenant: str) -> set[str]:
        """Digests of the tenant's blobs whose grace period has not ended."""
        self._forget()
        return {digest for owner, digest in self._until if owner == tenant}

    def _forget(self) -> None:
        now = self._monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
