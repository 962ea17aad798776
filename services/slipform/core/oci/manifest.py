"""Image manifests (image-spec manifest.md; Docker's schema 2 has the same shape)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slipform.core.errors import InvalidArgument
from slipform.core.oci import canonical, media_types
from slipform.core.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform: a config and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = media_types.OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The exact bytes that are stored and hashed."""
        value: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        return canonical.encode(value)

    @classmethod
    def decode(cls, data: bytes, where: str = "manifest") -> Manifest:
        """Read untrusted bytes; raises ``InvalidArgument`` naming the field that is wrong."""
        value = canonical.decode_object(data, where)
        if value.get("schemaVersion") != 2:
            raise InvalidArgument(
                f"{where}: schemaVersion is {value.get('schemaVersion')!r}, want 2"
            )
        layers = value.get("layers")
        if not isinstance(layers, list):
            raise InvalidArgument(f"{where}: layers is {type(layers).__name__}, want an array")
        annotations = value.get("annotations") or {}
        if not isinstance(annotations, dict):
            raise InvalidArgument(f"{where}: annotations want a JSON object")
        return cls(
            Descriptor.from_json(value.get("config"), f"{where}: config"),
            tuple(
                Descriptor.from_json(layer, f"{where}: layers[{number}]")
                for number, layer in enumerate(layers)
            ),
            str(value.get("mediaType") or media_types.OCI_MANIFEST),
            {str(key): str(item) for key, item in annotations.items()},
        )
