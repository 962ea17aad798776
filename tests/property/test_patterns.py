"""The pattern matcher against a naive one, written independently and too slow to ship."""

from __future__ import annotations

from functools import lru_cache

from hypothesis import given
from hypothesis import strategies as st

from slipform.core.patterns import IgnoreMatcher, Pattern

_parts = st.sampled_from(["*", "**", "?", "a", "b", "/", "[ab]", "[^a]", "\\*", "**/", "/**", "x"])
_patterns = st.lists(_parts, min_size=1, max_size=8).map("".join)
_paths = st.lists(st.text("abx*", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join)


@lru_cache(maxsize=100_000)
def naive(pattern: str, path: str, deep: bool) -> bool:
    if not pattern:
        return not path
    head = pattern[0]
    if head == "*":
        rest = pattern.lstrip("*")
        if not deep or not pattern.startswith("**"):
            return naive_star(rest, path, deep)
        rest = rest[1:] if rest.startswith("/") else rest
        if not rest:
            return True
        starts = [0] + [i + 1 for i, ch in enumerate(path) if ch == "/"]
        return any(naive(rest, path[i:], deep) for i in starts)
    if not path:
        return False
    if head == "?":
        return path[0] != "/" and naive(pattern[1:], path[1:], deep)
    if head == "[":
        inside, _, rest = pattern[1:].partition("]")
        negated = inside.startswith("^")
        fits = path[0] != "/" and (path[0] in inside.removeprefix("^")) != negated
        return fits and naive(rest, path[1:], deep)
    if head == "\\":
        return path[0] == pattern[1] and naive(pattern[2:], path[1:], deep)
    return path[0] == head and naive(pattern[1:], path[1:], deep)


def naive_star(rest: str, path: str, deep: bool) -> bool:
    for i in range(len(path) + 1):
        if naive(rest, path[i:], deep):
            return True
        if i < len(path) and path[i] == "/":
            return False
    return False


@given(_patterns, _paths)
def test_glob_agrees_with_the_naive_one(pattern: str, path: str) -> None:
    assert Pattern(pattern).match(path) == naive(pattern, path, False)


@given(_patterns, _paths)
def test_deep_pattern_agrees_with_the_naive_one(pattern: str, path: str) -> None:
    assert Pattern(pattern, deep=True).match(path) == naive(pattern, path, True)


_rules = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from(["a", "b", "*", "a/*", "**/x", "a/**", "**/a*/b", "?"])
    ),
    max_size=5,
)


@given(_rules, st.lists(_paths, max_size=6))
def test_ignore_list_agrees_with_the_naive_one(
    rules: list[tuple[bool, str]], paths: list[str]
) -> None:
    matcher = IgnoreMatcher("!" * negated + text for negated, text in rules)
    for path in paths:
        parts = path.split("/")
        above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        expected = False
        for negated, text in rules:
            if any(naive(text, prefix, True) for prefix in above):
                expected = not negated
        assert matcher.excludes(path) is expected
