"""What of a run can be done before it is asked for: the same for nearly every RUN step.

``split`` takes a runtime-spec apart. The *template* (namespaces, /proc, /dev and /sys with all that
hides parts of them, the system call filter) is what a spare process prepares while nobody waits;
the rest belongs to one run. A template has a name, the digest of its content, so a spare is used
for exactly the runs that it was prepared for.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

TOPS: Final = ("proc", "dev", "sys")
"""Directories that are prepared aside and moved into the root."""
_TYPES: Final = frozenset(("proc", "sysfs", "tmpfs", "devpts", "mqueue"))
_HIDING: Final = ("maskedPaths", "readonlyPaths")


@dataclass(frozen=True, slots=True)
class Template:
    """A part of a spec, as JSON, and its name; and the two in one file."""

    name: str
    content: bytes

    @classmethod
    def of(cls, value: dict[str, Any]) -> Template:
        """Name a template by what it says."""
        # Here, because OpenSSL in the zygote would make each of its forks slower.
        import hashlib

        content = json.dumps(value).encode()
        return cls(hashlib.sha256(content).hexdigest(), content)

    @classmethod
    def load(cls, path: Path) -> Template:
        """What ``save`` has written."""
        name, _, content = path.read_bytes().partition(b"\n")
        return cls(name.decode(), content)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        aside = path.with_name(f"{path.name}.{self.name[:16]}")
        aside.write_bytes(f"{self.name}\n".encode() + self.content)
        aside.replace(path)


def split(spec: dict[str, Any], extra: dict[str, Any]) -> tuple[Template, dict[str, Any]]:
    """Take a spec apart.

    Args:
        spec: a runtime-spec ``config.json``; it is not changed.
        extra: more that belongs into the template.

    Returns:
        The template, and the spec without what is in it.
    """
    linux = {key: value for key, value in spec["linux"].items() if key != "seccomp"}
    early, late = _split_mounts(spec["mounts"])
    value = {
        "namespaces": sorted(entry["type"] for entry in linux.pop("namespaces")),
        "mounts": early,
        "devices": linux.pop("devices", None) or [],
        "bounding": spec["process"]["capabilities"].get("bounding") or [],
        **extra,
    }
    if not any(_is_system(mount["destination"], ("proc", "sys")) for mount in late):
        value["sysctl"] = linux.pop("sysctl", None) or {}
        for key in _HIDING:
            # What hides a path must come after all that is mounted there.
            value[key] = [path for path in linux.get(key) or () if _is_hidden_by(path, early)]
            linux[key] = [path for path in linux.get(key) or () if path not in value[key]]
    return Template.of(value), {**spec, "mounts": late, "linux": linux}


def _split_mounts(
    mounts: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Those that can be made aside: the first ones, up to one that is not the system's."""
    early: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []
    for number, mount in enumerate(mounts):
        if mount["type"] == "cgroup":
            late.append(mount)  # shows the groups of one run
        elif mount["type"] in _TYPES and _can_stand(mount["destination"], early):
            early.append(mount)
        else:
            late += mounts[number:]
            break
    return early, late


def _can_stand(target: str, early: list[dict[str, Any]]) -> bool:
    """Whether a mount is one of the tops, or below one that is mounted aside already."""
    if os.path.normpath(target) != target:
        return False
    taken = {mount["destination"] for mount in early}
    if target[1:] in TOPS:
        return target not in taken
    return _is_system(target, TOPS) and f"/{target.split('/')[1]}" in taken


def _is_hidden_by(path: str, early: list[dict[str, Any]]) -> bool:
    return ".." not in path and any(path.startswith(f"{m['destination']}/") for m in early)


def _is_system(target: str, tops: tuple[str, ...]) -> bool:
    """Whether a mount is on one of the directories or below; only cgroups don't count."""
    if target == "/sys/fs/cgroup":
        return False
    return os.path.normpath(target).lstrip("/").split("/")[0] in tops


class Current:
    """The file that tells spare processes what to prepare: the template of the latest run."""

    def __init__(self, path: Path) -> None:
        """Keep the template at ``path``, for the spares of this daemon and of the next."""
        self._path = path
        self._name = ""

    def announce(self, template: Template) -> None:
        """Have later spares prepared for this template; never fails a run."""
        if template.name == self._name:
            return
        self._name = template.name
        with contextlib.suppress(OSError):
            template.save(self._path)
