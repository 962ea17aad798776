"""Image indexes (image-spec image-index.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slipform.core.errors import InvalidArgument
from slipform.core.oci import canonical, media_types
from slipform.core.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Index:
    """Manifests (or indexes) listed under one digest."""

    manifests: tuple[Descriptor, ...]
    media_type: str = media_types.OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The exact bytes that are stored and hashed."""
        value: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [manifest.to_json() for manifest in self.manifests],
        }
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        return canonical.encode(value)

    @classmethod
    def decode(cls, data: bytes, where: str = "index") -> Index:
        """Read untrusted bytes; raises ``InvalidArgument`` naming the field that is wrong."""
        value = canonical.decode_object(data, where)
        manifests = value.get("manifests")
        if not isinstance(manifests, list):
            raise InvalidArgument(
                f"{where}: manifests is {type(manifests).__name__}, want an array"
            )
        annotations = value.get("annotations") or {}
        if not isinstance(annotations, dict):
            raise InvalidArgument(f"{where}: annotations want a JSON object")
        return cls(
            tuple(
                Descriptor.from_json(item, f"{where}: manifests[{number}]")
                for number, item in enumerate(manifests)
            ),
            str(value.get("mediaType") or media_types.OCI_INDEX),
            {str(key): str(item) for key, item in annotations.items()},
        )
