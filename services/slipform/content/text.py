"""Names and labels from outside: checked once, before they reach the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.core.content import GC_REF
from slipform.core.errors import InvalidArgument
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAME: Final = 1024
"""Characters of a tenant's name or a ref."""
MAX_LABEL: Final = 4096
"""Characters of a label, key and value together, as in containerd."""


def check_name(what: str, name: str) -> None:
    """Accept any text that can be stored; a ref is never used as a path.

    Raises:
        InvalidArgument: empty, too long, or not text (NUL, lone surrogates).
    """
    if not name or len(name) > MAX_NAME or not _is_text(name):
        raise InvalidArgument(f"{what} {name[:64]!r}: want 1 to {MAX_NAME} characters of text")


def check_labels(labels: Mapping[str, str]) -> None:
    """Accept labels; those under ``GC_REF`` must name a digest, or be empty (removed).

    Raises:
        InvalidArgument: says which label and why.
    """
    for key, value in labels.items():
        if not key or len(key) + len(value) > MAX_LABEL or not _is_text(key + value):
            raise InvalidArgument(
                f"label {key[:64]!r}: want a key, and at most {MAX_LABEL} characters with its value"
            )
        if key.startswith(GC_REF) and value:
            Digest.parse(value)


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Labels after setting ``new`` ones; an empty value removes its label."""
    both = {**old, **new}
    return {key: value for key, value in both.items() if value}


def matches(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all wanted labels are there; a wanted value "" stands for any value."""
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
