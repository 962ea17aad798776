"""``--format``: the part of Go's text/template that people type after docker commands."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from slipform.cli.errors import CommandError

_ACTION: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_PATH: Final = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_]*)+|\.")
_ESCAPES: Final = {r"\t": "\t", r"\n": "\n"}


def render(template: str, value: dict[str, Any]) -> str:
    """Replace ``{{.Field.Path}}`` and ``{{json .Field}}`` by what ``value`` holds.

    Raises:
        CommandError: another kind of action, or a field that does not exist.
    """
    if template == "json":
        return json.dumps(value, ensure_ascii=False)
    for escape, meant in _ESCAPES.items():
        template = template.replace(escape, meant)
    return _ACTION.sub(lambda match: _action(match[1], value), template)


def _action(action: str, value: dict[str, Any]) -> str:
    function, _, path = action.rpartition(" ")
    if not _PATH.fullmatch(path) or function not in ("", "json"):
        raise CommandError(
            f'template parsing error: "{action}": want {{{{.Field}}}} or {{{{json .Field}}}}', 64
        )
    found: Any = value
    for name in filter(None, path.split(".")):
        if not isinstance(found, dict) or name not in found:
            known = ", ".join(sorted(found)) if isinstance(found, dict) else "no fields"
            raise CommandError(f'template: there is no field "{name}"; there is {known}', 1)
        found = found[name]
    if function == "json" or isinstance(found, dict | list):
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return str(found).lower() if isinstance(found, bool) else "" if found is None else str(found)
