"""Expansion agrees with ``sh`` where the two share a form."""

from __future__ import annotations

import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from slipform.frontend.dockerfile.expand import Expander

_values = st.text("abX./*? -", max_size=8)
_words = st.text("abX.-", max_size=4)
_patterns = st.lists(st.sampled_from(["a", "b", "X", ".", "*", "?", "\\*", "$p"]), max_size=4).map(
    "".join
)
_names = st.sampled_from(["v", "e", "p", "unset"])
_forms = st.one_of(
    _names.map("${}".format),
    _names.map("${{{}}}".format),
    st.tuples(_names, st.sampled_from([":-", "-", ":+", "+"]), _words).map(
        lambda parts: "${" + "".join(parts) + "}"
    ),
    st.tuples(_names, st.sampled_from(["#", "##", "%", "%%"]), _patterns).map(
        lambda parts: "${" + "".join(parts) + "}"
    ),
    st.tuples(_names, _names).map(lambda names: f"${{{names[0]}:-${{{names[1]}-x}}}}"),
    st.sampled_from(["a", " ", ".", "\\$v", "\\\\", '\\"', "\\a", "'"]),
)


@settings(max_examples=150)
@given(st.lists(_forms, min_size=1, max_size=6), _values, st.text("aX", max_size=2))
def test_in_double_quotes(forms: list[str], value: str, pattern: str) -> None:
    text = '"' + "".join(forms) + '"'
    env = {"v": value, "e": "", "p": pattern}
    said = subprocess.run(
        ["/bin/sh", "-c", f"printf %s {text}"], env=env, capture_output=True, check=True
    )
    assert Expander(env.get).word(text) == said.stdout.decode()
