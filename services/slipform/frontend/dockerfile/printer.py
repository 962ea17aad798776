"""Instructions back to text: parsing what is printed gives the same instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.core.plan import InstructionInfo


def print_instruction(instruction: InstructionInfo) -> str:
    """One logical line, then the heredocs as they were written."""
    bodies = "".join(f"{h.data.decode()}{h.name}\n" for h in instruction.heredocs)
    return f"{instruction.text}\n{bodies}"


def print_dockerfile(instructions: Iterable[InstructionInfo], escape: str = "\\") -> bytes:
    """A whole file; comments, blank lines and continuations of the original are gone."""
    head = "" if escape == "\\" else f"# escape={escape}\n"
    return (head + "".join(print_instruction(i) for i in instructions)).encode()
