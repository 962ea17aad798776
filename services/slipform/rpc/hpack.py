"""Header blocks without tables and without Huffman codes (RFC 7541), for ``lean``.

We announce a dynamic table of size 0, and grpc's servers send strings as they are, so nothing
else can come; if it does, decoding says so.
"""

from __future__ import annotations

from typing import Final

from slipform.core.errors import Unavailable

_STATIC: Final = (
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
)  # fmt: skip
"""RFC 7541, appendix A; counted from 1."""

_HUFFMAN: Final = 0x80


def encode_headers(*headers: tuple[str, str]) -> bytes:
    """A block of literal headers that are not indexed (RFC 7541, section 6.2.2)."""
    out = bytearray()
    for name, value in headers:
        out += b"\0" + _string(name) + _string(value)
    return bytes(out)


def decode_headers(block: bytes) -> dict[str, bytes]:
    """Names and values; the last of several equal names wins.

    Binary values (``…-bin``) come without the zero byte that marks them as not encoded.

    Raises:
        Unavailable: malformed, Huffman-coded, or refers to a table that does not exist.
    """
    headers: dict[str, bytes] = {}
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                name, value = _STATIC[index - 1]
                headers[name] = value.encode()
            elif first & 0xE0 == 0x20:
                _, at = _integer(block, at, 5)
            else:
                name, data, at = _literal(block, at, 6 if first & 0x40 else 4)
                headers[name] = data[1:] if name.endswith("-bin") else data
    except IndexError as e:
        raise Unavailable("the daemon sent a malformed header block") from e
    return headers


def _literal(block: bytes, at: int, prefix: int) -> tuple[str, bytes, int]:
    index, at = _integer(block, at, prefix)
    if index:
        name = _STATIC[index - 1][0]
    else:
        raw, at = _read_string(block, at)
        name = raw.decode("ascii", "replace")
    value, at = _read_string(block, at)
    return name, value, at


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    if block[at] & _HUFFMAN:
        raise Unavailable("the daemon sent a Huffman-coded header")
    size, at = _integer(block, at, 7)
    if at + size > len(block):
        raise IndexError
    return block[at : at + size], at + size


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """RFC 7541, section 5.1."""
    limit = (1 << prefix) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    for shift in range(0, 29, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise IndexError


def _string(text: str) -> bytes:
    data = text.encode()
    size, out = len(data), bytearray()
    if size < 0x7F:
        out.append(size)
    else:
        out.append(0x7F)
        size -= 0x7F
        while size >= 0x80:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        out.append(size)
    return bytes(out) + data
