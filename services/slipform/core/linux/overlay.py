"""Overlay mounts with more layers than the option page of ``mount(2)`` can name.

Two ways out, both with short names: the new mount API takes lower directories one by one; older
kernels take names relative to a working directory, which a thread can have for itself.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slipform.core.linux import mountapi
from slipform.core.linux.namespaces import CLONE_FS, unshare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipform.core.linux.mountoptions import MountOptions

_PAGE: Final = 4096
_FSCONFIG_LIMIT: Final = 255
_DIRECTORIES: Final = ("upperdir", "workdir")


def needs_help(options: MountOptions) -> bool:
    """Whether the options are too long for one page."""
    return len(os.fsencode(options.data)) >= _PAGE


def mount_deep(source: str, target: int, options: MountOptions) -> None:
    """Mount an overlay on the directory behind ``target``, whatever the number of layers.

    Raises:
        OSError: as the kernel says; E2BIG when no way of naming the layers is short enough.
    """
    lowers, others = _split(options.fields)
    outcome: list[OSError] = []
    work = threading.Thread(
        target=_in_own_directory, args=(source, target, options, lowers, others, outcome)
    )
    try:
        work.start()
        work.join()
    except RuntimeError:
        # After unshare(CLONE_NEWPID) there are no threads any more, so the directory is ours alone.
        _in_own_directory(source, target, options, lowers, others, outcome)
    if outcome:
        raise outcome[0]


def _split(fields: Sequence[str]) -> tuple[list[str], list[str]]:
    lowers: list[str] = []
    others: list[str] = []
    for field in fields:
        name, _, value = field.partition("=")
        if name == "lowerdir":
            lowers += value.split(":")
        else:
            others.append(field)
    return lowers, others


def _in_own_directory(
    source: str,
    target: int,
    options: MountOptions,
    lowers: list[str],
    others: list[str],
    outcome: list[OSError],
) -> None:
    """Body of the thread: only its own working directory changes."""
    try:
        base = os.path.commonpath(lowers)
        unshare(CLONE_FS)
        os.chdir(base)
        short = [os.path.relpath(lower, base) for lower in lowers]
        try:
            _mount_one_by_one(source, target, options, short, others)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                raise
            fields = ("lowerdir=" + ":".join(short), *others)
            _mount_relative(source, target, replace(options, fields=fields))
    except OSError as e:
        outcome.append(e)


def _mount_relative(source: str, target: int, options: MountOptions) -> None:
    if needs_help(options):
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG), "overlay: too many layers")
    place = f"/proc/self/fd/{target}"
    mountapi.mount(source, place, "overlay", options.flags, options.data)


def _mount_one_by_one(
    source: str, target: int, options: MountOptions, lowers: list[str], others: list[str]
) -> None:
    opened: list[int] = []
    try:
        fs = mountapi.fsopen("overlay")
        opened.append(fs)
        if source:
            mountapi.fsconfig_string(fs, "source", source)
        for lower in lowers:
            mountapi.fsconfig_string(fs, "lowerdir+", _short(lower, opened))
        for field in others:
            name, given, value = field.partition("=")
            if not given:
                mountapi.fsconfig_flag(fs, name)
            elif name in _DIRECTORIES:
                mountapi.fsconfig_string(fs, name, _short(value, opened))
            else:
                mountapi.fsconfig_string(fs, name, value)
        mountapi.fsconfig_create(fs)
        made = mountapi.fsmount(fs, options.attributes)
        opened.append(made)
        mountapi.move_mount(made, target)
    finally:
        for fd in opened:
            os.close(fd)


def _short(path: str, opened: list[int]) -> str:
    """The path, or when the kernel would not take its length, a descriptor's."""
    if len(os.fsencode(path)) <= _FSCONFIG_LIMIT:
        return path
    opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return f"/proc/self/fd/{opened[-1]}"
