"""The parts of the parser that have rules of their own."""

from __future__ import annotations

import pytest

from slipform.core.errors import InvalidArgument
from slipform.frontend.dockerfile.directives import Directives, detect_syntax, read_directives
from slipform.frontend.dockerfile.durations import format_duration, parse_duration, parse_size
from slipform.frontend.dockerfile.expand import Budget, Expander
from slipform.frontend.dockerfile.glob import replace, trim_prefix, trim_suffix
from slipform.frontend.dockerfile.heredoc import find_markers
from slipform.frontend.dockerfile.lexer import Lexer
from slipform.frontend.dockerfile.text import TextError, decode
from slipform.frontend.dockerfile.words import parse_json, split_quoted, take_flags
from slipform.frontend.planner.history import quote

UNSET: dict[str, str] = {}


def directives(text: str) -> Directives:
    return read_directives(decode(text.encode(), "f"))


def test_directives_end_at_the_first_thing_that_is_none() -> None:
    assert directives("# escape=`\nFROM x").escape == "`"
    assert directives("# a=b\n# escape=`\n").escape == "\\"
    assert directives("\n# escape=`\n").escape == "\\"
    assert directives("#escape = ` \n").escape == "`"


def test_checks() -> None:
    checks = directives("# check=skip=A, b;error=true").checks
    assert checks.error
    assert not checks.allows("a")
    assert not checks.allows("B")
    assert checks.allows("C")
    assert not directives("# check=skip=all").checks.allows("X")


@pytest.mark.parametrize(
    ("text", "reference", "options"),
    [
        ("# syntax=docker/dockerfile:1 k=v", "docker/dockerfile:1", "k=v"),
        ("#!/usr/bin/env x\n# syntax=a", "a", ""),
        ("// syntax=a\n", "a", ""),
        ('{"syntax": "a"}', "a", ""),
        ('{"syntax": 1}', "", ""),
        ("# escape=`\n# syntax=a", "a", ""),
        ("# comment\n# syntax=a", "", ""),
        ("FROM x\n# syntax=a", "", ""),
        ("", "", ""),
    ],
)
def test_syntax_is_detected_in_its_three_spellings(text: str, reference: str, options: str) -> None:
    assert detect_syntax(tuple(text.split("\n"))) == (reference, options)


def test_every_character_knows_its_place() -> None:
    text = "FROM a\n  RUN x \\\n# c\n\n   yy \\  \n zz\n"
    run = Lexer(decode(text.encode(), "f"), "\\").statements()[1]
    assert run.text == "RUN x    yy  zz"
    assert (run.range.start_line, run.range.end_line, run.range.start_column) == (2, 6, 3)
    lines = text.split("\n")
    for offset, ch in enumerate(run.text):
        place = run.place(offset)
        assert lines[place.start_line - 1][place.start_column - 1] == ch
    assert run.empty_continuation == 4


def test_a_line_of_only_a_continuation() -> None:
    found = Lexer(decode(b"\\\n  FROM a\n\\\n", "f"), "\\").statements()
    assert [(s.text, s.place().start_line, s.place().start_column) for s in found] == [
        ("FROM a", 2, 3)
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("<<EOF", ["EOF"]),
        ("cat <<A <<-'B' 3<<\"C D\"", ["A", "B", "C D"]),
        ("cat << EOF", ["EOF"]),
        ("cat <<a.b$c", ["a.b$c"]),
        ('cat <<E"O"F', ["EOF"]),
        ("(cat <<A)", ["A"]),
        ("cat <<A>/x;cat <<B", ["A", "B"]),
        ("a<<B", []),
        ("<<<x", []),
        ("cat <<<x <<A", ["A"]),
        ("<<", []),
        ("'<<A' \"<<B\" \\<<C", []),
        ("echo $((1 << 2)) <<A", ["A"]),
        ("it's <<A", []),
    ],
)
def test_heredoc_markers(text: str, names: list[str]) -> None:
    assert [marker.name for marker in find_markers(text)] == names


