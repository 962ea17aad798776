"""Progress for programs: one JSON object per line on stdout."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from slipform.cli.progress.plain import QuietProgress

if TYPE_CHECKING:
    from slipform.core.build import BuildEvent, BuildFailed


class JsonProgress(QuietProgress):
    """Each line has ``event`` (the class in ``slipform.core.build``) and its fields."""

    def show(self, event: BuildEvent) -> None:
        """Print the event."""
        value = {"event": type(event).__name__, **_plain(event)}
        self._out.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._out.flush()

    def failed(self, failure: BuildFailed) -> None:
        """Nothing more: the failure was an event too."""


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "hex"):
            return str(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
