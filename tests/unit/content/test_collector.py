from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from slipform.content.collector import Recent, unreachable

NAMES = st.sampled_from("abcdefgh")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4)), st.sets(NAMES))
def test_roots_and_what_they_reach_are_never_dead(
    references: dict[str, list[str]], roots: set[str]
) -> None:
    dead = unreachable(references, roots)
    live = references.keys() - dead
    assert not dead & roots
    for name in live:
        assert not dead.intersection(references[name])
    # and nothing is kept without a reason: every live blob is a root or named by a live one
    named = {ref for name in live for ref in references[name]}
    assert live <= roots | named


def test_a_deep_chain_needs_no_deep_stack() -> None:
    references = {str(n): [str(n + 1)] for n in range(50_000)}
    assert unreachable(references, ["0"]) == set()
    assert len(unreachable(references, ["1"])) == 1


def test_recent_ends_with_the_monotonic_clock() -> None:
    now = [0.0]
    recent = Recent(timedelta(seconds=60), lambda: now[0])
    recent.touch("t", "a")
    now[0] = 59.0
    recent.touch("t", "b")
    assert recent.of("t") == {"a", "b"}
    assert recent.of("other") == set()
    now[0] = 60.0
    assert recent.of("t") == {"b"}


def test_recent_forgets_without_being_asked() -> None:
    now = [0.0]
    recent = Recent(timedelta(seconds=1), lambda: now[0])
    for n in range(5000):
        now[0] += 0.01
        recent.touch("t", str(n))
    assert len(recent._until) < 2500


def test_no_grace_keeps_nothing() -> None:
    recent = Recent(timedelta(0), lambda: 0.0)
    recent.touch("t", "a")
    assert recent.of("t") == set()
