"""Image configurations out of hands that nobody trusts."""

from __future__ import annotations

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.oci.config import ImageConfig


@pytest.mark.parametrize(
    "data",
    [
        b'{"config":{"Healthcheck":{"Test":["CMD"],"Interval":1e999}}}',
        b'{"config":{"Healthcheck":{"Test":["CMD"],"Retries":-1e999}}}',
        b'{"config":[1]}',
        b'{"history":7}',
        b'{"rootfs":{"diff_ids":["sha256:x"]}}',
    ],
)
def test_fields_of_the_wrong_kind_are_invalid(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        ImageConfig.decode(data)
