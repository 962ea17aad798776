"""Which variables an instruction sees: ENV, ARG, global ARG, build arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from slipform.core.oci.platform import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.core.oci.platform import Platform
    from slipform.core.plan import PlanRequest

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PREDEFINED: Final = frozenset(name for p in _PROXIES for name in (p, p.lower()))
PLATFORM_ARGS: Final = frozenset(
    f"{side}{what}"
    for side in ("TARGET", "BUILD")
    for what in ("PLATFORM", "OS", "ARCH", "VARIANT", "OSVERSION")
)
CONTROL_ARGS: Final = frozenset({
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_SYNTAX",
    "BUILDKIT_DOCKERFILE_CHECK",
    "SOURCE_DATE_EPOCH",
    "TARGETSTAGE",
})  # fmt: skip
NOT_IN_ENVIRONMENT: Final = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})


@dataclass(slots=True)
class Scope:
    """The variables of one stage while it is walked.

    ``args`` maps declared names to their value, None when they have none.
    """

    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str | None] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """ENV always wins over ARG of the same name."""
        value = self.env.get(name)
        return self.args.get(name) if value is None else value

    def names(self) -> Iterable[str]:
        """Everything that can be named, for suggestions."""
        return (*self.env, *self.args)

    def copy(self) -> Scope:
        """For a stage that continues this one."""
        return Scope(dict(self.env), dict(self.args))


def platform_values(request: PlanRequest) -> dict[str, str]:
    """The automatic platform arguments and TARGETSTAGE, overridable by build arguments."""
    build = request.build_platform or host_platform()
    target = request.platform or build
    values: dict[str, str] = {}
    for side, platform in (("BUILD", build), ("TARGET", target)):
        values |= _of_platform(side, platform)
    values["TARGETSTAGE"] = request.target or "default"
    return values


def _of_platform(side: str, platform: Platform) -> dict[str, str]:
    return {
        f"{side}PLATFORM": str(platform),
        f"{side}OS": platform.os,
        f"{side}OSVERSION": platform.os_version,
        f"{side}ARCH": platform.architecture,
        f"{side}VARIANT": platform.variant,
    }


def proxy_variables(build_args: dict[str, str]) -> tuple[str, ...]:
    """The predefined proxy arguments as given, each in upper and in lower case."""
    found: dict[str, str] = {}
    for name in _PROXIES:
        value = build_args.get(name, build_args.get(name.lower()))
        if value is not None:
            found[name] = value
            found[name.lower()] = build_args.get(name.lower(), value)
    return tuple(f"{name}={value}" for name, value in found.items())
