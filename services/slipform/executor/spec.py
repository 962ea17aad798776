"""From a ``RunRequest`` to an OCI runtime-spec: docker's defaults, written down once."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import InvalidArgument
from slipform.core.execution import Network, Security
from slipform.core.linux import devicefilter
from slipform.core.linux.mountoptions import MountOptions
from slipform.core.linux.process import CAPABILITIES, RLIMITS
from slipform.executor import seccomp_policy

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.core.execution import Resources, RunRequest
    from slipform.core.mounts import Mount

DEFAULT_CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID",
    "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip
MASKED: Final = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_UNLIMITED: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class ProvidedFiles:
    """Files that every container gets by bind mount."""

    hosts: Path
    hostname: Path
    resolv_conf: Path
    writable: bool


def write_spec(request: RunRequest, files: ProvidedFiles) -> dict[str, Any]:
    """The ``config.json`` of a run.

    ``process.user`` holds docker's ``user[:group]`` as ``username``: who that is, only the mounted
    root can tell, so drivers settle it (``slipform.core.linux.accounts``).

    Raises:
        InvalidArgument: the request is malformed; says where.
    """
    privileged = request.security is Security.INSECURE
    capabilities = _capabilities(request)
    spec: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": _process(request, capabilities),
        "root": {"path": "rootfs", "readonly": request.read_only},
        "hostname": request.hostname,
        "mounts": [*_mounts(request.resources, files, privileged=privileged),
                   *map(_user_mount, request.mounts)],
        "linux": {
            "namespaces": _namespaces(request),
            "resources": {
                "devices": _device_rules(privileged=privileged),
                **_limits(request.resources),
            },
            "maskedPaths": [] if privileged else list(MASKED),
            "readonlyPaths": [] if privileged else list(READ_ONLY),
            "devices": _host_devices() if privileged else [],
        },
    }  # fmt: skip
    policy = None if privileged else seccomp_policy.policy(capabilities)
    if policy is not None:
        spec["linux"]["seccomp"] = policy
    return spec


def _process(request: RunRequest, capabilities: list[str]) -> dict[str, Any]:
    if not request.args or not request.args[0]:
        raise InvalidArgument("run: args is empty, want the executable and its arguments")
    if not request.cwd.startswith("/"):
        raise InvalidArgument(f"run: working directory {request.cwd!r} is not absolute")
    for text in (*request.args, *request.env, request.cwd, request.user, request.hostname):
        if "\0" in text:
            raise InvalidArgument(f"run: {text!r} holds a NUL character")
    return {
        "terminal": False,
        "user": {"username": request.user},
        "args": list(request.args),
        "env": list(request.env),
        "cwd": request.cwd,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "rlimits": [_rlimit(*limit) for limit in request.resources.ulimits],
        "noNewPrivileges": False,
    }


def _rlimit(name: str, soft: int, hard: int) -> dict[str, Any]:
    if name.lower() not in RLIMITS:
        raise InvalidArgument(f"ulimit {name!r} is not one of {', '.join(sorted(RLIMITS))}")
    soft, hard = (_UNLIMITED if value < 0 else value for value in (soft, hard))
    if soft > hard:
        raise InvalidArgument(f"ulimit {name}: soft limit {soft} is above hard limit {hard}")
    return {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}


def _capabilities(request: RunRequest) -> list[str]:
    """Docker's rules: ``ALL`` in either list, then additions, then removals."""
    added = {_capability(name) for name in request.cap_add}
    dropped = {_capability(name) for name in request.cap_drop}
    if request.security is Security.INSECURE or "ALL" in added:
        chosen = {*CAPABILITIES}
    elif "ALL" in dropped:
        chosen = set()
    else:
        chosen = {*DEFAULT_CAPABILITIES}
    chosen = (chosen | added) - dropped if "ALL" not in dropped else chosen & added | added
    return [name for name in CAPABILITIES if name in chosen]


def _capability(name: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in CAPABILITIES:
        raise InvalidArgument(f"capability {name!r} is not known")
    return full


def _mounts(
    resources: Resources, files: ProvidedFiles, *, privileged: bool
) -> list[dict[str, Any]]:
    guarded = ["nosuid", "noexec", "nodev"]
    access = "rw" if privileged else "ro"
    shm = resources.shm_size or 64 << 20
    bound = ["rbind", "rprivate", "rw" if files.writable else "ro"]
    return [
        _mount("/proc", "proc", "proc", guarded),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts",
               ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("/sys", "sysfs", "sysfs", [*guarded, access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*guarded, access]),
        _mount("/dev/mqueue", "mqueue", "mqueue", guarded),
        _mount("/dev/shm", "tmpfs", "shm", [*guarded, "mode=1777", f"size={shm}"]),  # noqa: S108 - the container's, not ours
        _mount("/etc/resolv.conf", "bind", str(files.resolv_conf), bound),
        _mount("/etc/hostname", "bind", str(files.hostname), bound),
        _mount("/etc/hosts", "bind", str(files.hosts), bound),
    ]  # fmt: skip


def _mount(target: str, fstype: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": fstype, "source": source, "options": options}


def _user_mount(mount: Mount) -> dict[str, Any]:
    if not mount.target.startswith("/") or os.path.normpath(mount.target) == "/":
        raise InvalidArgument(f"mount target {mount.target!r} is not an absolute path below /")
    options = list(mount.options)
    if mount.type in ("bind", "rbind"):
        if not mount.source.startswith("/"):
            raise InvalidArgument(f"mount source {mount.source!r} is not absolute")
        if not os.path.exists(mount.source):
            raise InvalidArgument(f"mount source {mount.source} does not exist")
        parsed = MountOptions.parse(options)
        if not parsed.bind:
            options.insert(0, mount.type)
        if not parsed.propagation:
            options.append("rprivate")
    target = os.path.normpath(mount.target)
    return _mount(f"/{target.lstrip('/')}", mount.type, mount.source, options)


def _namespaces(request: RunRequest) -> list[dict[str, str]]:
    kinds = ["mount", "pid", "ipc", "uts", "cgroup"]
    if request.network is Network.NONE:
        kinds.append("network")
    return [{"type": kind} for kind in kinds]


def _limits(resources: Resources) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if resources.memory:
        limits["memory"] = {"limit": resources.memory, "swap": resources.memory}
    if resources.pids:
        limits["pids"] = {"limit": resources.pids}
    if resources.cpu_quota_us:
        limits["cpu"] = {"quota": resources.cpu_quota_us, "period": resources.cpu_period_us}
    return limits


def _device_rules(*, privileged: bool) -> list[dict[str, Any]]:
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": kind, "access": "m"} for kind in ("c", "b")]
    rules += [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in devicefilter.ALLOWED
    ]
    rules.append({"allow": True, "type": "c", "major": devicefilter.PTS_MAJOR, "access": "rwm"})
    return rules


def _host_devices() -> list[dict[str, Any]]:
    """Every device node of the host outside of file systems that the container has itself."""
    found = []
    for directory, names, files in os.walk("/dev"):
        names[:] = [name for name in names if name not in ("pts", "shm", "mqueue", "fd")]
        for name in files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            if kind in (stat.S_IFCHR, stat.S_IFBLK) and name not in ("console", "ptmx"):
                found.append(
                    {
                        "path": path,
                        "type": "c" if kind == stat.S_IFCHR else "b",
                        "major": os.major(status.st_rdev),
                        "minor": os.minor(status.st_rdev),
                        "fileMode": stat.S_IMODE(status.st_mode),
                        "uid": status.st_uid,
                        "gid": status.st_gid,
                    }
                )
    return found
