"""What travels beside a request: tenant and lease."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import InvalidArgument
from slipform.rpc.limits import TENANT_KEY

if TYPE_CHECKING:
    import grpc

_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def tenant_of(context: grpc.ServicerContext) -> str:
    """The tenant a request names, or the default one.

    Raises:
        InvalidArgument: the name has other characters than ``a-z 0-9 . _ -``, or is too long.
    """
    for key, value in context.invocation_metadata() or ():
        if key == TENANT_KEY:
            if not isinstance(value, str) or not _TENANT.fullmatch(value):
                raise InvalidArgument(f"tenant {value!r}: want up to 63 of a-z 0-9 . _ -")
            return value
    return DEFAULT_TENANT


def tenant_metadata(tenant: str) -> tuple[tuple[str, str], ...]:
    """Metadata that names ``tenant``; nothing for the default one."""
    return () if tenant == DEFAULT_TENANT else ((TENANT_KEY, tenant),)
