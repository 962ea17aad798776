"""The native way to start: namespaces, mounts and privileges entered here, then exec.

``start`` runs in the monitor. The class ``_Inside`` is the life of the new process between fork
and exec: first process of its pid namespace, still privileged, still seeing the host's files
until ``pivot_root``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import signal
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from slipform.core import errors
from slipform.core.execution import ExecutableNotFound, ExecutableNotRunnable
from slipform.core.linux import cgroups, mountapi, namespaces, process, seccomp
from slipform.core.oci.config import DEFAULT_PATH
from slipform.drivers.executor import filesystem

if TYPE_CHECKING:
    from slipform.drivers.executor.monitor import Request

_FIRST_DESCRIPTOR: Final = 3
_ERRORS: Final = {
    kind.__name__: kind
    for kind in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.PermissionDenied,
        errors.ResourceExhausted,
        errors.Unavailable,
        errors.Unsupported,
        ExecutableNotFound,
        ExecutableNotRunnable,
    )
}


@dataclass(frozen=True, slots=True)
class NativeChild:
    """The first process of a pid namespace; with it ends everything in there."""

    pid: int
    group: cgroups.Group

    def kill(self) -> None:
        """Kill the pid namespace."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def finish(self) -> bool:
        """Remove the cgroups; whether the memory limit killed something."""
        starved = self.group.ran_out_of_memory()
        self.group.remove()
        return starved


def start(request: Request, root: int, stdio: list[int]) -> NativeChild:
    """Start the process of a bundle; returns when it has been exec'd.

    Raises:
        DomainError: it could not be started; nothing is left of it.
    """
    del root  # the new process opens the root again, in its own mount namespace
    settings = request.settings
    rules = request.spec["linux"]["resources"].get("devices") or ()
    sandbox = any(not rule["allow"] for rule in rules)
    group = cgroups.create(
        settings["cgroup"], request.id, request.spec["linux"]["resources"], sandbox=sandbox
    )
    try:
        pid = _spawn(request, stdio, group, guarded=settings["guarded"] or not sandbox)
    except BaseException:
        group.remove()
        raise
    return NativeChild(pid, group)


