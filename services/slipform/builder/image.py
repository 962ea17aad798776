"""The result of a walk: layers, config and manifest become an image.

Layers are not stored: their diff_ids are computed beside the build, and whoever needs a layer's
bytes makes them again from the snapshot. An image made of the very same parts before is found
again instead, so that a fully cached rebuild keeps its id.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from slipform.builder.cache import canonical_digest
from slipform.builder.faults import StepFailed
from slipform.builder.workshop import PREFIX
from slipform.core.build import BuildSucceeded
from slipform.core.content import CHUNK_SIZE, GC_REF
from slipform.core.errors import AlreadyExists, DomainError, NotFound
from slipform.core.oci import media_types
from slipform.core.oci.config import History, ImageConfig
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.manifest import Manifest
from slipform.core.oci.reference import Reference
from slipform.core.plan import BaseOp
from slipform.core.snapshots import ChainRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    from slipform.builder.flights import Outcome
    from slipform.builder.job import Job
    from slipform.builder.workshop import Workshop
    from slipform.core.images import ImageDetails
    from slipform.core.snapshots import LayerDiff

_LEASE_TTL: Final = timedelta(hours=1)


class Differ:
    """Computes diff_ids beside the steps; asking twice for one costs nothing."""

    def __init__(self, shop: Workshop, pool: ThreadPoolExecutor, epoch: int | None) -> None:
        self._shop = shop
        self._pool = pool
        self._epoch = epoch
        self._lock = threading.Lock()
        self._futures: dict[str, Future[LayerDiff]] = {}

    def start(self, snapshot: str) -> Future[LayerDiff]:
        """Begin to compute the layer of a committed snapshot."""
        with self._lock:
            future = self._futures.get(snapshot)
            if future is None:
                future = self._futures[snapshot] = self._pool.submit(
                    self._shop.snapshotter.diff, snapshot, clamp_mtime=self._epoch
                )
            return future


@dataclass(frozen=True, slots=True)
class _Layer:
    snapshot: str
    created_ns: int


class Assembler:
    """Makes the image of one build."""

    def __init__(self, job: Job, shop: Workshop, differ: Differ, build_id: str) -> None:
        self._job = job
        self._shop = shop
        self._differ = differ
        self._lease = f"{PREFIX}{build_id}"
        self._base = self._base_details()

    def assemble(self, outcomes: Mapping[int, Outcome]) -> BuildSucceeded:
        """Store config and manifest, and point the references at them.

        Raises:
            InvalidArgument: a malformed reference.
            ResourceExhausted: the disk is full.
        """
        names = tuple(Reference.parse(text).normalised for text in self._job.request.references)
        layers = self._layers(outcomes)
        key = self._key(layers)
        known = self._shop.cache.result(key)
        if known is not None:
            manifest, config = (Digest.parse(text) for text in known)
            if self._reuse(manifest, names):
                return BuildSucceeded(config, manifest, names)
        manifest, config = self._make(layers, names)
        self._shop.cache.add_result(key, str(manifest), str(config))
        return BuildSucceeded(config, manifest, names)

    def _base_details(self) -> ImageDetails | None:
        if self._job.plan.base is None:
            return None
        step = next(step for step in self._job.plan.steps if step.id == self._job.plan.base)
        assert isinstance(step.op, BaseOp)  # noqa: S101 - what Plan.base promises
        return self._job.base(step.op)

    def _layers(self, outcomes: Mapping[int, Outcome]) -> list[_Layer]:
        """Snapshots of the chain, lowest first.

        They are read from the parents of the result: a cached result may stand on snapshots whose
        own records are gone.
        """
        layers: list[_Layer] = []
        plan = self._job.plan
        name = outcomes[plan.chain[-1]].snapshot if plan.chain else ""
        for number in reversed(plan.chain):
            outcome = outcomes.get(number)
            about = self._shop.snapshotter.stat(name)
            created = _ns(about.created_at)
            if outcome is not None and outcome.snapshot == name:
                created = outcome.created_ns
            layers.append(_Layer(name, created))
            name = about.parent
        return layers[::-1]

    def _key(self, layers: Sequence[_Layer]) -> str:
        plan = self._job.plan
        return canonical_digest(
            {
                "layers": [layer.snapshot for layer in layers],
                "base": str(self._base.image.target.digest) if self._base else "",
                "config": plan.config.to_json(),
                "history": [[h.created_by, h.empty_layer, h.comment] for h in plan.history],
                "platform": plan.platform.to_json(),
                "author": plan.author,
                "epoch": self._job.epoch,
            }
        )

    def _reuse(self, manifest: Digest, names: Sequence[str]) -> bool:
        """Whether the image is still there; its references are made to point at it."""
        images = self._shop.images
        try:
            details = images.get(str(manifest))
            if not set(names) <= set(details.image.references):
                images.create(details.image.target, names)
        except NotFound:
            return False
        return True

    def _make(self, layers: Sequence[_Layer], names: Sequence[str]) -> tuple[Digest, Digest]:
        futures = [self._differ.start(layer.snapshot) for layer in layers]
        diffs = [self._diff(place, future) for place, future in enumerate(futures)]
        config = self._config(layers, diffs).encode()
        self._record_chains(layers, diffs)
        config_digest = Digest.of(config)
        manifest = Manifest(
            Descriptor(media_types.OCI_CONFIG, config_digest, len(config)),
            (
                *(self._base.layers if self._base else ()),
                *(Descriptor(media_types.OCI_LAYER, d.diff_id, d.size) for d in diffs),
            ),
        ).encode()
        target = Descriptor(media_types.OCI_MANIFEST, Digest.of(manifest), len(manifest))
        self._shop.content.create_lease(self._lease, ttl=_LEASE_TTL)
        try:
            self._store(config, {})
            self._store(manifest, {f"{GC_REF}config": str(config_digest)})
            self._shop.images.create(target, names)
        finally:
            self._shop.content.delete_lease(self._lease)
        return target.digest, config_digest

    def _diff(self, place: int, future: Future[LayerDiff]) -> LayerDiff:
        try:
            return future.result()
        except DomainError as e:
            number = self._job.plan.chain[place]
            step = next(step for step in self._job.plan.steps if step.id == number)
            raise StepFailed(step, e) from e

    def _config(self, layers: Sequence[_Layer], diffs: Sequence[LayerDiff]) -> ImageConfig:
        plan = self._job.plan
        base = ImageConfig.decode(self._base.config_bytes) if self._base else None
        now = self._stamp(self._shop.clock_ns())
        made = iter(layers)
        history = [
            History(
                created_by=entry.created_by,
                created=now if entry.empty_layer else self._stamp(next(made).created_ns),
                comment=entry.comment,
                author=plan.author,
                empty_layer=entry.empty_layer,
            )
            for entry in plan.history
        ]
        return ImageConfig(
            platform=plan.platform,
            config=plan.config,
            diff_ids=(*(base.diff_ids if base else ()), *(diff.diff_id for diff in diffs)),
            history=(*(base.history if base else ()), *history),
            created=now,
            author=plan.author or (base.author if base else ""),
        )

    def _record_chains(self, layers: Sequence[_Layer], diffs: Sequence[LayerDiff]) -> None:
        below = ImageConfig.decode(self._base.config_bytes).diff_ids if self._base else ()
        folded: Digest | None = None
        for diff_id in below:
            folded = _fold(folded, diff_id)
        for layer, diff in zip(layers, diffs, strict=True):
            folded = _fold(folded, diff.diff_id)
            self._shop.snapshotter.record_chain(
                ChainRecord(
                    folded, layer.snapshot, diff.diff_id, diff.size, clamp_mtime=self._job.epoch
                )
            )

    def _store(self, data: bytes, labels: Mapping[str, str]) -> None:
        digest = Digest.of(data)
        content = self._shop.content
        try:
            with content.ingest(f"{self._lease}/{digest.hex}", total=len(data)) as ingest:
                for start in range(0, len(data), CHUNK_SIZE):
                    ingest.write(data[start : start + CHUNK_SIZE])
                ingest.commit(size=len(data), expected=digest, labels=labels, lease=self._lease)
        except AlreadyExists:
            content.add_to_lease(self._lease, [str(digest)])

    def _stamp(self, created_ns: int) -> str:
        epoch = self._job.epoch
        if epoch is not None:
            created_ns = epoch * 1_000_000_000
        at = datetime.fromtimestamp(created_ns // 1_000_000_000, UTC)
        text = at.replace(microsecond=created_ns // 1000 % 1_000_000).isoformat()
        return text.replace("+00:00", "Z")


def _fold(below: Digest | None, diff_id: Digest) -> Digest:
    return diff_id if below is None else Digest.of(f"{below} {diff_id}".encode())


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
