"""What every content store does, whatever driver or wire lies below: ``ContentStoreContract``.

A subclass supplies the fixture ``world``. The behaviours are those of containerd's content
contract suite, where both have them, in Slipform's words.
"""

from __future__ import annotations

from slipform.testing.content._blobs import BlobContract
from slipform.testing.content._ingests import IngestContract
from slipform.testing.content._leases import LeaseContract, TenantContract
from slipform.testing.content._world import ABSENT, ContentWorld, fetch, payload, put

__all__ = ["ABSENT", "ContentStoreContract", "ContentWorld", "fetch", "payload", "put"]


class ContentStoreContract(IngestContract, BlobContract, LeaseContract, TenantContract):
    """Everything a content store must do."""
