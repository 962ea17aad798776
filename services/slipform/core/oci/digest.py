"""Digests: the name of exact bytes (OCI image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEX_LENGTH: Final = {"sha256": 64, "sha512": 128}
_GRAMMAR: Final = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
_LOWER_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """``algorithm:hex``; only registered algorithms with the right length can be made."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        want = _HEX_LENGTH.get(self.algorithm)
        if want is None:
            raise InvalidArgument(
                f'digest algorithm "{self.algorithm}" is not one of {", ".join(_HEX_LENGTH)}'
            )
        if len(self.hex) != want or not _LOWER_HEX.fullmatch(self.hex):
            raise InvalidArgument(
                f'digest "{self.algorithm}:{self.hex}": want {want} lower-case hex digits'
            )

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:…``; raises ``InvalidArgument`` for anything else."""
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise InvalidArgument(f'digest "{text}" is malformed, want "sha256:<64 hex digits>"')
        return cls(match[1], match[2])

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The SHA-256 digest of ``data``."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve hex digits, as docker shows an id."""
        return self.hex[:12]


def chain_id(diff_ids: Iterable[Digest]) -> Digest:
    """Fold diff_ids, lowest first, into a ChainID (image-spec config.md, "Layer ChainID").

    Raises:
        InvalidArgument: there is no diff_id to fold.
    """
    folded: Digest | None = None
    for diff_id in diff_ids:
        folded = diff_id if folded is None else Digest.of(f"{folded} {diff_id}".encode())
    if folded is None:
        raise InvalidArgument("a chain_id needs at least one diff_id, found none")
    return folded
