"""The one way in which Slipform writes JSON whose digest matters."""

from __future__ import annotations

import json
from typing import Any

from slipform.core.errors import InvalidArgument


def encode(value: object) -> bytes:
    """Compact UTF-8 JSON in the insertion order of keys, as OCI documents are written."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def encode_sorted(value: object) -> bytes:
    """Compact UTF-8 JSON with sorted keys: for documents that exist to be hashed."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def decode_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse untrusted bytes that must hold one JSON object.

    Raises:
        InvalidArgument: not UTF-8, not JSON, too deep, or not an object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise InvalidArgument(f"{where}: not valid JSON: {e}") from e
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where}: want a JSON object, found {type(value).__name__}")
    return value
