"""File name patterns: Go's ``filepath.Match``, and lists of them as ``.dockerignore`` has them.

Patterns become regular expressions that cannot backtrack much: what a star may eat is decided
once (atomic groups), and the rare pattern for which that would be wrong is matched by a table.
Paths are relative, with ``/``, without ``.`` or ``..`` parts, as ``FileEntry.path`` is.
"""

from __future__ import annotations

import functools
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_WILD: Final = frozenset("*?[\\")
_SLASH: Final = "/"
_LONGEST: Final = 4096
"""Characters of one pattern: no path is longer."""

_STAR: Final = "*"
_DEEP: Final = "**"
_REST: Final = "**$"


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a pattern: ``kind`` is a wildcard, or empty for exactly one character.

    ``regex`` matches that character; ``char`` is it when it is literal.
    """

    kind: str
    regex: str = ""
    char: str = ""


class Pattern:
    """One pattern.

    Without ``deep`` it is Go's ``filepath.Match``: ``*`` and ``?`` stop at ``/``. With it,
    ``**`` stands for any number of directories, as in ``.dockerignore`` and ``--exclude``.
    """

    __slots__ = ("_regex", "_tokens", "literal", "text")

    def __init__(self, text: str, *, deep: bool = False) -> None:
        r"""Compile a pattern.

        Raises:
            InvalidArgument: a class is not closed, empty or backwards, or nothing follows ``\``.
        """
        self.text = text
        self._tokens = tuple(_tokens(text, deep))
        self.literal: str | None = None
        """What it matches when it has no wildcard."""
        if all(token.char for token in self._tokens):
            self.literal = "".join(token.char for token in self._tokens)
        source = _regex(self._tokens)
        self._regex = None if source is None else re.compile(source, re.DOTALL)

    def match(self, path: str) -> bool:
        """Whether the whole path matches."""
        if self.literal is not None:
            return path == self.literal
        if self._regex is not None:
            return self._regex.fullmatch(path) is not None
        return _match_by_table(self._tokens, path)

    @property
    def regex(self) -> str | None:
        """Source of an equivalent expression for ``fullmatch`` with DOTALL, if there is one."""
        return None if self._regex is None else self._regex.pattern

    @property
    def base(self) -> str:
        """The directory above the first wildcard, without escapes; empty is the root."""
        parts: list[str] = []
        part = ""
        for token in self._tokens:
            if not token.char:
                return _SLASH.join(parts)
            if token.char == _SLASH:
                parts.append(part)
                part = ""
            else:
                part += token.char
        return _SLASH.join(parts)


def has_wildcards(text: str) -> bool:
    """Whether matching a text as a pattern may differ from comparing it."""
    return not _WILD.isdisjoint(text)


def match_name(pattern: str, name: str) -> bool:
    """Whether ``name`` matches, as Go's ``filepath.Match`` has it.

    Raises:
        InvalidArgument: a malformed pattern.
    """
    return _compiled(pattern).match(name)


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Pattern:
    return Pattern(pattern)


def _bad(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"syntax error in pattern {text[:200]!r}: {why}")


def _tokens(text: str, deep: bool) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        ch = text[at]
        at += 1
        if ch == "*":
            stars = at
            while at < len(text) and text[at] == "*":
                at += 1
            if not deep or at == stars:
                yield _Token(_STAR)
                continue
            # "**/" is one with its slash: it may stand for no directory at all.
            if at < len(text) and text[at] == _SLASH:
                at += 1
            yield _Token(_DEEP if at < len(text) else _REST)
        elif ch == "?":
            yield _Token("", "[^/]")
        elif ch == "[":
            regex, at = _class(text, at)
            yield _Token("", regex)
        elif ch == "\\":
            if at == len(text):
                raise _bad(text, "nothing follows the backslash")
            yield _Token("", re.escape(text[at]), text[at])
            at += 1
        else:
            yield _Token("", re.escape(ch), ch)


def _class(text: str, at: int) -> tuple[str, int]:
    """The expression of a class whose ``[`` stands before ``at``, and where it ends."""
    # Nothing but "**" crosses a directory: else a star could not settle on the first fit.
    out = ["(?!/)["]
    if text.startswith("^", at):
        out.append("^")
        at += 1
    begin = at
    while not (text.startswith("]", at) and at > begin):
        low, at = _class_char(text, at)
        high = low
        if text.startswith("-", at):
            high, at = _class_char(text, at + 1)
        if high < low:
            raise _bad(text, f"the range {low}-{high} is backwards")
        out.append(f"{re.escape(low)}-{re.escape(high)}")
    return "".join([*out, "]"]), at + 1


def _class_char(text: str, at: int) -> tuple[str, int]:
    if text.startswith("\\", at):
        at += 1
    elif text[at : at + 1] in ("-", "]"):
        raise _bad(text, "a class has nothing before - or ]")
    if at >= len(text):
        raise _bad(text, "a class is not closed")
    return text[at], at + 1


def _regex(tokens: Sequence[_Token]) -> str | None:
    """An expression in which no star is tried twice; None when that needs a table."""
    chunks, wilds = _chunks(tokens)
    for i, wild in enumerate(wilds):
        # Whatever "**" is followed by, and then by another "**", must end at a directory:
        # only then is its first occurrence as good as every later one.
        later = [w for w in wilds[i + 1 :] if w == _DEEP]
        ends = _ends_at_slash(chunks, wilds, i)
        if wild == _DEEP and later and not ends:
            return None
    return _assemble(chunks, wilds)


def _chunks(tokens: Sequence[_Token]) -> tuple[list[list[_Token]], list[str]]:
    """Fixed parts and the wildcards between them: one chunk more than wildcards."""
    chunks: list[list[_Token]] = [[]]
    wilds: list[str] = []
    for token in tokens:
        if token.kind:
            wilds.append(token.kind)
            chunks.append([])
        else:
            chunks[-1].append(token)
    return chunks, wilds


def _ends_at_slash(chunks: list[list[_Token]], wilds: list[str], i: int) -> bool:
    """Whether the part from wildcard ``i`` up to the next ``**`` ends with a slash."""
    for j in range(i + 1, len(wilds) + 1):
        if j == len(wilds):
            return True
        if wilds[j] in (_DEEP, _REST):
            return bool(chunks[j]) and chunks[j][-1].char == _SLASH
    return True


def _assemble(chunks: list[list[_Token]], wilds: list[str]) -> str:
    texts = ["".join(token.regex for token in chunk) for chunk in chunks]
    out = [texts[0]]
    i = 0
    while i < len(wilds):
        if wilds[i] == _REST:
            out.append(".*")
            out.append(texts[i + 1])
            i += 1
        elif wilds[i] == _DEEP:
            # The stars of the part after "**" belong to its group: it moves as a whole.
            end = i + 1
            while end < len(wilds) and wilds[end] == _STAR:
                end += 1
            part = "(?:.*?/)??" + texts[i + 1] + _stars(texts, wilds, i + 1, end)
            again = end < len(wilds) and wilds[end] == _DEEP
            out.append(f"(?>{part})" if again else part)
            i = end
        else:
            end = i
            while end < len(wilds) and wilds[end] == _STAR:
                end += 1
            out.append(_stars(texts, wilds, i, end))
            i = end
    return "".join(out)


def _stars(texts: list[str], wilds: list[str], begin: int, end: int) -> str:
    """Stars ``begin`` to ``end``: all but the last settle on the first place that fits."""
    out = []
    for i in range(begin, end):
        if i + 1 < end:
            out.append(f"(?>[^/]*?{texts[i + 1]})")
        else:
            out.append(f"[^/]*{texts[i + 1]}")
    return "".join(out)


def _match_by_table(tokens: Sequence[_Token], path: str) -> bool:
    """Which prefixes of ``path`` the tokens so far can match; no backtracking at all."""
    reach = [True] + [False] * len(path)
    for token in tokens:
        if token.kind:
            reach = _spread(token.kind, reach, path)
            continue
        one = re.compile(token.regex, re.DOTALL)
        fits = [reach[i] and one.match(path, i) is not None for i in range(len(path))]
        reach = [False, *fits]
    return reach[-1]


def _spread(kind: str, reach: list[bool], path: str) -> list[bool]:
    out = list(reach)
    open_ = False
    for i, ch in enumerate(path):
        open_ = open_ or reach[i]
        if kind == _STAR:
            open_ = open_ and ch != _SLASH
            out[i + 1] = reach[i + 1] or open_
        elif kind == _REST or ch == _SLASH:
            out[i + 1] = reach[i + 1] or open_
    return out


def _cleaned(patterns: Iterable[str]) -> Iterator[str]:
    for line in patterns:
        pattern = line.strip()
        if not pattern:
            continue
        sign = "!" if pattern.startswith("!") else ""
        pattern = pattern.removeprefix("!").strip()
        if not pattern:
            raise InvalidArgument('illegal exclusion pattern: "!"')
        if len(pattern) > _LONGEST:
            raise InvalidArgument(f"a pattern is longer than {_LONGEST} characters")
        # A lone "/" is left as it is: no relative path matches it.
        clean = posixpath.normpath(pattern)
        yield sign + (clean.lstrip(_SLASH) or _SLASH)


class IgnoreMatcher:
    """An ordered list of patterns; ``!`` makes an exception; the last one that matches wins.

    A pattern that matches a directory matches everything below it. The answer for a directory
    is remembered, so that a walk asks each pattern once per path. Safe from several threads: what
    they remember at the same time is the same.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Compile them; blank ones are left out.

        Raises:
            InvalidArgument: a pattern is malformed, or is a lone ``!``.
        """
        self.patterns = tuple(_cleaned(patterns))
        """As they are matched: cleaned like paths."""
        self._exceptions = [text.startswith("!") for text in self.patterns]
        self._rules = [Pattern(text.removeprefix("!"), deep=True) for text in self.patterns]
        self._literals: dict[str, int] = {}
        self._cache: dict[str, int] = {}
        self._wild_rules: list[int] = []
        self._tables: list[int] = []
        # The last rule first: the first alternative that fits is the one that wins.
        sources = []
        for i in range(len(self._rules) - 1, -1, -1):
            rule = self._rules[i]
            if rule.literal is not None:
                self._literals.setdefault(rule.literal, i)
            elif rule.regex is None:
                self._tables.append(i)
            else:
                self._wild_rules.append(i)
                sources.append(f"({rule.regex})")
        self._wild = re.compile("|".join(sources), re.DOTALL) if sources else None

    @classmethod
    def parse(cls, data: bytes, name: str = ".dockerignore") -> Self:
        """Read an ignore file: one pattern a line, ``#`` in the first column for comments.

        Raises:
            InvalidArgument: not UTF-8, or a malformed pattern.
        """
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as e:
            line = data.count(b"\n", 0, e.start) + 1
            raise InvalidArgument(f"{name}:{line}: not UTF-8") from e
        try:
            return cls(line for line in text.split("\n") if not line.startswith("#"))
        except InvalidArgument as e:
            raise InvalidArgument(f"{name}: {e}") from e

    @property
    def has_exceptions(self) -> bool:
        """Some pattern starts with ``!``: an excluded directory may hold included files."""
        return any(self._exceptions)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def excludes(self, path: str) -> bool:
        """Whether a relative path, or a directory that it is in, is left out."""
        if not self._rules:
            return False
        last = self._last_match(path)
        return last >= 0 and not self._exceptions[last]

    def may_hold_exceptions(self, directory: str) -> bool:
        """Whether something below an ignored directory could still be wanted.

        False allows a walk to skip it unread; True only says that it might.
        """
        last = self._last_match(directory)
        inside = directory + _SLASH
        for i in range(last + 1, len(self._rules)):
            if not self._exceptions[i]:
                continue
            rule = self._rules[i]
            fixed = (rule.base if rule.literal is None else rule.literal) + _SLASH
            if fixed == _SLASH or fixed.startswith(inside) or inside.startswith(fixed):
                return True
        return False

    def _last_match(self, path: str) -> int:
        """Index of the last rule that matches the path or a directory above it, or -1."""
        parts: list[str] = []
        parent = path
        found = -1
        while parent:
            known = self._cache.get(parent)
            if known is not None:
                found = known
                break
            parts.append(parent)
            parent = parent.rpartition(_SLASH)[0]
        for part in reversed(parts):
            found = max(found, self._own_match(part, found))
            if part is not path:
                self._cache[part] = found
        return found

    def _own_match(self, path: str, above: int) -> int:
        if above == len(self._rules) - 1:
            return above
        best = self._literals.get(path, -1)
        if self._wild is not None:
            match = self._wild.fullmatch(path)
            if match is not None and match.lastindex is not None:
                best = max(best, self._wild_rules[match.lastindex - 1])
        for i in self._tables:
            if i > best and self._rules[i].match(path):
                best = i
        return best
