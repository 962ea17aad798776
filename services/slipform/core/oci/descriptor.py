"""Descriptors: typed pointers at blobs (image-spec descriptor.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slipform.core.errors import InvalidArgument
from slipform.core.oci.digest import Digest
from slipform.core.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Descriptor:
    """(media_type, digest, size) of a blob; ``size`` is bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    def to_json(self) -> dict[str, Any]:
        """The descriptor object, empty fields left out."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform is not None:
            value["platform"] = self.platform.to_json()
        return value

    @classmethod
    def from_json(cls, value: object, where: str = "descriptor") -> Descriptor:
        """Read a descriptor object; unknown fields are ignored as the specification asks.

        Raises:
            InvalidArgument: a required field is absent or has the wrong type.
        """
        if not isinstance(value, dict):
            raise InvalidArgument(f"{where}: want a JSON object, found {type(value).__name__}")
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if not isinstance(media_type, str):
            raise InvalidArgument(f"{where}: mediaType is {media_type!r}, want a string")
        if not isinstance(digest, str):
            raise InvalidArgument(f"{where}: digest is {digest!r}, want a string")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidArgument(f"{where}: size is {size!r}, want a whole number from 0")
        annotations = value.get("annotations") or {}
        platform = value.get("platform")
        if not isinstance(annotations, dict) or not isinstance(platform, dict | None):
            raise InvalidArgument(f"{where}: annotations and platform want JSON objects")
        return cls(
            media_type,
            Digest.parse(digest),
            size,
            {str(key): str(item) for key, item in annotations.items()},
            None if platform is None else Platform.from_json(platform),
        )
