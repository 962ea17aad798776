"""How a failed build is explained: what it printed last, where it stands, what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slipform.core.build import BuildFailed

_RULE: Final = "-" * 20


def explanation(failure: BuildFailed) -> str:
    """Text for stderr, as buildx words it."""
    if failure.cancelled:
        return "ERROR: build cancelled\n"
    lines = []
    if failure.tail:
        lines += ["------", f" > {failure.step_name}:", *failure.tail, "------"]
    if failure.source is not None:
        lines.append(f"{failure.source.file}:{failure.source.start_line}")
        if failure.source_text:
            lines += [_RULE, *_numbered(failure), _RULE]
    lines.append(f"ERROR: {failure.message}")
    return "\n".join(lines) + "\n"


def _numbered(failure: BuildFailed) -> list[str]:
    first = failure.source.start_line if failure.source is not None else 1
    texts = failure.source_text.rstrip("\n").split("\n")
    return [f"{first + offset:4d} | >>> {text}" for offset, text in enumerate(texts)]
