"""What callers may call things: keys, names, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAME: Final = 1024
"""Characters of a key or name."""
MAX_LABEL: Final = 4096
"""Characters of a label's key and value together, as containerd has it."""


def check_name(what: str, name: str) -> None:
    """Raise ``InvalidArgument`` unless ``name`` can be a key or name."""
    if not name or len(name) > MAX_NAME or not _storable(name):
        raise InvalidArgument(f"{what} {name[:64]!r}: want 1 to {MAX_NAME} characters, no NUL")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise ``InvalidArgument`` unless all of ``labels`` can be kept."""
    for key, value in labels.items():
        if not key or len(key) + len(value) > MAX_LABEL or not _storable(key + value):
            raise InvalidArgument(
                f"label {key[:64]!r}: want a key, at most {MAX_LABEL} characters with its value,"
                " no NUL"
            )


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
