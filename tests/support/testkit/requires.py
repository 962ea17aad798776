"""What a test needs from its machine, said aloud; in CI nothing may be missing."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

import pytest
from _pytest.reports import CollectErrorRepr

if TYPE_CHECKING:
    from collections.abc import Generator

STRICT: Final = os.environ.get("SLIPFORM_TEST_STRICT") == "1"
# Debian keeps daemons and network tools where an ordinary user's PATH does not look.
SEARCH_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
PACKAGES: Final = {
    "busybox": "busybox-static",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "ip": "iproute2",
    "nft": "nftables",
    "xz": "xz-utils",
}


def find_tool(name: str) -> str | None:
    """Returns the path of a program, or None when this machine has none."""
    return shutil.which(name, path=SEARCH_PATH)


def need(*tools: str) -> None:
    """Skips the running test (in strict mode fails it) unless every tool is installed."""
    missing = [tool for tool in tools if find_tool(tool) is None]
    if missing:
        packages = sorted({PACKAGES.get(tool, tool) for tool in missing})
        pytest.skip(f"needs {', '.join(missing)} (apt-get install {' '.join(packages)})")


def need_root() -> None:
    """Skips the running test (in strict mode fails it) unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: run it with sudo, or `make test` as root")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Turns the markers `root` and `requires` into skips with a reason."""
    if item.get_closest_marker("root"):
        need_root()
    for marker in item.iter_markers("requires"):
        need(*marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In strict mode a skip is a failure, unless the test says that the machine decides."""
    report = yield
    expected = hasattr(report, "wasxfail") or item.get_closest_marker("may_skip") is not None
    if STRICT and report.skipped and not expected:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {why(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In strict mode a module that skips itself whole is a failure as well."""
    report = yield
    if STRICT and report.skipped:
        report.outcome = "failed"
        report.longrepr = CollectErrorRepr(f"skipped where nothing may be skipped: {why(report)}")
    return report


def why(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Returns the words of a skip from pytest's (path, line, reason)."""
    skip = report.longrepr
    words = str(skip[2]) if isinstance(skip, tuple) else str(skip)
    return words.removeprefix("Skipped: ")
