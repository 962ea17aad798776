"""Users and groups of a root file system, found in its own passwd and group files.

The files belong to an image and are hostile: they are opened inside the root, without following
links out of it, must be regular, and are read up to a limit.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import InvalidArgument
from slipform.core.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_FILE: Final = 8 << 20
_PIECE: Final = 64 << 10
_LARGEST_ID: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Account:
    """Who a process is; ``groups`` holds ``gid`` first, then the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(root: int, spec: str) -> Account:
    """Find docker's ``user[:group]`` in the root behind a descriptor.

    A name must exist. A number may be unknown; it then has group 0 unless one is given. A group
    that is given replaces the supplementary ones.

    Raises:
        InvalidArgument: no such user or group, a number out of range, or a hostile file.
    """
    wanted, _, wanted_group = spec.partition(":")
    user = _find_user(root, wanted)
    if wanted_group:
        gid = _find_group(root, wanted_group)
        return Account(user.uid, gid, (gid,), user.home)
    extra = [g.gid for g in _groups(root) if user.name and user.name in g.members]
    groups = tuple(dict.fromkeys((user.gid, *extra)))
    return Account(user.uid, user.gid, groups, user.home)


def settle(process: dict[str, Any], root: int) -> None:
    """Fill in what of a runtime-spec's ``process`` only the root file system knows.

    ``user.username`` (``user[:group]``) becomes numbers; ``HOME`` is set when it is absent; and a
    process that is not root keeps its capabilities only as the bounding set, as with docker.
    """
    account = resolve(root, process["user"].pop("username", ""))
    process["user"].update(uid=account.uid, gid=account.gid, additionalGids=list(account.groups))
    if not any(entry.startswith("HOME=") for entry in process["env"]):
        process["env"].append(f"HOME={account.home}")
    if account.uid != 0:
        for name in ("effective", "permitted", "inheritable", "ambient"):
            process["capabilities"].pop(name, None)


def _find_user(root: int, wanted: str) -> _User:
    number = 0 if not wanted else _number(wanted)
    for user in _users(root):
        if (wanted and user.name == wanted) or user.uid == number:
            return user
    if number is None:
        raise InvalidArgument(f"user {wanted!r}: no such user in /etc/passwd of the image")
    return _User("", number, 0, "/")


def _find_group(root: int, wanted: str) -> int:
    number = _number(wanted)
    for group in _groups(root):
        if group.name == wanted or group.gid == number:
            return group.gid
    if number is None:
        raise InvalidArgument(f"group {wanted!r}: no such group in /etc/group of the image")
    return number


def _number(text: str) -> int | None:
    """The text as a uid or gid; None when it is a name."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > _LARGEST_ID:
        raise InvalidArgument(f"user or group number {text} is not below 2^31")
    return int(text)


def _users(root: int) -> Iterator[_User]:
    for fields in _records(root, b"etc/passwd"):
        if len(fields) >= 4 and _is_id(fields[2]) and _is_id(fields[3]):
            home = fields[5] if len(fields) > 5 and fields[5] else "/"
            yield _User(fields[0], int(fields[2]), int(fields[3]), home)


def _groups(root: int) -> Iterator[_Group]:
    for fields in _records(root, b"etc/group"):
        if len(fields) >= 3 and _is_id(fields[2]):
            members = fields[3].split(",") if len(fields) > 3 else ()
            yield _Group(fields[0], int(fields[2]), tuple(filter(None, members)))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST_ID


def _records(root: int, path: bytes) -> Iterator[list[str]]:
    for line in _read(root, path).decode("utf-8", "surrogateescape").split("\n"):
        text = line.strip()
        if text and not text.startswith("#"):
            yield text.split(":")


def _read(root: int, path: bytes) -> bytes:
    """The file's bytes; nothing when it is absent."""
    try:
        # O_PATH first: merely opening a fifo or a device node can block or do things.
        found = openat2(root, path, os.O_PATH, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as e:
        raise InvalidArgument(f"/{path.decode()} of the image: {e.strerror}") from e
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise InvalidArgument(f"/{path.decode()} of the image is not a regular file")
        # By name, because what was opened only names a file. In pieces, because one large read
        # would first map as much memory as could be read.
        data = _read_up_to(f"/proc/self/fd/{found}", _LARGEST_FILE + 1)
    finally:
        os.close(found)
    if len(data) > _LARGEST_FILE:
        raise InvalidArgument(f"/{path.decode()} of the image has more than {_LARGEST_FILE} bytes")
    return data


def _read_up_to(path: str, size: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = bytearray()
        while part := os.read(fd, min(_PIECE, size - len(data))):
            data += part
        return bytes(data)
    finally:
        os.close(fd)
