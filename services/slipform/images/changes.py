"""``docker import -c``: Dockerfile instructions that only touch the run configuration."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.core.oci.config import Healthcheck, RunConfig
from slipform.images.words import expand, json_words, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHELL: Final = ("/bin/sh", "-c")
_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_SECONDS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_HEALTH_FLAGS: Final = {
    "--interval": "interval",
    "--timeout": "timeout",
    "--start-period": "start_period",
    "--start-interval": "start_interval",
}


def apply_changes(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """Apply instructions in order; an element may hold several lines.

    Raises:
        InvalidArgument: an instruction that cannot be used here, or a malformed one; names it.
    """
    for change in changes:
        for line in change.splitlines():
            if line.strip() and not line.strip().startswith("#"):
                config = _apply(config, line.strip())
    return config


def _apply(config: RunConfig, line: str) -> RunConfig:
    word, _, rest = line.partition(" ")
    keyword, rest = word.upper(), rest.strip()
    handler = _HANDLERS.get(keyword)
    if handler is None:
        raise InvalidArgument(
            f'"{keyword}" is not a valid change command', expected=", ".join(sorted(_HANDLERS))
        )
    if not rest:
        raise InvalidArgument(f"{keyword} requires at least one argument")
    try:
        return handler(config, rest)
    except InvalidArgument as e:
        raise InvalidArgument(f'change "{line}": {e}') from e


def _environment(config: RunConfig) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in config.env)


def _words(config: RunConfig, text: str) -> list[str]:
    env = _environment(config)
    given = json_words(text)
    if given is not None:
        return [expand(word, env) for word in given]
    return [expand(word, env) for word in split(text)]


def _one(config: RunConfig, text: str) -> str:
    return expand(text, _environment(config))


def _command(text: str) -> tuple[str, ...]:
    given = json_words(text)
    return (*_SHELL, text) if given is None else given


def _cmd(config: RunConfig, text: str) -> RunConfig:
    return replace(config, cmd=_command(text))


def _entrypoint(config: RunConfig, text: str) -> RunConfig:
    return replace(config, entrypoint=_command(text))


def _pairs(config: RunConfig, text: str) -> list[tuple[str, str]]:
    raw = split(text)
    env = _environment(config)
    if "=" not in raw[0]:
        name, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidArgument(f'"{name}" needs a value')
        return [(expand(name, env), expand(value.strip(), env))]
    pairs = []
    for word in raw:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidArgument(f'"{word}" is not name=value')
        pairs.append((expand(name, env), expand(value, env)))
    return pairs


def _env(config: RunConfig, text: str) -> RunConfig:
    merged = _environment(config) | dict(_pairs(config, text))
    return replace(config, env=tuple(f"{name}={value}" for name, value in merged.items()))


def _label(config: RunConfig, text: str) -> RunConfig:
    return replace(config, labels=dict(config.labels) | dict(_pairs(config, text)))


def _expose(config: RunConfig, text: str) -> RunConfig:
    ports = set(config.exposed_ports)
    for word in _words(config, text):
        ports.update(_ports(word))
    return replace(config, exposed_ports=tuple(sorted(ports)))


def _ports(word: str) -> list[str]:
    match = _PORT.fullmatch(word)
    if match is None:
        raise InvalidArgument(f'invalid port "{word}"')
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise InvalidArgument(f'invalid port "{word}"')
    return [f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)]


def _user(config: RunConfig, text: str) -> RunConfig:
    return replace(config, user=_one(config, text))


def _volume(config: RunConfig, text: str) -> RunConfig:
    paths = _words(config, text)
    if not all(path.strip() for path in paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    return replace(config, volumes=tuple(sorted({*config.volumes, *paths})))


def _workdir(config: RunConfig, text: str) -> RunConfig:
    joined = posixpath.join(config.working_dir or "/", _one(config, text))
    return replace(config, working_dir=posixpath.normpath("/" + joined.lstrip("/")))


def _stop_signal(config: RunConfig, text: str) -> RunConfig:
    signal = _one(config, text)
    if not re.fullmatch(r"[0-9]{1,2}|(?:SIG)?[A-Z][A-Z0-9+-]*", signal):
        raise InvalidArgument(f'invalid signal "{signal}"')
    return replace(config, stop_signal=signal)


def _onbuild(config: RunConfig, text: str) -> RunConfig:
    trigger = text.partition(" ")[0].upper()
    if trigger == "ONBUILD":
        raise InvalidArgument("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("FROM", "MAINTAINER"):
        raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=(*config.on_build, text))


def _healthcheck(config: RunConfig, text: str) -> RunConfig:
    numbers: dict[str, int] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        text = text.strip()
        name, _, value = flag.partition("=")
        numbers.update(_health_flag(name, value))
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE":
        if command or numbers:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        return replace(config, healthcheck=Healthcheck(("NONE",)))
    if kind.upper() != "CMD" or not command.strip():
        raise InvalidArgument("want HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE")
    given = json_words(command.strip())
    test = ("CMD-SHELL", command.strip()) if given is None else ("CMD", *given)
    return replace(config, healthcheck=Healthcheck(test, **numbers))


def _health_flag(name: str, value: str) -> dict[str, int]:
    if name == "--retries":
        if not value.isdecimal():
            raise InvalidArgument(f'--retries: "{value}" is not a number')
        return {"retries": int(value)}
    field = _HEALTH_FLAGS.get(name)
    if field is None:
        raise InvalidArgument(f"unknown flag {name}")
    return {field: _duration(name, value)}


def _duration(name: str, value: str) -> int:
    """Go's duration text in nanoseconds: ``1m30s``."""
    parts = _DURATION.findall(value)
    if value != "0" and (not parts or "".join(n + unit for n, unit in parts) != value):
        raise InvalidArgument(f'{name}: "{value}" is not a duration')
    total = round(sum(float(number) * _SECONDS[unit] for number, unit in parts))
    if 0 < total < _SECONDS["ms"]:
        raise InvalidArgument(f'{name}: "{value}" is less than 1ms')
    return total


_HANDLERS: Final[dict[str, Callable[[RunConfig, str], RunConfig]]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
