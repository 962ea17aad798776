"""Mounts as data: what ``Snapshotter.mounts`` answers and what an executor performs.

The shape is containerd's ``types.Mount``. Performing them is ``slipform.core.linux.mounting``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: ``mount -t type -o options source <root>/target``.

    A snapshot's mounts have an empty ``target``: they make the root itself. Overlay mounts carry
    ``lowerdir=`` (newest first), and ``upperdir=`` and ``workdir=`` unless they are read-only.
    """

    type: str
    """``bind``, ``overlay``, ``tmpfs``, ``proc``, ``sysfs``, …"""
    source: str
    target: str = ""
    """Absolute path inside the root; empty for the root itself."""
    options: tuple[str, ...] = ()
