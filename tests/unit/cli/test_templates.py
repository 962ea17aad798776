"""``--format``: fields, json, and clear refusals."""

from __future__ import annotations

import pytest

from slipform.cli.errors import CommandError
from slipform.cli.templates import render

VALUE = {"Id": "sha256:1", "Config": {"Env": ["A=1"], "User": ""}, "Tty": True}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Id}}", "sha256:1"),
        ("{{ .Id }}:{{.Config.User}}", "sha256:1:"),
        ("{{json .Config.Env}}", '["A=1"]'),
        ("{{.Tty}}", "true"),
        (r"{{.Id}}\t!", "sha256:1\t!"),
        ("json", '{"Id": "sha256:1", "Config": {"Env": ["A=1"], "User": ""}, "Tty": true}'),
    ],
)
def test_render(template: str, text: str) -> None:
    assert render(template, VALUE) == text


@pytest.mark.parametrize(
    "template", ["{{.Nope}}", "{{.Id.Deeper}}", "{{range .X}}", "{{upper .Id}}"]
)
def test_refusals(template: str) -> None:
    with pytest.raises(CommandError):
        render(template, VALUE)
