"""Choosing drivers: by name, or by probing in order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import DomainError, Unsupported
from slipform.drivers import registry

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

ORDER: Final = {
    "snapshot": ("overlay", "copy"),
    "content": ("filesystem",),
    "executor": ("native", "oci"),
}
"""What "auto" tries, best first."""


def choose(kind: str, name: str, root: Path) -> tuple[str, Any]:
    """The name and factory of a driver that works on ``root``.

    Raises:
        NotFound: no driver of that name.
        Unsupported: none of the drivers that were tried works; says why for each.
    """
    if name != "auto":
        factory = registry.load(kind, name)
        _probe(factory, root)
        return name, factory
    refused = []
    for candidate in ORDER[kind]:
        factory = registry.load(kind, candidate)
        try:
            _probe(factory, root)
        except DomainError as e:
            _log.warning("%s driver %s passed over: %s", kind, candidate, e)
            refused.append(str(e))
        else:
            return candidate, factory
    raise Unsupported(f"no {kind} driver works here: {'; '.join(refused)}")


def _probe(factory: Any, root: Path) -> None:
    probe = getattr(factory, "probe", None)
    if probe is not None:
        probe(root)
