"""The contract of ``slipform.core.snapshots.Snapshotter``, for every driver and for the proxy.

A subclass supplies the fixture ``world``::

    class TestMine(SnapshotterContract):
        @pytest.fixture
        def world(self, tmp_path: Path) -> Iterator[SnapshotWorld]: ...

Parts of it mount what the snapshotter answers, so it needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

from slipform.testing.snapshot_files import SnapshotFilesContract
from slipform.testing.snapshot_layers import SnapshotLayersContract
from slipform.testing.snapshot_leases import SnapshotLeasesContract
from slipform.testing.snapshot_metadata import SnapshotMetadataContract
from slipform.testing.snapshot_world import SnapshotWorld, describe

__all__ = ["SnapshotWorld", "SnapshotterContract", "describe"]


class SnapshotterContract(
    SnapshotMetadataContract, SnapshotFilesContract, SnapshotLayersContract, SnapshotLeasesContract
):
    """Everything that a snapshotter promises."""
