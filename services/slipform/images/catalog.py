"""What the image service remembers: images, the names that point at them, sizes of layers.

Everything else (manifests, configs, layers) stands in the content store. An image is keyed by the
digest of its manifest.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from slipform.core.database import database_errors, open_database, transaction
from slipform.core.images import Image
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from slipform.core.oci.reference import Reference

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS images (manifest TEXT PRIMARY KEY, media_type TEXT NOT NULL,"
    " manifest_size INTEGER NOT NULL, id TEXT NOT NULL, created TEXT, size INTEGER NOT NULL,"
    " os TEXT NOT NULL, architecture TEXT NOT NULL, variant TEXT NOT NULL,"
    " os_version TEXT NOT NULL, recorded_ns INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS images_id ON images (id)",
    "CREATE TABLE IF NOT EXISTS names (reference TEXT PRIMARY KEY, name TEXT NOT NULL,"
    " manifest TEXT NOT NULL REFERENCES images ON DELETE CASCADE)",
    "CREATE INDEX IF NOT EXISTS names_manifest ON names (manifest)",
    "CREATE INDEX IF NOT EXISTS names_name ON names (name)",
    "CREATE TABLE IF NOT EXISTS layers (digest TEXT PRIMARY KEY, diff_id TEXT NOT NULL,"
    " size INTEGER NOT NULL)",
)
_COLUMNS: Final = (
    "manifest, media_type, manifest_size, id, created, size, os, architecture, variant, os_version"
)


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """Of a compressed layer blob: digest and size of the tar inside."""

    diff_id: Digest
    size: int


class Catalog:
    """The tables; every method is atomic, durable and safe from several threads."""

    def __init__(
        self, database: Path | None, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._db = open_database(database)
        self._lock = threading.RLock()
        self._clock_ns = clock_ns
        with transaction(self._db, self._lock):
            for statement in _SCHEMA:
                self._db.execute(statement)

    def close(self) -> None:
        """Close the database; idempotent."""
        with self._lock:
            self._db.close()

    def record(self, image: Image, references: Iterable[Reference]) -> None:
        """Add the image unless it is there, and point the references at it."""
        platform = image.platform
        created = None if image.created_at is None else image.created_at.isoformat()
        with transaction(self._db, self._lock):
            self._db.execute(
                f"INSERT OR IGNORE INTO images ({_COLUMNS}, recorded_ns)"  # noqa: S608 - constants
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    str(image.target.digest),
                    image.target.media_type,
                    image.target.size,
                    str(image.id),
                    created,
                    image.size,
                    platform.os,
                    platform.architecture,
                    platform.variant,
                    platform.os_version,
                    self._clock_ns(),
                ),
            )
            self._point(references, image.target.digest)

    def point(self, reference: Reference, manifest: Digest) -> None:
        """Point one name at an image that is recorded."""
        with transaction(self._db, self._lock):
            self._point((reference,), manifest)

    def _point(self, references: Iterable[Reference], manifest: Digest) -> None:
        self._db.executemany(
            "INSERT INTO names (reference, name, manifest) VALUES (?, ?, ?)"
            " ON CONFLICT (reference) DO UPDATE SET manifest = excluded.manifest",
            [(r.normalised, r.name, str(manifest)) for r in references],
        )

    def forget_names(self, references: Iterable[str]) -> None:
        """Remove names; their images stay."""
        with transaction(self._db, self._lock):
            self._db.executemany(
                "DELETE FROM names WHERE reference = ?", [(text,) for text in references]
            )

    def forget(self, manifests: Iterable[Digest]) -> None:
        """Remove images and all their names."""
        with transaction(self._db, self._lock):
            self._db.executemany(
                "DELETE FROM images WHERE manifest = ?", [(str(m),) for m in manifests]
            )

    def image(self, manifest: Digest) -> Image | None:
        """The image with this manifest."""
        return self._first(self._select("manifest = ?", (str(manifest),)))

    def named(self, reference: str) -> Image | None:
        """The image that a normalised reference points at."""
        condition = "manifest = (SELECT manifest FROM names WHERE reference = ?)"
        return self._first(self._select(condition, (reference,)))

    def names_in(self, name: str) -> list[str]:
        """All references of one repository (``docker.io/library/busybox``), sorted."""
        with self._lock:
            rows = self._db.execute(
                "SELECT reference FROM names WHERE name = ? ORDER BY reference", (name,)
            )
            return [reference for (reference,) in rows]

    def matching(self, prefix: str) -> list[Image]:
        """Images whose id or manifest digest starts with ``sha256:…``, last recorded first."""
        end = prefix + "g"  # sorts after every hexadecimal digit
        return self._select(
            "(id >= ? AND id < ?) OR (manifest >= ? AND manifest < ?)", (prefix, end, prefix, end)
        )

    def all(self) -> list[Image]:
        """Every image, last recorded first."""
        return self._select("1", ())

    def manifests(self) -> set[str]:
        """The keys of all images."""
        with self._lock:
            return {key for (key,) in self._db.execute("SELECT manifest FROM images")}

    def layer_facts(self, digest: Digest) -> LayerFacts | None:
        """What is inside a layer blob, when it was ever measured."""
        with self._lock:
            row = self._db.execute(
                "SELECT diff_id, size FROM layers WHERE digest = ?", (str(digest),)
            ).fetchone()
        return None if row is None else LayerFacts(Digest.parse(row[0]), row[1])

    def remember_layer(self, digest: Digest, facts: LayerFacts) -> None:
        """Keep what a layer blob was measured to hold; never wrong, so never removed."""
        with transaction(self._db, self._lock):
            self._db.execute(
                "INSERT OR IGNORE INTO layers (digest, diff_id, size) VALUES (?, ?, ?)",
                (str(digest), str(facts.diff_id), facts.size),
            )

    def _select(self, condition: str, values: Sequence[str]) -> list[Image]:
        query = (
            f"SELECT {_COLUMNS} FROM images WHERE {condition}"  # noqa: S608 - constants
            " ORDER BY recorded_ns DESC, rowid DESC"
        )
        with self._lock, database_errors():
            rows = self._db.execute(query, values).fetchall()
            return [self._image(row, self._references(row[0])) for row in rows]

    def _references(self, manifest: str) -> tuple[str, ...]:
        rows = self._db.execute(
            "SELECT reference FROM names WHERE manifest = ? ORDER BY reference", (manifest,)
        )
        return tuple(reference for (reference,) in rows)

    def _image(self, row: tuple[Any, ...], references: tuple[str, ...]) -> Image:
        manifest, media_type, manifest_size, id_, created, size, *platform = row
        return Image(
            id=Digest.parse(id_),
            target=Descriptor(media_type, Digest.parse(manifest), int(manifest_size)),
            references=references,
            created_at=None if created is None else datetime.fromisoformat(created),
            size=int(size),
            platform=Platform(*platform),
        )

    def _first(self, images: list[Image]) -> Image | None:
        return images[0] if images else None