def _spawn(request: Request, stdio: list[int], group: cgroups.Group, *, guarded: bool) -> int:
    report, reported = os.pipe()
    namespaces.unshare(namespaces.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        os.close(report)
        _Inside(request, stdio, group, reported, guarded).become()
    os.close(reported)
    with open(report, "rb") as f:
        message = f.read()
    if message:
        os.waitpid(pid, 0)
        failure = json.loads(message)
        raise _ERRORS.get(failure["error"], errors.Unsupported)(failure["message"])
    return pid


@dataclass(slots=True)
class _Inside:
    request: Request
    stdio: list[int]
    group: cgroups.Group
    reported: int
    guarded: bool
    doing: str = "fork"

    @property
    def spec(self) -> dict[str, Any]:
        return self.request.spec

    def become(self) -> NoReturn:
        """Turn this process into the one that was asked for, or report why not."""
        try:
            self._enter()
            self._exec()
        except errors.DomainError as e:
            self._report(type(e).__name__, str(e))
        except OSError as e:
            self._report("Unsupported", f"{self.doing}: {e.filename or ''} {e.strerror}")
        except BaseException as e:
            # As in the monitor: a forked child never returns.
            self._report("Unsupported", f"{self.doing}: {e!r}")
        finally:
            os._exit(1)

    def _report(self, kind: str, message: str) -> None:
        os.write(self.reported, json.dumps({"error": kind, "message": message}).encode())

    def _enter(self) -> None:
        process.die_with_parent()
        os.setsid()
        os.umask(0o022)
        self.doing = "cgroup"
        self.group.enter()
        self.doing = "namespaces"
        self._unshare()
        self.doing = "mounts"
        self._mount()
        self.doing = "pivot_root"
        os.chdir(self.request.root)
        namespaces.pivot_root(".", ".")
        mountapi.umount(".", mountapi.MNT_DETACH)
        os.chdir("/")
        self.doing = "working directory"
        self._change_directory()
        self.doing = "limits"
        self._limit()
        self.doing = "privileges"
        self._drop_privileges()

    def _unshare(self) -> None:
        kinds = [entry["type"] for entry in self.spec["linux"]["namespaces"]]
        flags = 0
        for kind in kinds:
            flags |= namespaces.BY_NAME[kind]
        namespaces.unshare(flags & ~namespaces.CLONE_NEWPID)
        if "uts" in kinds and self.spec.get("hostname"):
            namespaces.sethostname(self.spec["hostname"])
        if "network" in kinds:
            namespaces.loopback_up()

    def _mount(self) -> None:
        root = self.request.root
        linux = self.spec["linux"]
        for mount in self.spec["mounts"]:
            filesystem.mount(root, mount, self.group)
            if mount["destination"] == "/dev":
                filesystem.populate_dev(root, linux.get("devices") or (), guarded=self.guarded)
        for name, value in (linux.get("sysctl") or {}).items():
            with open(f"{root}/proc/sys/{name.replace('.', '/')}", "w", encoding="ascii") as f:
                f.write(value)
        for path in linux.get("readonlyPaths") or ():
            filesystem.make_read_only(root, path)
        for path in linux.get("maskedPaths") or ():
            filesystem.mask(root, path)
        attributes = 0 if self.guarded else mountapi.MOUNT_ATTR_NODEV
        if self.spec["root"].get("readonly"):
            attributes |= mountapi.MOUNT_ATTR_RDONLY
        if attributes:
            filesystem.restrict(root, attributes)

    def _change_directory(self) -> None:
        cwd = self.spec["process"]["cwd"]
        user = self.spec["process"]["user"]
        made = ""
        for part in cwd.split("/"):
            made += f"{part}/"
            if not os.path.isdir(made):
                try:
                    os.mkdir(made, 0o755)
                    os.chown(made, user["uid"], user["gid"])
                except (FileExistsError, NotADirectoryError) as e:
                    raise errors.InvalidArgument(
                        f"working directory {cwd}: {made.rstrip('/')} is not a directory"
                    ) from e
        os.chdir(cwd)

    def _limit(self) -> None:
        for limit in self.spec["process"].get("rlimits") or ():
            number = process.RLIMITS[limit["type"].removeprefix("RLIMIT_").lower()]
            try:
                resource.setrlimit(number, (limit["soft"], limit["hard"]))
            except (OSError, ValueError) as e:
                wanted = f"{limit['soft']}:{limit['hard']}"
                raise errors.PermissionDenied(f"ulimit {limit['type']}={wanted}: {e}") from e
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)

    def _drop_privileges(self) -> None:
        wanted = self.spec["process"]
        sets = wanted["capabilities"]
        user = wanted["user"]
        for fd in self.stdio:
            if not stat.S_ISCHR(os.fstat(fd).st_mode):
                # So that /dev/stdout can be opened by name, whoever the user is.
                os.fchown(fd, user["uid"], user["gid"])
        filtered = self.request.settings.get("seccomp")
        program = base64.b64decode(filtered) if filtered else b""
        if program and not wanted.get("noNewPrivileges"):
            seccomp.load(program)
        process.limit_bounding(sets.get("bounding") or ())
        if user["uid"] and sets.get("permitted"):
            process.keep_capabilities()
        os.setgroups(user.get("additionalGids") or [])
        os.setresgid(user["gid"], user["gid"], user["gid"])
        os.setresuid(user["uid"], user["uid"], user["uid"])
        process.set_capabilities(
            effective=sets.get("effective") or (),
            permitted=sets.get("permitted") or (),
            inheritable=sets.get("inheritable") or (),
        )
        process.set_ambient(sets.get("ambient") or ())
        process.die_with_parent()
        if wanted.get("noNewPrivileges"):
            process.no_new_privileges()
            if program:
                seccomp.load(program)

    def _exec(self) -> NoReturn:
        wanted = self.spec["process"]
        env = dict(entry.split("=", 1) for entry in wanted["env"] if "=" in entry)
        for number, fd in enumerate(self.stdio):
            os.dup2(fd, number)
        if self.reported != _FIRST_DESCRIPTOR:
            os.dup2(self.reported, _FIRST_DESCRIPTOR, inheritable=False)
            self.reported = _FIRST_DESCRIPTOR
        os.closerange(_FIRST_DESCRIPTOR + 1, 1 << 20)
        _execute(wanted["args"], env)


def _execute(args: list[str], env: dict[str, str]) -> NoReturn:
    """Find the executable as docker does, and become it."""
    name = args[0]
    if "/" in name:
        candidates = [name]
    else:
        directories = env.get("PATH", DEFAULT_PATH).split(":")
        candidates = [os.path.join(directory or ".", name) for directory in directories]
    refused: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, args, env)
        except (FileNotFoundError, NotADirectoryError) as e:
            if os.path.lexists(candidate) and "/" in name:
                raise ExecutableNotFound(
                    f'exec: "{name}": its interpreter or target does not exist'
                ) from e
        except OSError as e:
            refused = refused or e
            if not isinstance(e, PermissionError):
                break
    if refused is not None:
        raise ExecutableNotRunnable(f'exec: "{name}": {refused.strerror}') from refused
    if "/" in name:
        raise ExecutableNotFound(f'exec: "{name}": no such file or directory')
    raise ExecutableNotFound(f'exec: "{name}": executable file not found in $PATH')
