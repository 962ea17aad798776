from __future__ import annotations

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.oci import layout
from slipform.core.oci.digest import Digest

DIGEST = Digest.of(b"x")


def test_blobs_lie_at_their_digest() -> None:
    path = layout.blob_path(DIGEST)
    assert path == f"blobs/sha256/{DIGEST.hex}"
    assert layout.digest_of_path(path) == DIGEST


@pytest.mark.parametrize(
    "path", ["", "blobs", "blobs/sha256", "blobs/sha256/x", "blobs/md5/x", "x/sha256/" + "0" * 64]
)
def test_other_paths_promise_nothing(path: str) -> None:
    assert layout.digest_of_path(path) is None


def test_the_marker() -> None:
    assert layout.encode_marker() == b'{"imageLayoutVersion":"1.0.0"}'
    layout.check_marker(layout.encode_marker())
    layout.check_marker(b'{"imageLayoutVersion":"1.1.0","more":1}')
    for data in (b"", b"[]", b"{}", b'{"imageLayoutVersion":1}', b'{"imageLayoutVersion":"2.0"}'):
        with pytest.raises(InvalidArgument, match="oci-layout"):
            layout.check_marker(data)
