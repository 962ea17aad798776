"""``COPY`` and ``ADD``: sources, heredocs among them, and a destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.frontend.dockerfile import instructions as ins
from slipform.frontend.dockerfile.flags import Flags, Kind
from slipform.frontend.dockerfile.words import parse_json, split_blanks

if TYPE_CHECKING:
    from slipform.frontend.dockerfile.heredoc import Heredoc
    from slipform.frontend.dockerfile.lexer import Statement

_SHARED_FLAGS: Final = {
    "chown": Kind.TEXT,
    "chmod": Kind.TEXT,
    "link": Kind.BOOL,
    "exclude": Kind.MANY,
}
_COPY_FLAGS: Final = {"from": Kind.TEXT, "parents": Kind.BOOL, **_SHARED_FLAGS}
_ADD_FLAGS: Final = {
    "keep-git-dir": Kind.BOOL,
    "checksum": Kind.TEXT,
    "unpack": Kind.BOOL,
    **_SHARED_FLAGS,
}


def parse_copy(statement: Statement, escape: str) -> ins.Instruction:
    """Read flags, sources and destination.

    Raises:
        InvalidArgument: fewer than two arguments, or a heredoc as the destination.
    """
    name = statement.name
    flags = Flags(statement, _ADD_FLAGS if name == "ADD" else _COPY_FLAGS)
    words = _words(statement)
    if not words:
        raise statement.fault(f"{name} requires at least two arguments", statement.start)
    if len(words) == 1:
        raise statement.fault(
            f"{name} requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
            statement.start,
            "source … destination",
        )
    *sources, dest = words
    if not isinstance(dest, str):
        offset = dest.marker.start
        raise statement.fault(f"{name} cannot accept a heredoc as a destination", offset, "a path")
    return ins.Copy(
        statement,
        add=name == "ADD",
        sources=tuple(sources),
        dest=dest,
        from_=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.on("link"),
        parents=flags.on("parents"),
        excludes=flags.many("exclude"),
        checksum=flags.text("checksum"),
        unpack=flags.on_or_none("unpack"),
        keep_git_dir=flags.on("keep-git-dir"),
    )


def _words(statement: Statement) -> list[str | Heredoc]:
    """Texts and heredocs in their order; quotes keep no blanks together outside JSON."""
    words = parse_json(statement.arguments)
    if words is not None:
        return list(words)
    found: list[str | Heredoc] = []
    at = statement.start
    for heredoc in statement.heredocs:
        found += split_blanks(statement.text[at : heredoc.marker.start])
        found.append(heredoc)
        at = heredoc.marker.end
    return found + split_blanks(statement.text[at:])
