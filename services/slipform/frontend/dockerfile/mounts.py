"""``RUN --mount=``: comma-separated options to a checked value.

The fields of RFC 4180 CSV, keys in any case, the aliases and refusals of BuildKit.
"""

from __future__ import annotations

import csv
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from slipform.core.plan import MountType, Sharing
from slipform.frontend.dockerfile.durations import parse_size
from slipform.frontend.dockerfile.text import TextError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

_ALIASES: Final = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_KEYS: Final = (
    "type", "from", "source", "target", "readonly", "readwrite", "required", "id", "size",
    "sharing", "mode", "uid", "gid", "env",
)  # fmt: skip
_BOOLS: Final = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
_SWITCHES: Final = ("readonly", "readwrite", "required")
_OWNED: Final = (MountType.CACHE, MountType.SECRET, MountType.SSH)
_ALLOWED: Final = {
    "readonly": (MountType.BIND, MountType.CACHE),
    "readwrite": (MountType.BIND, MountType.CACHE),
    "required": (MountType.SECRET, MountType.SSH),
    "size": (MountType.TMPFS,),
    "sharing": (MountType.CACHE,),
    "mode": _OWNED,
    "uid": _OWNED,
    "gid": _OWNED,
    "env": (MountType.SECRET,),
    "from": (MountType.BIND, MountType.CACHE),
}
_MOST_ID: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One ``--mount`` with its defaults filled in; names of stages are still texts."""

    type: MountType = MountType.BIND
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    read_only: bool = True
    required: bool = False
    env: str = ""
    sharing: Sharing = Sharing.SHARED
    size: int = 0
    mode: int | None = None
    uid: int = 0
    gid: int = 0


def check_mount(text: str) -> None:
    """Find the faults that do not depend on variables.

    Raises:
        TextError: the first of them.
    """
    if "$" not in text:
        parse_mount(text, lambda value: value)
        return
    for key, _ in _fields(text):
        if key not in _KEYS:
            raise _unknown(key, text)


def mount_from(text: str) -> str:
    """The ``from`` of a mount: never expanded, so that the graph of stages is known early."""
    return next((value for key, value in _fields(text) if key == "from" and value), "")


def parse_mount(text: str, expand: Callable[[str], str]) -> MountSpec:
    """Read one mount.

    Args:
        text: the value of the flag.
        expand: applied to every value except that of ``from``.

    Raises:
        TextError: unknown key or type, a value that the key cannot have, no target.
    """
    given: dict[str, str | None] = {}
    for key, value in _fields(text):
        if key not in _KEYS:
            raise _unknown(key, text)
        if key == "from" and value is not None and "$" in value:
            raise TextError(
                f"'{key}' doesn't support variable expansion, define alias stage instead",
                expected="the name of a stage or an image",
            )
        if value is None and key not in _SWITCHES:
            raise TextError(f"invalid field '{key}' must be a key=value pair", expected=f"{key}=…")
        given[key] = value if value is None or key == "from" else expand(value)
    kind = _type(given)
    for key in given:
        if kind not in _ALLOWED.get(key, (kind,)):
            raise TextError(f'"{key}" not allowed for "{kind.value}" type mounts')
    return _with_defaults(_values(kind, given), given)


def _fields(text: str) -> list[tuple[str, str | None]]:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as e:
        raise TextError(f"failed to parse csv mounts: {e}", expected="key=value,…") from e
    fields = []
    for field in rows[0] if rows else ():
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        fields.append((_ALIASES.get(key, key), value if equals else None))
    return fields


def _unknown(key: str, text: str) -> TextError:
    hint = did_you_mean(key, (*_KEYS, *_ALIASES))
    message = f"unexpected key '{key[:64]}' in '{text[:128]}'{hint}"
    return TextError(message, expected=", ".join(_KEYS))


def _type(given: dict[str, str | None]) -> MountType:
    value = (given.get("type") or "bind").lower()
    try:
        return MountType(value)
    except ValueError:
        known = [kind.value for kind in MountType]
        message = f'unsupported mount type "{value[:64]}"{did_you_mean(value, known)}'
        raise TextError(message, expected=", ".join(known)) from None


def _values(kind: MountType, given: dict[str, str | None]) -> MountSpec:
    spec = MountSpec(
        kind,
        given.get("target") or "",
        given.get("source") or "",
        given.get("from") or "",
        given.get("id") or "",
        read_only=kind is MountType.BIND,
        env=given.get("env") or "",
        uid=_number("uid", given),
        gid=_number("gid", given),
    )
    if "readonly" in given:
        spec = replace(spec, read_only=_bool("readonly", given["readonly"]))
    if "readwrite" in given:
        spec = replace(spec, read_only=not _bool("readwrite", given["readwrite"]))
    if "required" in given:
        spec = replace(spec, required=_bool("required", given["required"]))
    if given.get("mode"):
        spec = replace(spec, mode=_mode(given["mode"] or ""))
    if given.get("size"):
        size = parse_size(given["size"] or "")
        if size is None:
            raise TextError(f"invalid value for size: {given['size']}", expected="bytes, or 64m")
        spec = replace(spec, size=size)
    if given.get("sharing"):
        spec = replace(spec, sharing=_sharing(given["sharing"] or ""))
    return spec


def _bool(key: str, value: str | None) -> bool:
    if value is None:
        return True
    found = _BOOLS.get(value.lower())
    if found is None:
        raise TextError(f"invalid value for {key}: {value[:64]}", expected="true or false")
    return found


def _number(key: str, given: dict[str, str | None]) -> int:
    text = given.get(key)
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MOST_ID):
        raise TextError(f"invalid value {text[:64]} for {key}", expected="a whole number")
    return int(text)


def _mode(text: str) -> int:
    if not 0 < len(text) <= 8 or any(digit not in "01234567" for digit in text):
        raise TextError(f"invalid value {text[:64]} for mode", expected="octal digits")
    if int(text, 8) > 0o7777:
        raise TextError(f"invalid value {text[:64]} for mode", expected="at most 7777")
    return int(text, 8)


def _sharing(text: str) -> Sharing:
    try:
        return Sharing(text.lower())
    except ValueError:
        known = [sharing.value for sharing in Sharing]
        message = f'unsupported sharing value "{text[:64]}"{did_you_mean(text, known)}'
        raise TextError(message, expected=", ".join(known)) from None


def _with_defaults(spec: MountSpec, given: dict[str, str | None]) -> MountSpec:
    if spec.type is MountType.SECRET:
        return _secret(spec)
    if spec.type is MountType.SSH:
        return replace(
            spec, id=spec.id or "default", mode=0o600 if spec.mode is None else spec.mode
        )
    if not spec.target:
        # Variables may make it so; only a key that is missing or empty is the file's own fault.
        raise TextError("invalid mount: target is required", expected="target=/path")
    if spec.type is MountType.CACHE:
        mode = 0o755 if spec.mode is None else spec.mode
        spec = replace(spec, id=spec.id or posixpath.normpath(spec.target), mode=mode)
    if spec.type is MountType.TMPFS:
        return replace(spec, read_only=False)
    return replace(spec, source=_inside(spec.source))


def _secret(spec: MountSpec) -> MountSpec:
    name = spec.id or spec.source or posixpath.basename(spec.target)
    if not name:
        raise TextError('"id", "source" or "target" is required', expected="id=name")
    target = spec.target
    if not target and not spec.env:
        target = f"/run/secrets/{posixpath.basename(name)}"
    mode = 0o400 if spec.mode is None else spec.mode
    return replace(spec, id=name, source="", target=target, mode=mode, read_only=True)


def _inside(source: str) -> str:
    """A path inside the source's root: ``..`` stops there."""
    path = posixpath.normpath("/" + source)
    return "/" + path.lstrip("/")
