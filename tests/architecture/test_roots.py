"""Four source roots carry one namespace package; these rules keep that true (docs/adr/0001)."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]
ROOTS: Final = ["protos", "services", "drivers", "clients/python"]
SETTINGS: Final[dict[str, Any]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
GENERATED: Final = re.compile(r"_pb2(_grpc)?\.pyi?$")


def modules() -> list[Path]:
    """Returns every module of ours that ships, and our tools; relative to the repository."""
    places = [*ROOTS, "benchmarks", "scripts", "tests/support"]
    found = (path for place in places for path in (REPOSITORY / place).rglob("*.py"))
    return sorted(p.relative_to(REPOSITORY) for p in found if not GENERATED.search(p.name))


def portions() -> list[Path]:
    """Returns each package right below a root's `slipform`, such as services/slipform/core."""
    found = (path for root in ROOTS for path in (REPOSITORY / root / "slipform").iterdir())
    return sorted(p for p in found if p.is_dir() and any(p.rglob("*.py")))


@pytest.mark.parametrize("root", ROOTS)
def test_no_root_hides_the_others(root: str) -> None:
    assert not (REPOSITORY / root / "slipform/__init__.py").exists()
    assert not (REPOSITORY / root / "__init__.py").exists()


def test_every_list_of_roots_agrees() -> None:
    tool = SETTINGS["tool"]
    ours = "tests/support"  # plugins of our own tests, which nothing ships
    assert tool["hatch"]["build"]["dev-mode-dirs"] == ROOTS
    packages = tool["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == [f"{root}/slipform" for root in ROOTS]
    assert tool["pytest"]["ini_options"]["pythonpath"] == [*ROOTS, ours]
    assert tool["mypy"]["mypy_path"] == [*ROOTS, ours]
    assert tool["ruff"]["src"] == [*ROOTS, ours]


def test_every_portion_is_typed() -> None:
    assert [p for p in portions() if not (p / "py.typed").exists()] == []


def test_no_portion_lies_in_two_roots() -> None:
    names = [p.name for p in portions()]
    assert sorted(names) == sorted(set(names))


def test_no_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [m for m in modules() if drawers & {*m.parts, m.stem}] == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        module
        for module in modules()
        if not ast.get_docstring(ast.parse((REPOSITORY / module).read_bytes()))
    ]
    assert silent == []


def test_core_needs_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, "slipform"}
    foreign = {
        f"{module}: {name}"
        for module in modules()
        if module.is_relative_to("services/slipform/core")
        for name in imports(REPOSITORY / module)
        if name.partition(".")[0] not in allowed
    }
    assert foreign == set()


def imports(path: Path) -> set[str]:
    """Returns the absolute names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names
