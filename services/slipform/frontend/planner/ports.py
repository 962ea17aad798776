"""``EXPOSE``: port numbers, ranges, protocols."""

from __future__ import annotations

import ipaddress
from typing import Final

from slipform.frontend.dockerfile.text import TextError

_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_EXPECTED: Final = "port[-port][/tcp|udp|sctp]"


def parse_port(text: str) -> list[str]:
    """``80/tcp`` for every port of ``[[ip:]host:]container[-container][/protocol]``.

    Raises:
        TextError: a part is malformed.
    """
    host, _, container = text.rpartition(":")
    ip, _, host_port = host.rpartition(":")
    port, _, protocol = container.partition("/")
    if not port:
        raise TextError(f"no port specified: {text[:64]}<empty>", expected=_EXPECTED)
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise TextError(f"invalid proto: {protocol[:64]}", expected=" or ".join(_PROTOCOLS))
    if ip:
        _check_ip(ip)
    ports = _range(port)
    if ports is None:
        raise TextError(f"invalid containerPort: {port[:64]}", expected=_EXPECTED)
    if host_port:
        _check_host(host_port, ports, port)
    return [f"{number}/{protocol}" for number in ports]


def _check_ip(text: str) -> None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(bare)
    except ValueError as e:
        raise TextError(f"invalid IP address: {text[:64]}", expected=_EXPECTED) from e


def _check_host(text: str, container: range, port: str) -> None:
    ports = _range(text)
    if ports is None:
        raise TextError(f"invalid hostPort: {text[:64]}", expected=_EXPECTED)
    if len(ports) != len(container) and len(container) > 1:
        message = f"invalid ranges specified for container and host Ports: {port} and {text}"
        raise TextError(message[:200], expected="ranges of the same length")


def _range(text: str) -> range | None:
    first, dash, last = text.partition("-")
    if not dash:
        last = first
    if not all(_is_port(number) for number in (first, last)) or int(last) < int(first):
        return None
    return range(int(first), int(last) + 1)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 8 and int(text) <= 65_535
