"""Headers of canonical tars: ustar where it can say it, PAX records where it cannot.

The form follows POSIX.1-2017 (pax, "ustar Interchange Format") and docs/layers.md: no user or
group names, no access or change times, device numbers zero except for devices.
"""

from __future__ import annotations

import os
import stat
import zlib
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition
from slipform.layer.faults import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK: Final = 512
ZEROS: Final = bytes(BLOCK)
REGULAR, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0", b"1", b"2", b"3", b"4", b"5", b"6"
)  # fmt: skip
_PAX: Final = b"x"
_MAX_ID: Final = 0o7777777
_MAX_NUMBER: Final = 0o77777777777
_NAME, _PREFIX, _LINK = 100, 155, 100
_TYPES: Final = {
    stat.S_IFREG: REGULAR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}
_MAGIC: Final = b"ustar\x0000" + bytes(64)  # magic, version, no user name, no group name
_NO_DEVICE: Final = b"0000000\x000000000\x00"


def type_of(mode: int) -> bytes:
    """The typeflag for a file mode; ``KeyError`` for sockets."""
    return _TYPES[stat.S_IFMT(mode)]


def _tail(kind: bytes, link: bytes, device: bytes, prefix: bytes) -> bytes:
    """Bytes 156 to 512 of a header."""
    return b"%b%b%b%b%b" % (
        kind,
        link.ljust(_LINK, b"\0"),
        _MAGIC,
        device,
        prefix.ljust(167, b"\0"),
    )


_PLAIN_TAILS: Final = {
    kind: _tail(kind, b"", _NO_DEVICE, b"") for kind in (REGULAR, DIRECTORY, FIFO)
}


def plain_header(
    name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes
) -> bytes:
    """The header of nearly every file: everything fits, there is no link and no device.

    The caller knows that ``name`` is ASCII and at most 100 bytes, and that numbers are in range.
    """
    return _sealed(
        b"%b%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00        %b"
        % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime, _PLAIN_TAILS[kind])
    )


def _sealed(header: bytes) -> bytes:
    # The low half of Adler-32 is 1 + the sum of the bytes, modulo 65521. Our headers are ASCII, so
    # the sum is at most 512 * 127 and the modulo never bites: a checksum at the speed of C.
    checksum = (zlib.adler32(header) & 0xFFFF) - 1
    return b"%b%06o\x00 %b" % (header[:148], checksum, header[156:])


def general_header(
    name: bytes,
    status: os.stat_result,
    *,
    mtime: int,
    size: int,
    kind: bytes,
    link: bytes = b"",
    xattrs: Iterable[tuple[str, bytes]] = (),
) -> bytes:
    """Any header, preceded by the PAX header that it needs, if it needs one."""
    records: list[tuple[bytes, bytes]] = []
    split = _split(name)
    if split is None:
        records.append((b"path", name))
        split = (_ascii(name)[:_NAME], b"")
    if len(link) > _LINK or not link.isascii():
        records.append((b"linkpath", link))
        link = _ascii(link)[:_LINK]
    uid = _bounded(records, b"uid", status.st_uid, _MAX_ID)
    gid = _bounded(records, b"gid", status.st_gid, _MAX_ID)
    size = _bounded(records, b"size", size, _MAX_NUMBER)
    mtime = _bounded(records, b"mtime", mtime, _MAX_NUMBER)
    device = _device(status, kind, name)
    for attribute, value in xattrs:
        if "=" in attribute:
            raise FailedPrecondition(
                f"{shown(name)}: attribute {attribute!r} cannot be put into a tar "
                'because its name contains "="'
            )
        records.append((b"SCHILY.xattr." + os.fsencode(attribute), value))
    header = _sealed(
        b"%b%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00        %b"
        % (
            split[0].ljust(_NAME, b"\0"),
            stat.S_IMODE(status.st_mode),
            uid,
            gid,
            size,
            mtime,
            _tail(kind, link, device, split[1]),
        )
    )
    return pax_header(name, records) + header if records else header


def pax_header(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    """A PAX extended header entry; records are sorted by key."""
    body = b"".join(_record(key, value) for key, value in sorted(records))
    last = name.rstrip(b"/").rpartition(b"/")[2]
    header = plain_header(
        (b"PaxHeaders.0/" + _ascii(last))[:_NAME], 0o644, 0, 0, len(body), 0, REGULAR
    )
    header = _sealed(header[:148] + b" " * 8 + _PAX + header[157:])
    return header + body + bytes(-len(body) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    r"""``length key=value\\n``, where the length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Name and prefix fields, or None for a name that ustar cannot hold."""
    if not name.isascii():
        return None
    if len(name) <= _NAME:
        return name, b""
    # The longest prefix wins; the final slash of a directory is no place to split.
    cut = name.rfind(b"/", 0, min(len(name) - 1, _PREFIX + 1))
    if cut <= 0 or len(name) - cut - 1 > _NAME:
        return None
    return name[cut + 1 :], name[:cut]


def _ascii(text: bytes) -> bytes:
    """What an old reader sees in place of a name that only PAX can hold."""
    return text if text.isascii() else text.decode("latin-1").encode("ascii", "replace")


def _bounded(records: list[tuple[bytes, bytes]], key: bytes, value: int, limit: int) -> int:
    """The value for the field, 0 when it had to become a record."""
    if 0 <= value <= limit:
        return value
    records.append((key, b"%d" % value))
    return 0


def _device(status: os.stat_result, kind: bytes, name: bytes) -> bytes:
    if kind not in (CHARACTER, BLOCK_DEVICE):
        return _NO_DEVICE
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if major > _MAX_ID or minor > _MAX_ID:
        raise FailedPrecondition(f"{shown(name)}: device {major}:{minor} does not fit into a tar")
    return b"%07o\x00%07o\x00" % (major, minor)
