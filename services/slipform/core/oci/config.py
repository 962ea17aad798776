"""Image configurations (image-spec config.md, with Docker's extensions).

The run configuration is kept as one frozen value; unknown fields of foreign configs are carried
in ``extra`` so that rewriting a config never drops what another tool put there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import InvalidArgument
from slipform.core.oci import canonical
from slipform.core.oci.digest import Digest
from slipform.core.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Docker's ``Healthcheck``; durations are nanoseconds, 0 means the default."""

    test: tuple[str, ...]
    """``("NONE",)``, ``("CMD", argv…)`` or ``("CMD-SHELL", text)``."""
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    _FIELDS = (
        ("Interval", "interval"),
        ("Timeout", "timeout"),
        ("StartPeriod", "start_period"),
        ("StartInterval", "start_interval"),
        ("Retries", "retries"),
    )

    def to_json(self) -> dict[str, Any]:
        """Docker's object, zero fields left out."""
        value: dict[str, Any] = {"Test": list(self.test)}
        value.update({k: getattr(self, name) for k, name in self._FIELDS if getattr(self, name)})
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Healthcheck:
        """Read docker's object; absent fields become 0."""
        numbers = {name: int(value.get(key) or 0) for key, name in cls._FIELDS}
        return cls(tuple(map(str, value.get("Test") or ())), **numbers)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The ``config`` object: how a container of the image is started.

    ``None`` for ``cmd`` and ``entrypoint`` means unset; an empty tuple means "set, and empty".
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    """``"80/tcp"``, sorted."""
    env: tuple[str, ...] = ()
    """``"NAME=value"`` in order of first definition."""
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    """Absolute paths, sorted."""
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] | None = None
    args_escaped: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The ``config`` object; empty fields are left out."""
        value: dict[str, Any] = {}
        if self.user:
            value["User"] = self.user
        if self.exposed_ports:
            value["ExposedPorts"] = {port: {} for port in self.exposed_ports}
        if self.env:
            value["Env"] = list(self.env)
        if self.entrypoint is not None:
            value["Entrypoint"] = list(self.entrypoint)
        if self.cmd is not None:
            value["Cmd"] = list(self.cmd)
        if self.volumes:
            value["Volumes"] = {path: {} for path in self.volumes}
        if self.working_dir:
            value["WorkingDir"] = self.working_dir
        if self.labels:
            value["Labels"] = dict(sorted(self.labels.items()))
        if self.stop_signal:
            value["StopSignal"] = self.stop_signal
        if self.args_escaped:
            value["ArgsEscaped"] = True
        if self.healthcheck is not None:
            value["Healthcheck"] = self.healthcheck.to_json()
        if self.on_build:
            value["OnBuild"] = list(self.on_build)
        if self.shell is not None:
            value["Shell"] = list(self.shell)
        value.update(self.extra)
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RunConfig:
        """Read a ``config`` object; unknown fields are kept in ``extra``."""
        known = {
            "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
            "StopSignal", "ArgsEscaped", "Healthcheck", "OnBuild", "Shell",
        }  # fmt: skip
        health = value.get("Healthcheck")
        return cls(
            user=str(value.get("User") or ""),
            exposed_ports=tuple(sorted(value.get("ExposedPorts") or ())),
            env=tuple(map(str, value.get("Env") or ())),
            entrypoint=_optional_words(value.get("Entrypoint")),
            cmd=_optional_words(value.get("Cmd")),
            volumes=tuple(sorted(value.get("Volumes") or ())),
            working_dir=str(value.get("WorkingDir") or ""),
            labels={str(k): str(v) for k, v in (value.get("Labels") or {}).items()},
            stop_signal=str(value.get("StopSignal") or ""),
            healthcheck=Healthcheck.from_json(health) if health else None,
            on_build=tuple(map(str, value.get("OnBuild") or ())),
            shell=_optional_words(value.get("Shell")),
            args_escaped=bool(value.get("ArgsEscaped")),
            extra={key: item for key, item in value.items() if key not in known},
        )


@dataclass(frozen=True, slots=True)
class History:
    """One entry of ``history``; ``created`` is RFC 3339 text or empty."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, Any]:
        """The history object, empty fields left out."""
        value: dict[str, Any] = {}
        for key in ("created", "author", "created_by", "comment"):
            if getattr(self, key):
                value[key] = getattr(self, key)
        if self.empty_layer:
            value["empty_layer"] = True
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> History:
        """Read a history object."""
        texts = {k: str(value.get(k) or "") for k in ("created_by", "created", "comment", "author")}
        return cls(**texts, empty_layer=bool(value.get("empty_layer")))


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The whole image configuration; its digest is docker's image id."""

    platform: Platform
    config: RunConfig = field(default_factory=RunConfig)
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    created: str = ""
    author: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The exact bytes that are stored and hashed."""
        value: dict[str, Any] = dict(self.platform.to_json())
        if self.created:
            value["created"] = self.created
        if self.author:
            value["author"] = self.author
        value["config"] = self.config.to_json()
        value["rootfs"] = {"type": "layers", "diff_ids": [str(d) for d in self.diff_ids]}
        value["history"] = [entry.to_json() for entry in self.history]
        value.update(self.extra)
        return canonical.encode(value)

    @classmethod
    def decode(cls, data: bytes, where: str = "image config") -> ImageConfig:
        """Read untrusted bytes.

        Raises:
            InvalidArgument: not a config, or its fields have the wrong types.
        """
        value = canonical.decode_object(data, where)
        try:
            return cls._from_json(value)
        except (TypeError, ValueError, AttributeError, OverflowError) as e:
            raise InvalidArgument(f"{where}: a field has the wrong type: {e}") from e

    @classmethod
    def _from_json(cls, value: dict[str, Any]) -> ImageConfig:
        known = {
            "architecture", "os", "os.version", "variant", "created", "author", "config", "rootfs",
            "history",
        }  # fmt: skip
        rootfs = value.get("rootfs") or {}
        return cls(
            platform=Platform.from_json(value),
            config=RunConfig.from_json(value.get("config") or {}),
            diff_ids=tuple(Digest.parse(text) for text in rootfs.get("diff_ids") or ()),
            history=tuple(History.from_json(entry) for entry in value.get("history") or ()),
            created=str(value.get("created") or ""),
            author=str(value.get("author") or ""),
            extra={key: item for key, item in value.items() if key not in known},
        )

    def with_layer(self, diff_id: Digest, entry: History) -> ImageConfig:
        """The same config with one more layer on top and its history entry."""
        return replace(self, diff_ids=(*self.diff_ids, diff_id), history=(*self.history, entry))


def _optional_words(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value))
