"""Skips speak, and in strict mode they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[3]
SAMPLE: Final = """
import pytest
pytest_plugins = ["testkit.requires"]

@pytest.mark.requires("sh", "no-such-program")
def test_lacks_a_program(): ...

@pytest.mark.may_skip("the kernel decides")
def test_machine_decides(): pytest.skip("cgroup v1 here")

@pytest.mark.requires("sh")
def test_has_its_program(): ...

@pytest.mark.xfail
def test_expected_to_fail(): raise AssertionError
"""


def run_pytest(directory: Path, strict: str) -> str:
    settings = ["-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(directory)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *settings, str(directory)],
        env={**os.environ, "SLIPFORM_TEST_STRICT": strict},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_missing_program_skips_and_names_its_package(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    said = run_pytest(tmp_path, strict="")
    assert "1 passed, 2 skipped, 1 xfailed" in said
    assert "needs no-such-program (apt-get install no-such-program)" in said


def test_in_strict_mode_only_the_machine_may_cause_a_skip(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    said = run_pytest(tmp_path, strict="1")
    assert "1 passed, 1 skipped, 1 xfailed, 1 error" in said
    assert "skipped where nothing may be skipped: needs no-such-program" in said


@pytest.mark.parametrize("strict", ["", "1"])
def test_a_module_that_skips_itself(tmp_path: Path, strict: str) -> None:
    whole = "import pytest\npytest.skip('all of it', allow_module_level=True)\n"
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["testkit.requires"]\n')
    (tmp_path / "test_whole.py").write_text(whole)
    said = run_pytest(tmp_path, strict)
    assert ("skipped where nothing may be skipped: all of it" in said) == bool(strict)
