from __future__ import annotations

from slipform.content.text import matches, merged


def test_an_empty_value_removes() -> None:
    assert merged({"a": "1", "b": "2"}, {"a": "", "b": "3", "c": ""}) == {"b": "3"}


def test_an_empty_value_matches_any() -> None:
    labels = {"a": "1", "b": "2"}
    assert matches(labels, {})
    assert matches(labels, {"a": "", "b": "2"})
    assert not matches(labels, {"a": "2"})
    assert not matches(labels, {"c": ""})
