"""Trees and layers for tests of the layer engine."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from slipform.layer.diff import directory_changes
from slipform.layer.tar_writer import write_layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def layer_of() -> Callable[..., bytes]:
    """The layer tar that makes a tree out of another one (or out of nothing)."""

    def make(tree: Path, lower: Path | None = None, *, clamp_mtime: int | None = None) -> bytes:
        sink = io.BytesIO()
        summary = write_layer(directory_changes(lower, tree), sink, clamp_mtime=clamp_mtime)
        assert summary.size == len(sink.getvalue())
        return sink.getvalue()

    return make


@pytest.fixture
def members() -> Callable[[bytes], list[tarfile.TarInfo]]:
    """The entries of a tar as the standard library reads them."""

    def read(layer: bytes) -> list[tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(layer), mode="r:") as tar:
            return tar.getmembers()

    return read
