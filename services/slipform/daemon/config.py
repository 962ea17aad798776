"""Configuration: a TOML file, then the environment, then the command line."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import InvalidArgument, NotFound
from slipform.core.locations import Locations
from slipform.rpc.tls import TlsFiles, tls_files

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES: Final[tuple[str, ...]] = (
    "content",
    "snapshotter",
    "executor",
    "frontend",
    "images",
    "builder",
)
"""In the order in which they need each other."""

_SERVICE_KEYS: Final = {"address", "driver", "workers"}
_TOP_KEYS: Final = {"root", "address", "idle_timeout_s", "log_level", "tls", *SERVICES}


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One service: where it is, and which driver it uses ("auto" probes)."""

    address: str = ""
    driver: str = "auto"
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a process needs to know before it serves."""

    root: Path
    address: str
    serves: tuple[str, ...] = SERVICES
    idle_timeout_s: float = 0.0
    """Seconds without a call after which the process ends by itself; 0 is never."""
    log_level: str = "WARNING"
    services: Mapping[str, ServiceConfig] = field(default_factory=dict)
    tls: TlsFiles | None = None
    """For every ``dns:`` address, ours and those of other services."""

    def service(self, name: str) -> ServiceConfig:
        """The settings of one service, defaults when the file does not name it."""
        return self.services.get(name, ServiceConfig())

    @property
    def locations(self) -> Locations:
        """Where the data directory keeps its parts."""
        return Locations(self.root)


def default_root(environment: Mapping[str, str]) -> Path:
    """``SLIPFORM_ROOT``, else the system's place for root, else the user's data directory."""
    if named := environment.get("SLIPFORM_ROOT"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/slipform")
    data = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "slipform"


def load_config(
    file: Path | None,
    *,
    environment: Mapping[str, str],
    serves: tuple[str, ...] = (),
    address: str = "",
    idle_timeout_s: float | None = None,
) -> Config:
    """Put the configuration together; what is given here wins over environment and file.

    Raises:
        NotFound: the file does not exist.
        InvalidArgument: malformed TOML, or a key, service or value that does not exist.
    """
    values = {} if file is None else _read(file)
    where = str(file) if file is not None else "configuration"
    _check_keys(values, _TOP_KEYS, where)
    root = Path(environment.get("SLIPFORM_ROOT") or values.get("root") or default_root(environment))
    for name in serves:
        if name not in SERVICES:
            raise InvalidArgument(f'service "{name}": want one of {", ".join(SERVICES)}')
    services = {
        name: _service(values[name], f"{where}: [{name}]") for name in SERVICES if name in values
    }
    if idle_timeout_s is None:
        idle_timeout_s = _seconds(values.get("idle_timeout_s", 0), f"{where}: idle_timeout_s")
    root = root.absolute()
    return Config(
        root=root,
        address=address
        or _own_address(serves, services)
        or environment.get("SLIPFORM_HOST")
        or values.get("address")
        or f"unix:{Locations(root).socket}",
        serves=serves or SERVICES,
        idle_timeout_s=idle_timeout_s,
        log_level=environment.get("SLIPFORM_LOG") or str(values.get("log_level", "WARNING")),
        services=services,
        tls=tls_files(
            values.get("tls"), environment, where=where, base=(file or Path()).absolute().parent
        ),
    )


def _own_address(serves: tuple[str, ...], services: Mapping[str, ServiceConfig]) -> str:
    """A process that serves one service listens where the file says that this service is."""
    if len(serves) != 1:
        return ""
    return services.get(serves[0], ServiceConfig()).address


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as e:
        raise NotFound(f"configuration file {file} does not exist") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InvalidArgument(f"{file}: not valid TOML: {e}") from e


def _service(value: object, where: str) -> ServiceConfig:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where}: want a table, found {type(value).__name__}")
    _check_keys(value, _SERVICE_KEYS, where)
    workers = value.get("workers", 0)
    if not isinstance(workers, int) or workers < 0:
        raise InvalidArgument(f"{where}: workers is {workers!r}, want a whole number from 0")
    return ServiceConfig(str(value.get("address", "")), str(value.get("driver", "auto")), workers)


def _check_keys(values: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise InvalidArgument(f'{where}: unknown key "{key}", want one of {sorted(known)}')


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidArgument(f"{where} is {value!r}, want seconds from 0")
    return float(value)
