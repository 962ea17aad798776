"""Physical lines to logical ones: comments, continuations, heredoc bodies.

One pass; every character of the result can be traced to the line and column it came from.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from slipform.frontend.dockerfile.heredoc import Heredoc, find_markers
from slipform.frontend.dockerfile.text import TextError, check_utf8
from slipform.frontend.dockerfile.words import BLANKS, FlagWord, parse_json, take_flags

if TYPE_CHECKING:
    from slipform.core.errors import InvalidArgument
    from slipform.core.source import SourceRange
    from slipform.frontend.dockerfile.text import Text

_WITH_HEREDOC: Final = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a logical line that begins at ``offset`` came from this place."""

    offset: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction as written: keyword, flags, argument text, heredocs.

    ``text`` is the logical line: physical ones joined without their continuation characters and
    without comments between them. ``arguments`` begins at ``start`` of it.
    """

    source: Text
    text: str
    keyword: str
    """As written; ``name`` is its upper case."""
    name: str
    flags: tuple[FlagWord, ...]
    start: int
    pieces: tuple[Piece, ...]
    range: SourceRange
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    """The comment lines directly above, without their ``#``."""
    empty_continuation: int = 0
    """Line number of the first blank line inside a continuation; 0 if there is none."""

    @property
    def arguments(self) -> str:
        """What follows keyword and flags, trimmed."""
        return self.text[self.start :]

    def place(self, offset: int = 0) -> SourceRange:
        """Where ``text[offset]`` stands in the file."""
        piece = self.pieces[max(0, bisect_right(self.pieces, offset, key=_offset_of) - 1)]
        column = piece.column + max(0, offset - piece.offset)
        return self.source.range(piece.line, self.range.end_line, column)

    def fault(self, message: str, offset: int = 0, expected: str = "") -> InvalidArgument:
        """An error that points at ``text[offset]``."""
        return self.source.fault(message, self.place(offset), expected)

    def argument_fault(self, error: TextError) -> InvalidArgument:
        """An error that was found at an offset of ``arguments``."""
        return self.fault(str(error), self.start + error.offset, error.expected)


def _offset_of(piece: Piece) -> int:
    return piece.offset


@dataclass(slots=True)
class _Line:
    """A logical line while it grows."""

    parts: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    size: int = 0
    empty_continuation: int = 0

    def add(self, part: str, number: int, column: int) -> None:
        self.pieces.append(Piece(self.size, number, column))
        self.parts.append(part)
        self.size += len(part)


class Lexer:
    """Reads the statements of one file, in order."""

    def __init__(self, text: Text, escape: str) -> None:
        self._text = text
        self._escape = escape
        self._at = 0
        """Index of the next physical line."""

    def statements(self) -> list[Statement]:
        """All of them.

        Raises:
            InvalidArgument: bytes that are not UTF-8, an unterminated heredoc.
        """
        found: list[Statement] = []
        comments: list[str] = []
        lines = self._text.lines
        while self._at < len(lines):
            line = lines[self._at].strip()
            if line.startswith("#"):
                comments.append(line[1:].strip())
                self._at += 1
            elif not line:
                comments.clear()
                self._at += 1
            else:
                statement = self._statement(tuple(comments))
                comments.clear()
                if statement is not None:
                    found.append(statement)
        return found

    def _statement(self, comments: tuple[str, ...]) -> Statement | None:
        line = self._logical_line()
        joined = "".join(line.parts)
        text = joined.strip()
        if not text:
            return None
        lead = len(joined) - len(joined.lstrip())
        pieces = _drop_lead(line.pieces, lead) if lead else tuple(line.pieces)
        blank = BLANKS.search(text)
        keyword = text[: blank.start()] if blank else text
        flags, start = take_flags(text, blank.end() if blank else len(text))
        source = self._text
        where = source.range(pieces[0].line, self._at, pieces[0].column)
        statement = Statement(
            source, text, keyword, keyword.upper(), flags, start, pieces, where, (), comments,
            line.empty_continuation,
        )  # fmt: skip
        try:
            check_utf8(text)
        except TextError as e:
            raise statement.fault(str(e), e.offset, e.expected) from e
        return self._with_heredocs(statement) if "<<" in text else statement

    def _logical_line(self) -> _Line:
        """Take physical lines up to one that is not continued."""
        line = _Line()
        lines = self._text.lines
        escape = self._escape
        while self._at < len(lines):
            raw = lines[self._at]
            self._at += 1
            content = raw.rstrip("\r\n")
            if line.pieces:
                bare = content.lstrip()
                if bare.startswith("#"):
                    continue
                if not bare:
                    line.empty_continuation = line.empty_continuation or self._at
                    continue
                column = 1
            else:
                bare = content.lstrip()
                column = len(content) - len(bare) + 1
                content = bare
            end = content.rstrip(" \t")
            if not end.endswith(escape) or end.endswith(escape * 2):
                line.add(content, self._at, column)
                break
            line.add(end[:-1], self._at, column)
        return line

    def _with_heredocs(self, statement: Statement) -> Statement:
        start = heredoc_start(statement)
        if start is None:
            return statement
        try:
            markers = find_markers(statement.text, start)
        except TextError as e:
            raise statement.fault(str(e), e.offset, e.expected) from e
        if not markers:
            return statement
        heredocs = tuple(
            Heredoc(marker, self._body(statement, marker.name, marker.chomp, marker.start))
            for marker in markers
        )
        where = self._text.range(statement.range.start_line, self._at, statement.range.start_column)
        return Statement(
            statement.source, statement.text, statement.keyword, statement.name, statement.flags,
            statement.start, statement.pieces, where, heredocs, statement.comments,
            statement.empty_continuation,
        )  # fmt: skip

    def _body(self, statement: Statement, name: str, chomp: bool, offset: int) -> str:
        lines = self._text.lines
        begin = self._at
        while self._at < len(lines):
            line = lines[self._at].rstrip("\r")
            self._at += 1
            if (line.lstrip("\t") if chomp else line) == name:
                return self._checked(begin, self._at - 1)
        place = statement.place(offset)
        message = (
            f'unterminated heredoc "{name}", which begins on line {place.start_line}: '
            f'no line "{name}" ends it'
        )
        raise self._text.fault(message, place, f'a line "{name}"')

    def _checked(self, begin: int, end: int) -> str:
        lines = self._text.lines[begin:end]
        body = "".join(f"{line}\n" for line in lines)
        if body.isascii():
            return body
        for number, line in enumerate(lines, begin + 1):
            try:
                check_utf8(line)
            except TextError as e:
                at = self._text.range(number, column=e.offset + 1)
                raise self._text.fault(str(e), at, e.expected) from e
        return body


def _drop_lead(pieces: list[Piece], lead: int) -> tuple[Piece, ...]:
    """Pieces of a line whose first ``lead`` characters are cut off."""
    last = bisect_right(pieces, lead, key=_offset_of) - 1
    first = pieces[last]
    rest = [Piece(p.offset - lead, p.line, p.column) for p in pieces[last + 1 :]]
    return (Piece(0, first.line, first.column + lead - first.offset), *rest)


def heredoc_start(statement: Statement) -> int | None:
    """Where to look for heredoc markers in a statement; None when it takes none."""
    name, text, start = statement.name, statement.text, statement.start
    while name == "ONBUILD":
        blank = BLANKS.search(text, start)
        if blank is None:
            return None
        name = text[start : blank.start()].upper()
        _, start = take_flags(text, blank.end())
    if name not in _WITH_HEREDOC:
        return None
    rest = text[start:]
    if rest.startswith("[") and parse_json(rest) is not None:
        return None
    return start
