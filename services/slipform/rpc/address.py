"""Addresses of services: ``unix:/path`` and ``dns:host:port``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipform.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens; exactly one of the two is set."""

    path: Path | None = None
    host: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``unix:/absolute/path`` (or ``unix:///…``) or ``dns:host:port``.

        Raises:
            InvalidArgument: neither, or a relative path.
        """
        scheme, _, rest = text.partition(":")
        if scheme == "unix":
            path = Path(rest.removeprefix("//"))
            if path.is_absolute():
                return cls(path=path)
        elif scheme == "dns":
            host = rest.removeprefix("///")
            if host.rpartition(":")[2].isdigit() and host.rpartition(":")[0]:
                return cls(host=host)
        raise InvalidArgument(f'address "{text}": want unix:/absolute/path or dns:host:port')

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else f"dns:{self.host}"
