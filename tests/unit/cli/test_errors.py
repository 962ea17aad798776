"""What a user sees of failures: a sentence and a status, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def slipform(*words: str | bytes, **streams: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "slipform.cli", *words]
    return subprocess.run(command, check=False, **{"stderr": subprocess.PIPE, **streams})  # type: ignore[call-overload,no-any-return]


def test_a_closed_stdout_is_not_given_to_a_socket() -> None:
    done = slipform("--help", stdout=None, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-e", "=x"], b'invalid environment variable: "=x": want NAME=value\n'),
        (["-e", ""], b'invalid environment variable: "": want NAME=value\n'),
        (["-m", "1"], b'invalid argument "1" for "-m, --memory": want at least 6m\n'),
        (["--cpus=-1"], b'invalid argument "-1" for "--cpus": want 0.01 or more\n'),
        (["--cpus=nan"], b'invalid argument "nan" for "--cpus": want 0.01 or more\n'),
        (["--cpus=inf"], b'invalid argument "inf" for "--cpus": want 0.01 or more\n'),
    ],
)
def test_run_refuses_what_cannot_be_meant(words: list[str], sentence: bytes) -> None:
    done = slipform("run", *words, "image", "true")
    assert (done.returncode, done.stderr) == (125, sentence)


@pytest.mark.parametrize("head", [b"\x1f\x8b\x08", bytes(257) + b"ustar\x0000"])
def test_build_says_that_an_archive_is_no_dockerfile(head: bytes) -> None:
    done = slipform("build", "-", input=head + bytes(600))
    assert done.returncode == 1
    assert b"stdin is an archive, want a Dockerfile" in done.stderr
