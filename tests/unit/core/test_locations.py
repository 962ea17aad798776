"""Where sockets are: in the data directory, unless its path cannot be an address."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipform.core.locations import Locations


@pytest.mark.parametrize("root", ["/var/lib/slipform", "/tmp/with blank", "/x:y/z"])
def test_socket_lies_in_the_data_directory(root: str) -> None:
    assert Locations(Path(root)).socket == Path(root) / "run/slipform.sock"


@pytest.mark.parametrize("root", ["/tmp/a,b/r", "/tmp/100%", "/tmp/é", "/tmp/" + "x" * 90, "/q?#"])
def test_unfit_paths_get_a_socket_of_their_own(root: str) -> None:
    socket = Locations(Path(root)).socket
    assert socket.parent.parent == Path("/run")
    assert socket != Locations(Path(root + "2")).socket
