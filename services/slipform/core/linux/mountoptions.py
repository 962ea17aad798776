"""Mount options as ``mount(8)`` and the OCI runtime-spec write them, made into flags and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.core.linux import mountapi as api

if TYPE_CHECKING:
    from collections.abc import Iterable

_SET: Final = {
    "ro": api.MS_RDONLY,
    "nosuid": api.MS_NOSUID,
    "nodev": api.MS_NODEV,
    "noexec": api.MS_NOEXEC,
    "sync": api.MS_SYNCHRONOUS,
    "dirsync": api.MS_DIRSYNC,
    "noatime": api.MS_NOATIME,
    "nodiratime": api.MS_NODIRATIME,
    "relatime": api.MS_RELATIME,
    "strictatime": api.MS_STRICTATIME,
    "silent": api.MS_SILENT,
}
_CLEAR: Final = {
    "rw": api.MS_RDONLY,
    "suid": api.MS_NOSUID,
    "dev": api.MS_NODEV,
    "exec": api.MS_NOEXEC,
    "async": api.MS_SYNCHRONOUS,
    "atime": api.MS_NOATIME,
    "diratime": api.MS_NODIRATIME,
    "norelatime": api.MS_RELATIME,
    "nostrictatime": api.MS_STRICTATIME,
    "loud": api.MS_SILENT,
    "defaults": 0,
}
_PROPAGATION: Final = {
    "private": api.MS_PRIVATE,
    "rprivate": api.MS_PRIVATE | api.MS_REC,
    "slave": api.MS_SLAVE,
    "rslave": api.MS_SLAVE | api.MS_REC,
    "shared": api.MS_SHARED,
    "rshared": api.MS_SHARED | api.MS_REC,
    "unbindable": api.MS_UNBINDABLE,
    "runbindable": api.MS_UNBINDABLE | api.MS_REC,
}
_ATTRIBUTES: Final = {
    api.MS_RDONLY: api.MOUNT_ATTR_RDONLY,
    api.MS_NOSUID: api.MOUNT_ATTR_NOSUID,
    api.MS_NODEV: api.MOUNT_ATTR_NODEV,
    api.MS_NOEXEC: api.MOUNT_ATTR_NOEXEC,
    api.MS_NOATIME: api.MOUNT_ATTR_NOATIME,
    api.MS_NODIRATIME: api.MOUNT_ATTR_NODIRATIME,
}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What a list of options means; ``fields`` are left to the file system, in order."""

    flags: int = 0
    propagation: int = 0
    bind: bool = False
    recursive: bool = False
    fields: tuple[str, ...] = ()

    @property
    def data(self) -> str:
        """The file system's own options, as ``mount(2)`` takes them."""
        return ",".join(self.fields)

    @property
    def attributes(self) -> int:
        """The flags in the words of ``mount_setattr``."""
        return sum(attribute for flag, attribute in _ATTRIBUTES.items() if self.flags & flag)

    @classmethod
    def parse(cls, options: Iterable[str]) -> MountOptions:
        """Read options; the later of two that contradict each other wins.

        Raises:
            InvalidArgument: an option holds a NUL character.
        """
        flags = propagation = 0
        bind = recursive = False
        fields = []
        for option in options:
            if "\0" in option:
                raise InvalidArgument(f"mount option {option!r} holds a NUL character")
            if option in ("bind", "rbind"):
                bind, recursive = True, option == "rbind"
            elif option in _SET:
                flags |= _SET[option]
            elif option in _CLEAR:
                flags &= ~_CLEAR[option]
            elif option in _PROPAGATION:
                propagation = _PROPAGATION[option]
            elif option:
                fields.append(option)
        return cls(flags, propagation, bind, recursive, tuple(fields))
