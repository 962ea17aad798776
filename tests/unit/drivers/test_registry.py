from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import NotFound, Unsupported
from slipform.drivers import registry
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.content.memory import MemoryBlobs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that offers drivers, one of them under a built-in's name."""
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[slipform.drivers.content]\n"
        "s3 = foreign_driver:S3\n"
        "filesystem = foreign_driver:S3\n"
        "broken = no_such_module:X\n"
        "incomplete = foreign_driver:Missing\n"
    )
    (tmp_path / "foreign_driver.py").write_text("class S3: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "foreign_driver", raising=False)


def test_builtin_drivers_are_imported_when_asked_for() -> None:
    assert registry.load("content", "filesystem") is FilesystemBlobs
    assert registry.load("content", "memory") is MemoryBlobs


@pytest.mark.parametrize("kind", registry.BUILTIN)
def test_every_builtin_can_be_loaded(kind: str) -> None:
    for name in registry.BUILTIN[kind]:
        assert callable(registry.load(kind, name))


def test_an_unknown_driver_lists_what_exists() -> None:
    with pytest.raises(NotFound, match=r'"s3", there are: .*filesystem.*memory'):
        registry.load("content", "s3")


def test_an_unknown_kind_lists_what_exists() -> None:
    with pytest.raises(NotFound, match="content, executor, snapshot"):
        registry.load("contents", "filesystem")


@pytest.mark.usefixtures("foreign")
def test_third_parties_add_drivers() -> None:
    assert registry.load("content", "s3").__name__ == "S3"
    assert registry.names("content") == ["broken", "filesystem", "incomplete", "memory", "s3"]


@pytest.mark.usefixtures("foreign")
def test_a_builtin_name_cannot_be_taken_over() -> None:
    assert registry.load("content", "filesystem") is FilesystemBlobs


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("name", ["broken", "incomplete"])
def test_a_driver_that_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        registry.load("content", name)
