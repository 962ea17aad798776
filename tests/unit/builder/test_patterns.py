from __future__ import annotations

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.patterns import IgnoreMatcher, has_wildcards, match_name


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "a.b", True),
        ("*.go", "x.go", True),
        ("*.go", "x.gox", False),
        ("?", "é", True),
        ("?", "", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "zx", True),
        (r"\*", "*", True),
        (r"\*", "a", False),
        ("[[]x]", "[x]", True),
        (r"[\]a]", "]", True),
        ("a.b+(c)$", "a.b+(c)$", True),
        ("**", "ab", True),
    ],
)
def test_match_name(pattern: str, name: str, matches: bool) -> None:
    assert match_name(pattern, name) is matches


@pytest.mark.parametrize("pattern", ["[", "[a", "a\\", "[]", "[-]", "[a-]", "[^]"])
def test_malformed_pattern(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error"):
        match_name(pattern, "x")


def test_has_wildcards() -> None:
    assert not has_wildcards("a/b.c")
    assert all(map(has_wildcards, ("a*", "?", "[a]", "\\a")))


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        (["a"], "a", True),
        (["a"], "a/b/c", True),
        (["a"], "b/a", False),
        (["/a"], "a", True),
        (["a/"], "a/b", True),
        (["./x/../a"], "a", True),
        (["*/a"], "b/a", True),
        (["*/a"], "c/b/a", False),
        (["**/a"], "a", True),
        (["**/a"], "c/b/a", True),
        (["**/a"], "c/b/ab", False),
        (["abc/**"], "abc", False),
        (["abc/**"], "abc/d/e", True),
        (["**"], "x/y", True),
        (["a/**/b"], "a/b", True),
        (["a/**/b"], "a/x/y/b", True),
        (["*.md", "!README.md"], "README.md", False),
        (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["a", "!a/b"], "a/b/c", False),
        (["!a", "a"], "a", True),
        (["a.b"], "axb", False),
        (["a+(b)"], "a+(b)", True),
        ([" a "], "a", True),
    ],
)
def test_ignore(patterns: list[str], path: str, excluded: bool) -> None:
    assert IgnoreMatcher(patterns).excludes(path) is excluded


def test_parse() -> None:
    data = b"\xef\xbb\xbf# comment\n\n  a  \r\n #b\n!c\n"
    assert IgnoreMatcher.parse(data).patterns == ("a", "#b", "!c")


@pytest.mark.parametrize("data", [b"!\n", b"[\n", b"\xff\n"])
def test_bad_ignore_file_is_named(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"\.dockerignore"):
        IgnoreMatcher.parse(data)
