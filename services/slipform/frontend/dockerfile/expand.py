"""Variable expansion in the words of instructions: ``$v``, ``${v:-word}``, quotes, escapes.

The forms and their errors are those of the Dockerfile reference as BuildKit implements it. Every
character is looked at once; what substitution may produce is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from slipform.frontend.dockerfile import glob
from slipform.frontend.dockerfile.text import TextError

Lookup = Callable[[str], str | None]
"""The value of a variable; None when it is unset."""

MAX_VALUE: Final = 1 << 20
"""Characters of one expanded word: Linux takes at most 128 KiB per string anyway."""
MAX_TOTAL: Final = 64 << 20
"""Characters that all substitutions of one plan may produce."""
MAX_DEPTH: Final = 64
"""Levels of ``${a:-${b:-…}}``."""
_SPECIAL: Final = frozenset("@*#?-$!")
_NAME: Final = re.compile(r"[0-9]+|[^\W\d]\w*")
_PLAIN: Final = re.compile(r"""[^$'"\\`}/]+""")


@dataclass(slots=True)
class Budget:
    """What is left of the text that one plan may produce by substitution and repetition."""

    left: int = MAX_TOTAL

    def charge(self, size: int) -> None:
        """Take ``size`` characters.

        Raises:
            TextError: nothing is left.
        """
        self.left -= size
        if self.left < 0:
            raise TextError(f"variables expand to more than {MAX_TOTAL} characters in all")


@dataclass(slots=True)
class Expander:
    r"""Expands words with one set of variables.

    Attributes:
        lookup: where values come from.
        escape: the escape character, ``\`` or a backtick.
        keep_quotes: quotes are plain text (heredoc bodies).
        missing: names used by plain ``$v`` and ``${v}`` that were unset.
    """

    lookup: Lookup
    escape: str = "\\"
    keep_quotes: bool = False
    budget: Budget = field(default_factory=Budget)
    missing: set[str] = field(default_factory=set)

    def word(self, text: str) -> str:
        """One word; blanks in it and in values are kept.

        Raises:
            TextError: a form that does not exist, unbalanced quotes, or a ``${v?}`` that says no.
        """
        if self._is_plain(text):
            return text
        return _Scan(self, text).run().text()

    def words(self, text: str) -> list[str]:
        """The words that result, where unquoted blanks of values separate words.

        Raises:
            TextError: as for ``word``.
        """
        return _Scan(self, text).run().words()

    def _is_plain(self, text: str) -> bool:
        if "$" in text or self.escape in text:
            return False
        return self.keep_quotes or ("'" not in text and '"' not in text)


class _Out:
    """Expanded text, and the same cut into words."""

    __slots__ = ("_blank", "_cut", "_parts", "size")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._cut: list[tuple[str, bool]] = []
        self.size = 0

    def add(self, text: str, *, splits: bool) -> None:
        """``splits``: blanks of it separate words."""
        self.size += len(text)
        if self.size > MAX_VALUE:
            raise TextError(f"a word expands to more than {MAX_VALUE} characters")
        self._parts.append(text)
        self._cut.append((text, splits))

    def text(self) -> str:
        return "".join(self._parts)

    def words(self) -> list[str]:
        words: list[str] = []
        current: list[str] = []
        for text, splits in self._cut:
            pieces = re.split(r"\s+", text) if splits else [text]
            for i, piece in enumerate(pieces):
                if i and "".join(current):
                    words.append("".join(current))
                if i:
                    current = []
                current.append(piece)
        last = "".join(current)
        return [*words, last] if last else words


class _Scan:
    """One pass over a text; ``at`` is the next character."""

    __slots__ = ("_depth", "_ex", "_text", "at")

    def __init__(self, expander: Expander, text: str) -> None:
        self._ex = expander
        self._text = text
        self.at = 0
        self._depth = 0

    def run(self) -> _Out:
        return self._until("", keep_escapes=False)

    def _peek(self) -> str:
        return self._text[self.at : self.at + 1]

    def _take(self) -> str:
        ch = self._text[self.at : self.at + 1]
        self.at += 1
        return ch

    def _fail(self, message: str, at: int, expected: str = "") -> TextError:
        return TextError(message, offset=min(at, len(self._text)), expected=expected)

    def _until(self, stop: str, *, keep_escapes: bool) -> _Out:
        """Expand up to ``stop``, which is taken; ``""`` is the end of the text."""
        out = _Out()
        begin = self.at
        while self.at < len(self._text):
            plain = _PLAIN.match(self._text, self.at)
            if plain:
                out.add(plain[0], splits=True)
                self.at = plain.end()
                continue
            ch = self._peek()
            if ch == stop:
                self.at += 1
                return out
            self._special(ch, out, keep_escapes=keep_escapes)
        if stop:
            raise self._fail(f"syntax error: missing '{stop}'", begin, stop)
        return out

    def _special(self, ch: str, out: _Out, *, keep_escapes: bool) -> None:
        if ch == "$":
            out.add(self._dollar(), splits=True)
        elif ch == "'" and not self._ex.keep_quotes:
            out.add(self._single(), splits=False)
        elif ch == '"' and not self._ex.keep_quotes:
            self._double(out)
        elif ch == self._ex.escape:
            self.at += 1
            escaped = self._take()
            if keep_escapes:
                out.add(ch + escaped, splits=False)
            else:
                out.add(escaped, splits=False)
        else:
            self.at += 1
            out.add(ch, splits=True)

    def _single(self) -> str:
        begin = self.at
        end = self._text.find("'", begin + 1)
        if end < 0:
            raise self._fail(
                "unexpected end of statement while looking for matching single-quote", begin, "'"
            )
        self.at = end + 1
        return self._text[begin + 1 : end]

    def _double(self, out: _Out) -> None:
        begin = self.at
        escape = self._ex.escape
        self.at += 1
        while self.at < len(self._text):
            ch = self._take()
            if ch == '"':
                return
            if ch == "$":
                self.at -= 1
                out.add(self._dollar(), splits=False)
            elif ch == escape and self._peek() and self._peek() in ('"', "$", escape):
                out.add(self._take(), splits=False)
            else:
                out.add(ch, splits=False)
        raise self._fail(
            "unexpected end of statement while looking for matching double-quote", begin, '"'
        )

    def _dollar(self) -> str:
        begin = self.at
        self.at += 1
        if self._peek() == "{":
            self.at += 1
            value = self._braced(begin)
        else:
            name = self._name()
            if not name:
                return "$"
            value = self._plain_value(name)
        self._ex.budget.charge(len(value))
        return value

    def _name(self) -> str:
        if self._peek() in _SPECIAL and self._peek():
            return self._take()
        match = _NAME.match(self._text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0]

    def _plain_value(self, name: str) -> str:
        value = self._ex.lookup(name)
        if value is None:
            self._ex.missing.add(name)
            return ""
        return value

    def _braced(self, begin: int) -> str:
        name = self._name()
        if not name:
            raise self._fail("bad substitution", begin, "${name}")
        operator = self._take()
        if operator == "}":
            return self._plain_value(name)
        if not operator:
            raise self._fail("syntax error: missing '}'", begin, "}")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail(f"substitutions nested more than {MAX_DEPTH} deep", begin)
        try:
            return self._modified(name, operator, begin)
        finally:
            self._depth -= 1

    def _modified(self, name: str, operator: str, begin: int) -> str:
        null_is_unset = operator == ":"
        if null_is_unset:
            operator = self._take()
        if operator in ("-", "+", "?"):
            word = self._until("}", keep_escapes=False).text()
            return self._default(name, operator, word, begin, null_is_unset=null_is_unset)
        if not null_is_unset and operator in ("#", "%"):
            longest = self._peek() == operator
            self.at += longest
            pattern = self._until("}", keep_escapes=True).text()
            trim = glob.trim_prefix if operator == "#" else glob.trim_suffix
            value = self._plain_value(name)
            self._charge_match(pattern, value)
            return trim(pattern, value, longest=longest)
        if not null_is_unset and operator == "/":
            everywhere = self._peek() == "/"
            self.at += everywhere
            pattern = self._until("/", keep_escapes=True).text()
            replacement = self._until("}", keep_escapes=False).text()
            return self._replaced(name, pattern, replacement, everywhere=everywhere)
        found = ":" * null_is_unset + operator
        raise self._fail(
            f"unsupported modifier ({found}) in substitution",
            begin,
            ":- - :+ + :? ? # ## % %% / //",
        )

    def _replaced(self, name: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
        value = self._plain_value(name)
        self._charge_match(pattern, value)
        self._ex.budget.charge(len(value) * len(replacement))
        return glob.replace(pattern, value, replacement, everywhere=everywhere)

    def _charge_match(self, pattern: str, value: str) -> None:
        """Matching costs more time than copying: 64 tokens at once, character by character."""
        self._ex.budget.charge(16 * len(value) * (1 + len(pattern) // 64))

    def _default(
        self, name: str, operator: str, word: str, begin: int, *, null_is_unset: bool
    ) -> str:
        value = self._ex.lookup(name)
        usable = value is not None and not (null_is_unset and not value)
        if operator == "+":
            return word if usable else ""
        if usable and value is not None:
            return value
        if operator == "-":
            return word
        state = "unset" if value is None else "empty"
        raise self._fail(f"{name}: {word or f'is not allowed to be {state}'}", begin)
