"""Platforms: what a manifest runs on (image-spec image-index.md, "platform")."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from slipform.core.errors import InvalidArgument

_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture and optional variant, in Go's spelling."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/arch[/variant]``, or ``arch`` alone for Linux."""
        parts = text.strip().lower().split("/")
        if not all(parts) or len(parts) > 3:
            raise InvalidArgument(f'platform "{text}" is malformed, want os/arch[/variant]')
        if len(parts) == 1:
            if parts[0] in ("linux", "windows", "darwin", "freebsd"):
                return cls(parts[0], host_platform().architecture, host_platform().variant)
            parts.insert(0, "linux")
        os, architecture, *rest = parts
        architecture, variant = _ARCHITECTURES.get(architecture, (architecture, ""))
        variant = rest[0] if rest else variant
        if architecture == "arm64" and variant == "v8":
            variant = ""
        return cls(os, architecture, variant)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Platform:
        """Read the ``platform`` object of a descriptor, or the same fields of a config."""
        return cls(
            str(value.get("os", "")),
            str(value.get("architecture", "")),
            str(value.get("variant", "")),
            str(value.get("os.version", "")),
        )

    def to_json(self) -> dict[str, str]:
        """The ``platform`` object, empty fields left out."""
        pairs = {
            "architecture": self.architecture,
            "os": self.os,
            "os.version": self.os_version,
            "variant": self.variant,
        }
        return {key: value for key, value in pairs.items() if value}


def host_platform() -> Platform:
    """The platform this process runs on."""
    machine = os.uname().machine
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)
