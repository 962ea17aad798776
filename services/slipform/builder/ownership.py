"""``--chown`` and USER: names looked up in a root file system's own passwd and group files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.core.files import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SIZE: Final = 16 << 20
_MAX_ID: Final = 0xFFFFFFFE


class NoSuchAccount(InvalidArgument):
    """A name that neither passwd nor group of a root file system knows."""


def resolve_owner(root_fd: int, text: str, what: str = "--chown") -> tuple[int, int]:
    """(uid, gid) of ``user[:group]``, by names or numbers.

    A number alone is also the group; a name alone has the primary group of that user. ``root`` is
    0 even where there is no passwd file.

    Raises:
        InvalidArgument: malformed, or no such user or group in this root.
    """
    user, colon, group = text.partition(":")
    if not user or (colon and not group):
        raise InvalidArgument(f'{what}="{text}": want user[:group]')
    if user.isdecimal():
        uid, gid = _number(user, what, text), _number(user, what, text)
    else:
        uid, gid = _user(root_fd, user, what)
    if group:
        gid = _number(group, what, text) if group.isdecimal() else _group(root_fd, group, what)
    return uid, gid


def resolve_user(root_fd: int, text: str) -> tuple[int, int]:
    """(uid, gid) of an image's USER for WORKDIR: root when nobody in this root has that name.

    Docker builds such images too, and a RUN as this user fails anyhow.

    Raises:
        InvalidArgument: malformed.
    """
    if not text:
        return 0, 0
    try:
        return resolve_owner(root_fd, text, "USER")
    except NoSuchAccount:
        return 0, 0


def _user(root_fd: int, name: str, what: str) -> tuple[int, int]:
    for fields in _rows(root_fd, "/etc/passwd", 4):
        if fields[0] == name and fields[2].isdecimal() and fields[3].isdecimal():
            return int(fields[2]), int(fields[3])
    if name == "root":
        return 0, 0
    raise NoSuchAccount(f'{what}: no user "{name}" in /etc/passwd of the image')


def _group(root_fd: int, name: str, what: str) -> int:
    for fields in _rows(root_fd, "/etc/group", 3):
        if fields[0] == name and fields[2].isdecimal():
            return int(fields[2])
    if name == "root":
        return 0
    raise NoSuchAccount(f'{what}: no group "{name}" in /etc/group of the image')


def _rows(root_fd: int, path: str, width: int) -> Iterator[list[str]]:
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    with open(fd, "rb") as file:
        text = file.read(_MAX_SIZE).decode(errors="replace")
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= width:
            yield fields


def _number(text: str, what: str, whole: str) -> int:
    value = int(text)
    if value > _MAX_ID:
        raise InvalidArgument(f'{what}="{whole}": {text} is not an id, want at most {_MAX_ID}')
    return value
