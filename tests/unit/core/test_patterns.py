"""Patterns: Go's filepath.Match and docker's ignore lists."""

from __future__ import annotations

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.patterns import IgnoreMatcher, Pattern, match_name


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ö]*", "ä", True),
        ("*[a-ö]", "A", False),
        ("a?b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[x\\-]", "-", True),
        ("[\\-x]", "z", False),
        ("*x", "xxx", True),
        ("a.b", "axb", False),
        ("a(b)+$^|{}", "a(b)+$^|{}", True),
        ("**", "a/b", False),
    ],
)
def test_glob_is_gos_filepath_match(pattern: str, path: str, matches: bool) -> None:
    assert Pattern(pattern).match(path) is matches


@pytest.mark.parametrize(
    "pattern",
    ["[", "[^", "[a", "a[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "\\", "a\\", "[z-a]"],
)
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        Pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "file", True),
        ("**", "file/deep", True),
        ("**/", "file", True),
        ("**/file", "file", True),
        ("**/file", "dir/dir/file", True),
        ("**/file", "dir/xfile", False),
        ("**/**", "dir/file", True),
        ("dir/**", "dir", False),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/*", "dir/dir2/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir2/file", True),
        ("**file", "file", True),
        ("**file", "dir/file", True),
        ("**file", "dirfile", False),
        ("**.txt", "a.txt", False),
        ("**/*.txt", "a.txt", True),
        ("a**/*.txt", "a/dir/file.txt", True),
        ("a/*/*.txt", "a/file.txt", False),
        ("a[b-d]e", "ace", True),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcdef", False),
        ("**/foo/bar", "foo/bar", True),
        ("a(b)c/def", "a(b)c/def", True),
        ("a**/b**/c", "a/b/bc", True),
        ("a**/b**/c", "a/b/bd", False),
    ],
)
def test_deep_patterns(pattern: str, path: str, matches: bool) -> None:
    assert Pattern(pattern, deep=True).match(path) is matches


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ([], "a", False),
        (["docs"], "docs/README.md", True),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["docs", "!docs/README.md"], "docs/other.md", True),
        (["docs/", "!docs/README.md"], "docs/README.md", False),
        (["docs/*", "!docs/README.md"], "docs/README.md", False),
        (["!docs/README.md", "docs"], "docs/README.md", True),
        (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["*.md", "!README*.md", "README-secret.md"], "README-1.md", False),
        (["*", "!a/b"], "a/b/c", False),
        (["*", "!a/b"], "a/x", True),
        (["/a"], "a", True),
        (["a/../b"], "b", True),
        (["./a"], "a", True),
        (["**/*.pyc"], "x/y/z.pyc", True),
        (["a**/b**/c"], "a/b/bc/below", True),
        (["node_modules"], "x/node_modules/y", False),
        (["**/node_modules"], "x/node_modules/y", True),
        (["a", "!a/b", "a/b/c"], "a/b/c", True),
        (["", "  ", "x"], "x", True),
    ],
)
def test_ignore_lists(patterns: list[str], path: str, ignored: bool) -> None:
    matcher = IgnoreMatcher(patterns)
    assert matcher.excludes(path) is ignored
    # The answer does not depend on what was asked before.
    matcher.excludes(path.rpartition("/")[0])
    assert matcher.excludes(path) is ignored


@pytest.mark.parametrize("patterns", [["!"], ["a", "! "], ["a[", "b"]])
def test_malformed_ignore_lists_are_refused(patterns: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        IgnoreMatcher(patterns)


@pytest.mark.parametrize(
    ("patterns", "directory", "may"),
    [
        (["a"], "a", False),
        (["a", "!a/b"], "a", True),
        (["a", "!b"], "a", False),
        (["!a/b", "a"], "a", False),
        (["a", "!**/x"], "a", True),
        (["a", "!a/b/*.c"], "a/b/c", True),
        (["a", "!a/b/*.c"], "a/x", False),
    ],
)
def test_walks_may_skip_what_holds_no_exception(
    patterns: list[str], directory: str, may: bool
) -> None:
    assert IgnoreMatcher(patterns).may_hold_exceptions(directory) is may


def test_ignore_file() -> None:
    data = b"\xef\xbb\xbf# comment\r\n\r\n  a/  \r\n! b/../c\n#x\n /d\n /\n"
    matcher = IgnoreMatcher.parse(data)
    assert matcher.patterns == ("a", "!c", "d", "/")
    assert matcher.has_exceptions
    assert not matcher.excludes("x")
    with pytest.raises(InvalidArgument, match="x:2: not UTF-8"):
        IgnoreMatcher.parse(b"a\n\xff", "x")
    with pytest.raises(InvalidArgument, match="x: illegal exclusion"):
        IgnoreMatcher.parse(b"a\n!", "x")


def test_match_name() -> None:
    assert match_name("*.c", "a.c")
    assert not match_name("*.c", "a.h")


@pytest.mark.parametrize(
    "pattern", ["*a" * 40 + "b", "**/a/" * 40 + "b", "a**/" * 20 + "b", "*/" * 60 + "b"]
)
@pytest.mark.timeout(20)
def test_no_pattern_is_slow(pattern: str) -> None:
    for path in ("a" * 255, "a/" * 500 + "c", "/".join(["a" * 200] * 15)):
        assert not Pattern(pattern, deep=True).match(path)


def test_base_is_the_directory_above_the_first_wildcard() -> None:
    assert Pattern("a/b\\*/c*/d").base == "a/b*"
    assert Pattern("*").base == ""