def test_heredoc_marker_flags() -> None:
    plain, quoted = find_markers("<<A <<-'B'")
    assert (plain.expand, plain.chomp) == (True, False)
    assert (quoted.expand, quoted.chomp) == (False, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("a='b c' d=\"e f\"", ["a='b c'", 'd="e f"']),
        ("a\\ b c", ["a\\ b", "c"]),
        ('a="b\\" c" d', ['a="b\\" c"', "d"]),
        ("a='b\\' c", ["a='b\\'", "c"]),
        ('""', ['""']),
        ("a\\", ["a"]),
        ('a="b c', ['a="b c']),
    ],
)
def test_quoted_words(text: str, words: list[str]) -> None:
    assert split_quoted(text, "\\") == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["a", "b"]', ("a", "b")),
        ("[]", ()),
        ('["a"] x', None),
        ('["a",]', None),
        ("[1]", None),
        ('["\\ud800"]', ("\ufffd",)),
        ('["\\ud83d\\ude00"]', ("\U0001f600",)),
        ("[" * 100_000 + "]" * 100_000, None),
        ('["a\tb"]', None),
    ],
)
def test_json(text: str, words: tuple[str, ...] | None) -> None:
    assert parse_json(text) == words


def test_json_refuses_nul() -> None:
    with pytest.raises(TextError, match="NUL"):
        parse_json('["\\u0000"]')


def test_flags() -> None:
    flags, at = take_flags("--a=1 --b='x y' --c\\ d rest --no", 0)
    assert [(f.text, f.offset) for f in flags] == [("--a=1", 0), ("--b=x y", 6), ("--c d", 16)]
    assert at == 23
    assert take_flags("-- --x", 0) == ((), 3)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1ns", 1),
        ("1.5s", 1_500_000_000),
        ("1h2m3s4ms5us", 3_723_004_005_000),
        (".5m", 30_000_000_000),
        ("-1s", -1_000_000_000),
        ("1", None),
        ("", None),
        ("s", None),
        ("1d", None),
        ("1s ", None),
        ("9999999h", None),
        ("1µs", 1000),
    ],
)
def test_durations(text: str, ns: int | None) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_500_000_000, "1.5s"),
        (300_000_000_000, "5m0s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_print_as_in_go(ns: int, text: str) -> None:
    assert format_duration(ns) == text
    assert parse_duration(text) == ns


def test_sizes() -> None:
    assert parse_size("64m") == 64 << 20
    assert parse_size("1.5GiB") == 3 << 29
    assert parse_size("10") == 10
    assert parse_size("x") is None
    assert parse_size("99999999999999999999p") is None


def test_trimming_shortest_and_longest() -> None:
    assert trim_prefix("*/", "a/b/c", longest=False) == "b/c"
    assert trim_prefix("*/", "a/b/c", longest=True) == "c"
    assert trim_suffix(".*", "a.b.c", longest=False) == "a.b"
    assert trim_suffix(".*", "a.b.c", longest=True) == "a"
    assert trim_prefix("x", "abc", longest=True) == "abc"
    assert trim_prefix("\\*", "*a", longest=False) == "a"


def test_replacing() -> None:
    assert replace("b", "abcb", "-", everywhere=False) == "a-cb"
    assert replace("b", "abcb", "-", everywhere=True) == "a-c-"
    assert replace("?b", "abxb", "-", everywhere=True) == "--"
    assert replace("a*b", "xaybzbq", "-", everywhere=True) == "x-q"
    assert replace("", "ab", "-", everywhere=True) == "ab"
    assert replace("*", "", "-", everywhere=True) == "-"


@pytest.mark.timeout(20)
def test_patterns_cannot_be_made_slow() -> None:
    value = "a" * 20_000
    assert trim_prefix("*a" * 30 + "b", value, longest=True) == value
    assert replace("*a" * 30 + "b", value, "", everywhere=True) == value


def test_expansion_is_bounded() -> None:
    expander = Expander({"v": "x" * 1000}.get, budget=Budget(10_000))
    for _ in range(10):
        expander.word("$v")
    with pytest.raises(TextError, match="in all"):
        expander.word("$v")
    deep = "${a:-" * 100 + "x" + "}" * 100
    with pytest.raises(TextError, match="nested"):
        Expander(UNSET.get).word(deep)


def test_missing_names_are_remembered_for_plain_forms_only() -> None:
    expander = Expander(UNSET.get)
    assert expander.word("$a ${b} ${c:-x} ${d+y}") == "  x "
    assert expander.missing == {"a", "b"}


def test_words_split_at_blanks_of_values() -> None:
    expander = Expander({"v": " a  b "}.get)
    assert expander.words("x$v'$v y'\"$v\"z") == ["x", "a", "b", "$v y a  b z"]
    assert expander.words("$none") == []


def test_go_quoting() -> None:
    assert quote('a"\\\n\x01é\u2028') == '"a\\"\\\\\\n\\x01é\\u2028"'


def test_a_dockerfile_has_a_largest_size() -> None:
    with pytest.raises(InvalidArgument, match="want at most"):
        decode(b"#" * (9 << 20), "f")
