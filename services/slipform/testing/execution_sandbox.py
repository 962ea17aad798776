"""The part of the executor's contract that is about walls: what a process can't see or do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.execution import Security
from slipform.core.linux.process import CAPABILITIES

if TYPE_CHECKING:
    from slipform.testing.execution_world import ExecutionWorld, Ran

DOCKERS: Final = 0xA80425FB
"""Docker's fourteen capabilities."""
_STATUS: Final = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status"


class SandboxContract:
    """Docker's default policy."""

    def test_capabilities_are_dockers(self, world: ExecutionWorld) -> None:
        found = _status(world.shell(_STATUS))
        assert [int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")] == [DOCKERS] * 3
        assert [int(found[name], 16) for name in ("CapInh", "CapAmb")] == [0, 0]
        assert found["NoNewPrivs"] == "0"

    def test_other_users_have_capabilities_to_gain_only(self, world: ExecutionWorld) -> None:
        found = _status(world.shell(_STATUS, user="app"))
        assert int(found["CapBnd"], 16) == DOCKERS
        names = ("CapPrm", "CapEff", "CapInh", "CapAmb")
        assert [int(found[name], 16) for name in names] == [0] * 4

    def test_capabilities_can_be_added_and_dropped(self, world: ExecutionWorld) -> None:
        ran = world.shell(_STATUS, cap_add=("NET_ADMIN",), cap_drop=("CAP_MKNOD", "chown"))
        dropped = _bit("CAP_MKNOD") | _bit("CAP_CHOWN")
        assert int(_status(ran)["CapEff"], 16) == (DOCKERS | _bit("CAP_NET_ADMIN")) & ~dropped
        ran = world.shell(_STATUS, cap_add=("KILL",), cap_drop=("ALL",))
        assert int(_status(ran)["CapBnd"], 16) == _bit("CAP_KILL")

    def test_an_unknown_capability_is_refused(self, world: ExecutionWorld) -> None:
        with pytest.raises(InvalidArgument, match="NOSUCH"):
            world.run("/bin/true", cap_add=("NOSUCH",))

    def test_system_calls_are_filtered(self, world: ExecutionWorld) -> None:
        assert _status(world.shell(_STATUS))["Seccomp"] == "2"
        for call in ("unshare -m true", "mount -t tmpfs x /tmp", "umount /proc", "swapoff /tmp"):
            ran = world.shell(call)
            assert ran.exited.code != 0
            assert "not permitted" in ran.stderr or "permission denied" in ran.stderr, call

    def test_privileged_processes_may_do_everything(self, world: ExecutionWorld) -> None:
        ran = world.shell(
            f"{_STATUS}; mount -t tmpfs x /tmp && unshare -m true && echo done",
            security=Security.INSECURE,
        )
        assert "done" in ran.lines
        assert _status(ran)["Seccomp"] == "0"
        assert int(_status(ran)["CapEff"], 16) & _bit("CAP_SYS_ADMIN")

    def test_only_its_own_processes_are_seen(self, world: ExecutionWorld) -> None:
        ran = world.shell("echo $$; ls -d /proc/[0-9]*")
        assert ran.lines[0] == "1"
        assert len(ran.lines) <= 3

    def test_no_descriptor_leaks_in(self, world: ExecutionWorld) -> None:
        # The shell expands the pattern itself, with one descriptor for reading the directory.
        ran = world.shell("cd /proc/$$/fd; echo *")
        assert {*ran.stdout.split()} <= {"0", "1", "2", "3"}

    def test_devices(self, world: ExecutionWorld) -> None:
        ran = world.shell("ls /dev")
        expected = {"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
                    "stdin", "stdout", "tty", "urandom", "zero"}  # fmt: skip
        assert {*ran.lines} - {"core", "console"} == expected
        script = "echo x >/dev/null && head -c1 /dev/urandom >/dev/zero && ls /dev/pts/ptmx"
        assert world.shell(script).exited.code == 0

    def test_other_devices_cannot_be_opened(self, world: ExecutionWorld) -> None:
        ran = world.shell("mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg")
        assert ran.exited.code != 0
        assert "not permitted" in ran.stderr or "denied" in ran.stderr

    def test_kernel_settings_are_read_only(self, world: ExecutionWorld) -> None:
        for path in ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/profiling"):
            ran = world.shell(f"echo x >{path}")
            assert ran.exited.code != 0, path
            assert "Read-only" in ran.stderr or "nonexistent" in ran.stderr, path

    def test_masked_paths_are_empty(self, world: ExecutionWorld) -> None:
        script = "for p in keys timer_list interrupts; do cat /proc/$p 2>/dev/null; done"
        assert world.shell(f"{script}; ls /sys/firmware /proc/acpi 2>/dev/null").stdout.replace(
            "/sys/firmware:", "").replace("/proc/acpi:", "").strip() == ""  # fmt: skip

    def test_the_hosts_files_are_out_of_reach(self, world: ExecutionWorld) -> None:
        ran = world.shell("cd /; cd ../../..; ls; cat /proc/1/root/etc/passwd | head -1")
        assert "bin" in ran.lines
        assert ran.lines[-1].startswith("root:x:0:0:root:/root")

    def test_mounts_of_the_host_are_not_seen(self, world: ExecutionWorld) -> None:
        ran = world.shell("cut -d' ' -f5 /proc/self/mountinfo")
        allowed = ("/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
        assert [m for m in ran.lines if m != "/" and not m.startswith(allowed)] == []

    def test_shared_memory_is_its_own(self, world: ExecutionWorld) -> None:
        world.shell("echo x >/dev/shm/mine")
        assert world.shell("ls /dev/shm").stdout == ""


def _status(ran: Ran) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (
        line.partition(":") for line in ran.lines if ":" in line)}  # fmt: skip


def _bit(name: str) -> int:
    return 1 << CAPABILITIES.index(name)
