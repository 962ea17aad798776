"""The native way to start: namespaces, mounts and privileges entered here, then exec.

``Inside`` is the life of the new process between fork and exec: first process of its pid namespace,
still privileged, still seeing the host's files until ``pivot_root``. It has two parts: ``prepare``
does what the template says, mostly before anybody asks; ``become`` does the rest for one run.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from slipform.core import errors
from slipform.core.execution import ExecutableNotFound, ExecutableNotRunnable
from slipform.core.linux import cgroups, mountapi, namespaces, process, seccomp
from slipform.drivers.executor import channel, filesystem
from slipform.drivers.executor.template import TOPS

if TYPE_CHECKING:
    import socket

READY: Final = b"\n"
"""What the monitor hears first, unless preparing has failed."""
_NOTHING: Final = cgroups.Group(())


@dataclass(slots=True)
class Inside:
    """The new process.

    Args:
        template: what ``template.split`` took out of the spec.
        stage: a directory that holds one for each of the template's tops.
        monitor: the socket to the monitor, on descriptor 3. It closes when the program runs.
    """

    template: dict[str, Any]
    stage: str
    monitor: socket.socket
    doing: str = "fork"
    order: dict[str, Any] = field(default_factory=dict)
    group: cgroups.Group = _NOTHING
    root: int = -1
    stdio: list[int] = field(default_factory=list)
    _tops: dict[str, int] = field(default_factory=dict)
    _filter: bytes = b""

    @property
    def spec(self) -> dict[str, Any]:
        """The rest of the spec."""
        spec: dict[str, Any] = self.order["spec"]
        return spec

    def live(self) -> NoReturn:
        """Turn this process into the one that will be asked for, or report why not."""
        try:
            self.prepare()
            self.monitor.sendall(READY)
            self.become()
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
        self.monitor.sendall(json.dumps({"error": kind, "message": message}).encode())

    def prepare(self) -> None:
        """All that does not depend on the run: namespaces, system mounts, the bounding set."""
        process.die_with_parent()
        os.setsid()
        os.umask(0o022)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self.doing = "namespaces"
        self._unshare()
        self.doing = "mounts"
        self._stage()
        self.doing = "privileges"
        process.limit_bounding(self.template["bounding"])
        self._filter = base64.b64decode(self.template.get("seccomp") or "")

    def _unshare(self) -> None:
        kinds = self.template["namespaces"]
        flags = 0
        for kind in kinds:
            flags |= namespaces.BY_NAME[kind]
        # The cgroup namespace shows the groups of the one who makes it: that must wait for them.
        namespaces.unshare(flags & ~(namespaces.CLONE_NEWPID | namespaces.CLONE_NEWCGROUP))
        if "network" in kinds:
            namespaces.loopback_up()

    def _stage(self) -> None:
        """Mount aside what will be moved into the root."""
        stage = self.stage
        for mount in self.template["mounts"]:
            target = mount["destination"]
            filesystem.mount(stage, mount, _NOTHING)
            if target == "/dev":
                filesystem.populate_dev(
                    stage, self.template["devices"], guarded=self.template["guarded"]
                )
            if target[1:] in TOPS:
                self._tops[target] = os.open(f"{stage}{target}", os.O_PATH | os.O_CLOEXEC)
        _set_kernel_parameters(stage, self.template)
        _hide(stage, self.template)

    def become(self) -> NoReturn:
        """Wait for the order to run something, and do it."""
        received = channel.receive(self.monitor)
        if received is None:
            os._exit(0)
        self.order, (self.root, *self.stdio) = json.loads(received[0]), received[1]
        self._enter()
        self._exec()

    def _enter(self) -> None:
        self.doing = "cgroup"
        joined, own = self.order["groups"]
        self.group = cgroups.Group(tuple(map(Path, joined)), tuple(map(Path, own)))
        self.group.enter()
        self.doing = "namespaces"
        if "cgroup" in self.template["namespaces"]:
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)
        if "uts" in self.template["namespaces"] and self.spec.get("hostname"):
            namespaces.sethostname(self.spec["hostname"])
        self.doing = "mounts"
        place = os.open(self.order["root"], os.O_PATH | os.O_DIRECTORY)
        mountapi.move_mount(self.root, place)
        os.fchdir(self.root)
        self._mount()
        self.doing = "pivot_root"
        os.fchdir(self.root)
        namespaces.pivot_root(".", ".")
        mountapi.umount(".", mountapi.MNT_DETACH)
        os.chdir("/")
        self.doing = "working directory"
        self._change_directory()
        self.doing = "limits"
        self._limit()
        self.doing = "privileges"
        self._drop_privileges()

    def _mount(self) -> None:
        root = str(self.order["root"])
        linux = self.spec["linux"]
        for target, top in self._tops.items():
            filesystem.move(root, target, top)
        for mount in self.spec["mounts"]:
            filesystem.mount(root, mount, self.group)
            if mount["destination"] == "/dev":
                filesystem.populate_dev(
                    root, self.template["devices"], guarded=self.template["guarded"]
                )
        _set_kernel_parameters(root, linux)
        _hide(root, linux)
        attributes = 0 if self.template["guarded"] else mountapi.MOUNT_ATTR_NODEV
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

    def _drop_privileges(self) -> None:
        wanted = self.spec["process"]
        sets = wanted["capabilities"]
        user = wanted["user"]
        for fd in self.stdio:
            if not stat.S_ISCHR(os.fstat(fd).st_mode):
                # So that /dev/stdout can be opened by name, whoever the user is.
                os.fchown(fd, user["uid"], user["gid"])
        if self._filter and not wanted.get("noNewPrivileges"):
            seccomp.load(self._filter)
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
            if self._filter:
                seccomp.load(self._filter)

    def _exec(self) -> NoReturn:
        wanted = self.spec["process"]
        env = dict(entry.split("=", 1) for entry in wanted["env"] if "=" in entry)
        for number, fd in enumerate(self.stdio):
            os.dup2(fd, number)
        os.closerange(self.monitor.fileno() + 1, 1 << 20)
        _execute(wanted["args"], env, self.template["path"])


def _set_kernel_parameters(root: str, linux: dict[str, Any]) -> None:
    for name, value in (linux.get("sysctl") or {}).items():
        with open(f"{root}/proc/sys/{name.replace('.', '/')}", "w", encoding="ascii") as f:
            f.write(value)


def _hide(root: str, linux: dict[str, Any]) -> None:
    for path in linux.get("readonlyPaths") or ():
        filesystem.make_read_only(root, path)
    for path in linux.get("maskedPaths") or ():
        filesystem.mask(root, path)


def _execute(args: list[str], env: dict[str, str], default_path: str) -> NoReturn:
    """Find the executable as docker does, and become it."""
    name = args[0]
    if "/" in name:
        candidates = [name]
    else:
        directories = env.get("PATH", default_path).split(":")
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
