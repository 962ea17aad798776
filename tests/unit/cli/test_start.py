"""The start is a hot path: what a verb does not need is not imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def _slipform(*arguments: str, importtime: bool = False) -> subprocess.CompletedProcess[str]:
    flags = ["-X", "importtime"] if importtime else []
    return subprocess.run(
        [sys.executable, *flags, "-m", "slipform.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        # None of these may need a daemon, so none may start one.
        env={**os.environ, "SLIPFORM_HOST": "unix:/nonexistent/slipform.sock"},
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["build", "--help"]])
def test_help_and_version_import_no_grpc(arguments: list[str]) -> None:
    done = _slipform(*arguments, importtime=True)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"grpc", "google.protobuf", "rich", "asyncio"} & imported


def test_unknown_verb_is_guessed() -> None:
    done = _slipform("buidl")
    assert done.returncode == 1
    assert "'buidl' is not a slipform command. Did you mean 'build'?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--nope"], 125),
        (["images", "--nope"], 125),
        (["image", "nope"], 1),
        (["build"], 125),
        (["run"], 125),
        (["run", "-v", "data:/x", "image"], 125),
        (["build", "no/such/folder"], 1),
    ],
)
def test_usage_errors_end_as_dockers_do(arguments: list[str], code: int) -> None:
    done = _slipform(*arguments)
    assert done.returncode == code
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_help_names_every_verb() -> None:
    from slipform.cli.__main__ import VERBS

    text = _slipform("--help").stdout
    assert all(f"  {verb} " in text for verb in VERBS)
