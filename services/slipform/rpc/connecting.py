"""What grpc says when no connection comes about, in words that tell what to do about it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from slipform.core.errors import DomainError, FailedPrecondition, Unavailable

# The words of grpc's core: subchannel state, then "ipv4:host:port" or "unix:path", then the cause.
_FAILED: Final = re.compile(
    r"failed to connect to all addresses; last error: [A-Z_]+: "
    r"(?:ipv[46]:(?P<tcp>\S+)|(?P<unix>unix:.+?)): (?P<cause>.*)",
    re.DOTALL,
)
_CALLS: Final = re.compile(
    r"Failed to connect to remote host: |connect failed: addr: .* error: ", re.DOTALL
)
_UNRESOLVED: Final = re.compile(
    r"(?:errors resolving|DNS resolution failed for) (?P<name>\S+): .*?(?P<cause>[^:\]]+)\]?",
    re.DOTALL,
)
_CLOSED: Final = ("Socket closed", "Connection reset", "Broken pipe")


def explained(message: str) -> DomainError | None:
    """The error that a failed connection stands for; None when the message is about other things.

    A server ends the connection of a client whose certificate it does not take without a word
    that grpc would pass on, so that case can only be told by how it looks.
    """
    if match := _UNRESOLVED.fullmatch(message):
        return Unavailable(f"cannot resolve {match['name']}: {match['cause'].strip()}")
    match = _FAILED.fullmatch(message)
    if match is None:
        return None
    cause = match["cause"]
    if match["tcp"] is None:
        return Unavailable(f"no server answers on {match['unix']}: {_CALLS.sub('', cause)}")
    where = unquote(match["tcp"])
    if any(words in cause for words in _CLOSED):
        return Unavailable(
            f"the server at {where} closed the connection: it takes only clients whose certificate"
            " its CA has signed"
        )
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        return FailedPrecondition(
            f"the server at {where} is not who it should be: its certificate is not valid by our CA"
        )
    if "Hostname Verification" in cause:
        return FailedPrecondition(
            f"the server at {where} has a certificate for another host: its subjectAltName must"
            " have the name that was dialled"
        )
    if "WRONG_VERSION_NUMBER" in cause:
        return FailedPrecondition(f"the server at {where} does not speak TLS")
    return Unavailable(f"no server answers at {where}: {_CALLS.sub('', cause)}")
