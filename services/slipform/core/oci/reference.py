"""References: ``host/name:tag@digest``, by the grammar of the distribution project.

The rules are those of ``docker``: a reference without a registry means ``docker.io``, a name there
without a slash means ``library/``, and a reference with neither tag nor digest means ``latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from slipform.core.errors import InvalidArgument
from slipform.core.oci.digest import Digest

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
MAX_NAME: Final = 255
"""Characters of ``registry/repository``."""
MAX_TAG: Final = 128

_OFFICIAL: Final = "library/"
_LEGACY_REGISTRY: Final = "index.docker.io"
_HOST_PART: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY: Final = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_TAG - 1}}}")
_REFERENCE: Final = re.compile(
    rf"(?P<registry>{_REGISTRY})/(?P<repository>{_PATH_PART}(?:/{_PATH_PART})*)"
    rf"(?::(?P<tag>{_TAG.pattern}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}")
_LONGEST_TEXT: Final = MAX_NAME + MAX_TAG + 256
"""Longer input is refused before a regular expression sees it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete reference; ``parse`` makes them, so that at least tag or digest is set.

    Attributes:
        registry: ``docker.io``, ``localhost:5000``.
        repository: ``library/busybox``.
        tag: may be empty when there is a digest.
        digest: None unless the reference is pinned.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference in any spelling that docker accepts.

        Raises:
            InvalidArgument: in docker's words.
        """
        if _IDENTIFIER.fullmatch(text):
            raise InvalidArgument(
                f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )
        if not text or len(text) > _LONGEST_TEXT:
            raise InvalidArgument("invalid reference format")
        registry, remainder = _split_registry(text)
        remote = remainder.partition(":")[0]
        if remote.lower() != remote:
            raise InvalidArgument("invalid reference format: repository name must be lowercase")
        return cls._from_full(f"{registry}/{remainder}")

    @classmethod
    def _from_full(cls, text: str) -> Reference:
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise InvalidArgument("invalid reference format")
        registry, repository, tag, digest = match.group("registry", "repository", "tag", "digest")
        if len(registry) + 1 + len(repository) > MAX_NAME:
            raise InvalidArgument(f"repository name must not be more than {MAX_NAME} characters")
        if not tag and not digest:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag or "", None if digest is None else _digest(digest))

    @property
    def name(self) -> str:
        """Registry and repository: ``docker.io/library/busybox``."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The shortest spelling of ``name``: ``busybox``."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        short = self.repository.removeprefix(_OFFICIAL)
        return self.repository if "/" in short else short

    @property
    def normalised(self) -> str:
        """The one full spelling: ``docker.io/library/busybox:latest``."""
        return self.name + self._suffix()

    @property
    def familiar(self) -> str:
        """The spelling that docker prints: ``busybox:latest``."""
        return self.familiar_name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag if self.digest is None else f"{tag}@{self.digest}"

    def without_digest(self) -> Reference:
        """The same name and tag; ``latest`` when there was only a digest."""
        return replace(self, tag=self.tag or DEFAULT_TAG, digest=None)

    def __str__(self) -> str:
        return self.normalised


def is_tag(text: str) -> bool:
    """Whether ``text`` may stand behind the colon of a reference."""
    return _TAG.fullmatch(text) is not None


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    named = slash and (
        first == "localhost" or "." in first or ":" in first or first.lower() != first
    )
    registry, remainder = (first, rest) if named else (DEFAULT_REGISTRY, text)
    if registry == _LEGACY_REGISTRY:
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return registry, remainder


def _digest(text: str) -> Digest:
    algorithm, _, digits = text.partition(":")
    want = {"sha256": 64, "sha512": 128}.get(algorithm)
    if want is None:
        raise InvalidArgument(
            f'invalid reference format: unsupported digest algorithm "{algorithm}"'
        )
    if len(digits) != want:
        raise InvalidArgument("invalid reference format: invalid checksum digest length")
    if digits.lower() != digits:
        raise InvalidArgument("invalid reference format: invalid checksum digest format")
    return Digest(algorithm, digits)
