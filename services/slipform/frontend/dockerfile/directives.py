"""Parser directives: ``# escape=``, ``# syntax=``, ``# check=`` (Dockerfile reference)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from slipform.frontend.dockerfile.text import TextError, check_utf8, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.frontend.dockerfile.text import Text

_DIRECTIVE: Final = re.compile(r"\s*#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_SLASHES: Final = re.compile(r"//\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_KNOWN: Final = ("escape", "syntax", "check")
_ESCAPES: Final = ("\\", "`")


@dataclass(frozen=True, slots=True)
class Checks:
    """What ``# check=`` asks of the linter."""

    skip: frozenset[str] = frozenset()
    """Names of rules, lower case."""
    skip_all: bool = False
    error: bool = False

    def allows(self, rule: str) -> bool:
        """Whether findings of this rule are to be reported."""
        return not self.skip_all and rule.lower() not in self.skip


@dataclass(frozen=True, slots=True)
class Directives:
    """What stands before the first instruction, comment or blank line."""

    escape: str = "\\"
    syntax: str = ""
    """Reference of the frontend image, without the options that may follow it."""
    syntax_options: str = ""
    checks: Checks = Checks()


def read_directives(text: Text) -> Directives:
    """Read the directives at the top.

    Raises:
        InvalidArgument: one is repeated, or has a value that it cannot have.
    """
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.lines, 1):
        match = _DIRECTIVE.match(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN:
            break
        try:
            check_utf8(line)
        except TextError as e:
            at = text.range(number, column=e.offset + 1)
            raise text.fault(str(e), at, e.expected) from e
        if name in found:
            at = text.range(number, column=match.start(1) + 1)
            raise text.fault(f"only one {name} parser directive can be used", at)
        found[name] = (match[2], number)
    return _interpret(text, found)


def _interpret(text: Text, found: dict[str, tuple[str, int]]) -> Directives:
    result = Directives()
    if "escape" in found:
        value, number = found["escape"]
        if value not in _ESCAPES:
            column = text.line(number).find("=") + 2
            message = f'invalid escape directive "{value}", must be ` or \\'
            raise text.fault(message, text.range(number, column=column), "` or \\")
        result = replace(result, escape=value)
    if "check" in found:
        value, number = found["check"]
        checks = parse_checks(value)
        if checks is None:
            raise text.fault(
                f'invalid check directive "{value}"',
                text.range(number),
                "skip=RULE,… or error=true",
            )
        result = replace(result, checks=checks)
    reference, options = detect_syntax(text.lines)
    return replace(result, syntax=printable(reference), syntax_options=printable(options))


def parse_checks(value: str) -> Checks | None:
    """Read ``skip=A,B;error=true``; None when it is malformed."""
    checks = Checks()
    for part in value.split(";"):
        key, equals, words = part.strip().partition("=")
        key = key.strip().lower()
        if key == "skip" and equals:
            names = frozenset(word.strip().lower() for word in words.split(",") if word.strip())
            checks = replace(checks, skip=names - {"all"}, skip_all="all" in names)
        elif key == "error" and words.strip().lower() in ("true", "false"):
            checks = replace(checks, error=words.strip().lower() == "true")
        elif key == "experimental" and equals:
            continue
        else:
            return None
    return checks


def comment_checks(comments: Iterable[str]) -> Checks | None:
    """The ``check=`` among the comments directly above an instruction, if any."""
    for comment in comments:
        key, equals, value = comment.partition("=")
        if equals and key.strip().lower() == "check":
            return parse_checks(value.strip())
    return None


def detect_syntax(lines: tuple[str, ...]) -> tuple[str, str]:
    """Reference and options of the frontend image that a file names, else two empty strings.

    Looked for in three spellings: ``# syntax=``, ``// syntax=``, and a JSON object's ``syntax``;
    a ``#!`` line may come first.
    """
    lines = lines[1:] if lines[0].startswith("#!") else lines
    for pattern in (_DIRECTIVE, _SLASHES):
        for line in lines:
            match = pattern.match(line)
            if match is None:
                break
            if match[1].lower() == "syntax":
                reference, _, options = match[2].partition(" ")
                return reference, options.strip()
    if lines and lines[0].lstrip().startswith("{"):
        return _json_syntax("\n".join(lines)), ""
    return "", ""


def _json_syntax(content: str) -> str:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    syntax = value.get("syntax") if isinstance(value, dict) else None
    return syntax if isinstance(syntax, str) else ""
