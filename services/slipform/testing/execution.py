"""The contract of ``Executor``: what every driver, and the proxy, must do alike.

Subclass ``ExecutorContract`` and supply the fixture ``world``. The tests need root and a static
busybox.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from slipform.core.execution import (
    ExecutableNotFound,
    ExecutableNotRunnable,
    Exited,
    Network,
    Output,
    Resources,
    Started,
    Stream,
)
from slipform.core.mounts import Mount
from slipform.testing.execution_sandbox import SandboxContract
from slipform.testing.execution_world import ExecutionWorld, collect, listing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.execution import RunEvent, RunHandle

__all__ = ["ExecutionWorld", "ExecutorContract"]


class OutputContract:
    """What a process writes, and how it ends."""

    def test_output_keeps_its_streams_apart(self, world: ExecutionWorld) -> None:
        ran = world.shell("echo out; echo err >&2; printf last")
        assert (ran.stdout, ran.stderr) == ("out\nlast", "err\n")
        assert ran.exited == Exited(0)

    def test_output_comes_while_the_process_runs(self, world: ExecutionWorld) -> None:
        handle = world.executor.run(
            world.request("/bin/sh", "-c", "echo one; read x; echo got $x", open_stdin=True)
        )
        events = iter(handle)
        assert isinstance(next(events), Started)
        assert next(events) == Output(Stream.STDOUT, b"one\n")
        handle.write_stdin(b"two\n")
        assert next(events) == Output(Stream.STDOUT, b"got two\n")
        assert list(events) == [Exited(0)]

    def test_large_output_is_complete_and_in_order(self, world: ExecutionWorld) -> None:
        ran = world.shell("seq 1 100000")
        assert ran.lines == [str(n) for n in range(1, 100001)]

    def test_chunks_are_bounded(self, world: ExecutionWorld) -> None:
        request = world.request("/bin/dd", "if=/dev/zero", "bs=64k", "count=32")
        sizes = [len(e.data) for e in world.executor.run(request) if isinstance(e, Output)]
        assert max(sizes) <= 64 << 10

    @pytest.mark.parametrize("code", [1, 3, 127, 255])
    def test_exit_code(self, world: ExecutionWorld, code: int) -> None:
        assert world.shell(f"exit {code}").exited == Exited(code)

    def test_death_by_signal_is_told_apart_from_an_exit_code(self, world: ExecutionWorld) -> None:
        handle = world.executor.run(world.request("/bin/sleep", "1000"))
        handle.signal(9)
        assert collect(handle).exited == Exited(137, signal=9)

    def test_a_signal_reaches_the_process(self, world: ExecutionWorld) -> None:
        script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
        handle = world.executor.run(world.request("/bin/sh", "-c", script))
        events = iter(handle)
        assert [next(events), next(events)][1] == Output(Stream.STDOUT, b"ready\n")
        handle.signal(15)
        assert list(events) == [Output(Stream.STDOUT, b"caught\n"), Exited(5)]

    def test_an_impossible_signal_is_refused(self, world: ExecutionWorld) -> None:
        handle = world.executor.run(world.request("/bin/true"))
        with pytest.raises(InvalidArgument):
            handle.signal(0)
        collect(handle)

    def test_signals_and_cancellation_after_the_end_do_nothing(self, world: ExecutionWorld) -> None:
        handle = world.executor.run(world.request("/bin/true"))
        assert collect(handle).exited == Exited(0)
        handle.signal(15)
        handle.cancel()

    def test_stdin_is_given(self, world: ExecutionWorld) -> None:
        ran = world.run("/bin/cat", stdin=b"hello\n" * 50_000)
        assert ran.stdout == "hello\n" * 50_000

    def test_stdin_is_empty_by_default(self, world: ExecutionWorld) -> None:
        assert world.run("/bin/cat").stdout == ""

    def test_stdin_can_be_fed_and_closed(self, world: ExecutionWorld) -> None:
        handle = world.executor.run(world.request("/bin/wc", "-c", open_stdin=True))
        for _ in range(4):
            handle.write_stdin(b"x" * 100_000)
        handle.close_stdin()
        assert collect(handle).stdout.strip() == "400000"

    def test_stdin_that_was_not_asked_for_is_refused(self, world: ExecutionWorld) -> None:
        handle = world.executor.run(world.request("/bin/true"))
        with pytest.raises(FailedPrecondition):
            handle.write_stdin(b"x")
        collect(handle)


class LifetimeContract:
    """Timeouts, cancellation, children, ids."""

    def test_a_timeout_kills_the_children_too(self, world: ExecutionWorld) -> None:
        # Descendants hold the output pipes: the run can't end before all of them are dead.
        script = "sleep 1000 & (setsid sleep 1000 &) ; sleep 1000"
        ran = world.shell(script, timeout_s=0.3)
        assert ran.exited == Exited(137, signal=9, timed_out=True)

    def test_a_timeout_that_is_not_reached_changes_nothing(self, world: ExecutionWorld) -> None:
        assert world.shell("exit 2", timeout_s=60).exited == Exited(2)

    def test_cancellation_from_another_thread(self, world: ExecutionWorld) -> None:
        handle = world.executor.run(
            world.request("/bin/sh", "-c", "echo up; sleep 1000 & wait", timeout_s=60)
        )
        events = list(_cancel_at_output(handle))
        assert events[-1] == Exited(137, signal=9, cancelled=True)

    def test_background_children_die_with_the_process(self, world: ExecutionWorld) -> None:
        ran = world.shell("(setsid sleep 1000 >/dev/null 2>&1 &); (trap '' TERM; sleep 1000 &)")
        assert ran.exited == Exited(0)

    def test_an_iterator_closed_early_kills(self, world: ExecutionWorld) -> None:
        request = world.request("/bin/sleep", "1000")
        events = iter(world.executor.run(request))
        started = next(events)
        assert isinstance(started, Started)
        events.close()  # type: ignore[attr-defined]
        # Its id is free again as soon as nothing of it is left.
        for attempt in itertools.count():
            try:
                ran = world.run("/bin/true", id=request.id)
            except AlreadyExists:
                assert attempt < 10_000
            else:
                assert ran.exited == Exited(0)
                return

    def test_an_id_that_runs_is_taken(self, world: ExecutionWorld) -> None:
        world.share_root()
        request = world.request("/bin/sleep", "1000")
        handle = world.executor.run(request)
        with pytest.raises(AlreadyExists):
            collect(world.executor.run(request))
        handle.cancel()
        assert collect(handle).exited.cancelled

    @pytest.mark.parametrize("name", ["", "a/b", "../x", "-x", "a b", "x" * 200])
    def test_a_malformed_id_is_refused(self, world: ExecutionWorld, name: str) -> None:
        with pytest.raises(InvalidArgument):
            collect(world.executor.run(world.request("/bin/true", id=name)))

    def test_many_at_once(self, world: ExecutionWorld) -> None:
        world.share_root()
        handles = [world.executor.run(world.request("/bin/echo", str(n))) for n in range(12)]
        assert [collect(handle).stdout for handle in handles] == [f"{n}\n" for n in range(12)]

    def test_many_threads(self, world: ExecutionWorld) -> None:
        world.share_root()
        seen: list[str] = []

        def work(number: int) -> None:
            seen.extend(world.run("/bin/echo", f"{number}.{n}").stdout for n in range(3))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen) == sorted(f"{a}.{b}\n" for a in range(6) for b in range(3))


class StartContract:
    """What can't be started says why."""

    def test_a_missing_executable(self, world: ExecutionWorld) -> None:
        with pytest.raises(ExecutableNotFound, match="nosuch"):
            world.run("nosuch")
        with pytest.raises(ExecutableNotFound, match="/bin/nosuch"):
            world.run("/bin/nosuch")

    def test_a_missing_interpreter(self, world: ExecutionWorld) -> None:
        script = world.root / "bin" / "script"
        script.write_text("#!/bin/nosuch\n")
        script.chmod(0o755)
        with pytest.raises(ExecutableNotFound):
            world.run("/bin/script")

    def test_a_file_that_is_not_executable(self, world: ExecutionWorld) -> None:
        (world.root / "bin" / "data").write_text("text")
        with pytest.raises(ExecutableNotRunnable):
            world.run("/bin/data")

    def test_a_directory(self, world: ExecutionWorld) -> None:
        with pytest.raises(ExecutableNotRunnable):
            world.run("/root")

    def test_a_file_of_no_known_format(self, world: ExecutionWorld) -> None:
        program = world.root / "bin" / "odd"
        program.write_bytes(b"\0\1\2\3")
        program.chmod(0o755)
        with pytest.raises(ExecutableNotRunnable):
            world.run("/bin/odd")

    def test_a_failed_start_leaves_no_trace(self, world: ExecutionWorld) -> None:
        before = listing(world.root)
        with pytest.raises(NotFound):
            world.run("nosuch")
        assert listing(world.root) == before

    def test_no_arguments(self, world: ExecutionWorld) -> None:
        with pytest.raises(InvalidArgument):
            world.run()

    def test_a_missing_root(self, world: ExecutionWorld) -> None:
        rootfs = (Mount("bind", str(world.root / "nosuch"), "", ("rbind",)),)
        with pytest.raises(NotFound) as caught:
            world.run("/bin/true", rootfs=rootfs)
        assert not isinstance(caught.value, ExecutableNotFound)

    def test_the_executable_is_found_in_the_path_given(self, world: ExecutionWorld) -> None:
        (world.root / "opt").mkdir()
        (world.root / "opt" / "tool").symlink_to("/bin/busybox")
        assert world.run("tool", env=("PATH=/nowhere:/opt",)).exited.code == 127  # busybox's own
        with pytest.raises(ExecutableNotFound):
            world.run("tool", env=("PATH=/nowhere",))


class ProcessContract:
    """Environment, directory, user."""

    def test_environment_is_what_was_given(self, world: ExecutionWorld) -> None:
        ran = world.run("/bin/env", env=("PATH=/bin", "A=b=c", "EMPTY=", "U=ü"))
        assert {"PATH=/bin", "A=b=c", "EMPTY=", "U=ü", "HOME=/root"} == {*ran.lines}

    def test_home_comes_from_passwd_unless_given(self, world: ExecutionWorld) -> None:
        assert "HOME=/home/app" in world.run("/bin/env", user="app").lines
        assert "HOME=/x" in world.run("/bin/env", user="app", env=("HOME=/x",)).lines

    def test_the_directory_is_made_for_the_user(self, world: ExecutionWorld) -> None:
        ran = world.run("/bin/pwd", cwd="/work/deep", user="app")
        assert ran.lines == ["/work/deep"]
        made = (world.root / "work" / "deep").stat()
        assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (1000, 1000, 0o755)

    def test_a_directory_that_exists_is_left_alone(self, world: ExecutionWorld) -> None:
        (world.root / "work").mkdir(mode=0o711)
        world.run("/bin/true", cwd="/work", user="app")
        found = (world.root / "work").stat()
        assert (found.st_uid, found.st_mode & 0o7777) == (0, 0o711)

    def test_a_relative_directory_is_refused(self, world: ExecutionWorld) -> None:
        with pytest.raises(InvalidArgument):
            world.run("/bin/true", cwd="work")

    @pytest.mark.parametrize(
        ("user", "uid", "gid", "groups"),
        [
            ("", 0, 0, {0, 10}),
            ("root", 0, 0, {0, 10}),
            ("app", 1000, 1000, {1000, 50}),
            ("1000", 1000, 1000, {1000, 50}),
            ("app:staff", 1000, 50, {50}),
            ("app:1001", 1000, 1001, {1001}),
            ("1234", 1234, 0, {0}),
            ("1234:1234", 1234, 1234, {1234}),
            ("1234:staff", 1234, 50, {50}),
            (":50", 0, 50, {50}),
        ],
    )
    def test_users(
        self, world: ExecutionWorld, user: str, uid: int, gid: int, groups: set[int]
    ) -> None:
        ran = world.shell("id -u; id -g; id -G", user=user)
        assert ran.lines[:2] == [str(uid), str(gid)]
        assert {*map(int, ran.lines[2].split())} == groups

    @pytest.mark.parametrize(
        "user", ["nosuch", "app:nosuch", "99999999999", "1000:99999999999", "-1"]
    )
    def test_unknown_users_are_refused(self, world: ExecutionWorld, user: str) -> None:
        with pytest.raises(InvalidArgument):
            world.run("/bin/true", user=user)

    def test_a_root_without_passwd_has_numbers_only(self, world: ExecutionWorld) -> None:
        (world.root / "etc" / "passwd").unlink()
        (world.root / "etc" / "group").unlink()
        assert world.run("/bin/id", "-u", user="7").lines == ["7"]
        assert world.run("/bin/id", "-u").lines == ["0"]

    def test_hostile_passwd_files(self, world: ExecutionWorld, tmp_path: Path) -> None:
        passwd = world.root / "etc" / "passwd"
        outside = tmp_path / "outside"
        outside.write_text("evil:x:0:0::/:\n")
        passwd.unlink()
        passwd.symlink_to(outside)
        with pytest.raises(InvalidArgument):
            world.run("/bin/true", user="evil")
        passwd.unlink()
        os.mkfifo(passwd)
        with pytest.raises(InvalidArgument, match="regular"):
            world.run("/bin/true", user="app")

    def test_standard_streams_can_be_opened_by_name(self, world: ExecutionWorld) -> None:
        ran = world.shell("echo a >/dev/stdout; echo b >/dev/stderr", user="app")
        assert (ran.stdout, ran.stderr) == ("a\n", "b\n")


class MountContract:
    """Mounts of a request, and what is left of them."""

    def test_a_bind_mount_of_a_directory(self, world: ExecutionWorld, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        mount = Mount("bind", str(tmp_path / "data"), "/mnt/data", ("rbind", "rw"))
        world.shell("echo written >/mnt/data/file", mounts=(mount,))
        assert (tmp_path / "data" / "file").read_text() == "written\n"
        assert not (world.root / "mnt").exists()

    def test_a_read_only_bind_mount_of_a_file(self, world: ExecutionWorld, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("s3cret")
        mount = Mount("bind", str(tmp_path / "secret"), "/run/secrets/s", ("bind", "ro"))
        ran = world.shell("cat /run/secrets/s; echo x >/run/secrets/s", mounts=(mount,))
        assert ran.stdout == "s3cret"
        assert ran.exited.code != 0
        assert (tmp_path / "secret").read_text() == "s3cret"
        assert not (world.root / "run").exists()

    def test_later_mounts_lie_over_earlier_ones(
        self, world: ExecutionWorld, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("below")
        mounts = (
            Mount("tmpfs", "tmpfs", "/cache", ("size=1m",)),
            Mount("bind", str(tmp_path / "file"), "/cache/a/file", ("bind", "ro")),
        )
        assert world.shell("cat /cache/a/file", mounts=mounts).stdout == "below"
        assert not (world.root / "cache").exists()

    def test_a_link_of_the_root_leads_no_mount_out(
        self, world: ExecutionWorld, tmp_path: Path
    ) -> None:
        (tmp_path / "victim").mkdir()
        (world.root / "link").symlink_to(tmp_path / "victim")
        mount = Mount("tmpfs", "tmpfs", "/link/sub")
        ran = world.shell("touch /link/sub/x; readlink -f /link/sub", mounts=(mount,))
        assert ran.exited.code == 0
        assert not [*(tmp_path / "victim").iterdir()]

    def test_what_was_made_for_mounts_is_gone(self, world: ExecutionWorld) -> None:
        before = listing(world.root)
        mounts = (Mount("tmpfs", "tmpfs", "/a/b/c"), Mount("tmpfs", "tmpfs", "/etc/x/y"))
        assert world.shell("ls /etc/hosts /a/b/c", mounts=mounts).exited.code == 0
        assert listing(world.root) == before

    def test_results_beside_mounts_stay(self, world: ExecutionWorld) -> None:
        mounts = (Mount("tmpfs", "tmpfs", "/a/b"),)
        world.shell("echo kept >/a/file; echo lost >/a/b/file", mounts=mounts)
        assert (world.root / "a" / "file").read_text() == "kept\n"
        assert [*(world.root / "a" / "b").iterdir()] if (world.root / "a" / "b").exists() else True

    def test_a_dangling_resolv_conf(self, world: ExecutionWorld) -> None:
        link = world.root / "etc" / "resolv.conf"
        link.symlink_to("../run/systemd/resolve/stub-resolv.conf")
        before = listing(world.root)
        assert world.shell("cat /etc/resolv.conf").exited.code == 0
        assert listing(world.root) == before

    def test_a_missing_source_is_refused(self, world: ExecutionWorld, tmp_path: Path) -> None:
        mount = Mount("bind", str(tmp_path / "nosuch"), "/mnt", ("rbind",))
        with pytest.raises(InvalidArgument, match="nosuch"):
            world.run("/bin/true", mounts=(mount,))

    def test_provided_files(self, world: ExecutionWorld) -> None:
        script = "cat /etc/hosts; hostname; cat /etc/hostname"
        ran = world.shell(script, hostname="box", extra_hosts=(("db", "10.1.2.3"),))
        assert "10.1.2.3\tdb" in ran.lines
        assert "127.0.0.1\tlocalhost" in ran.lines
        assert ran.lines[-2:] == ["box", "box"]

    def test_provided_files_are_read_only_unless_they_are_its_own(
        self, world: ExecutionWorld
    ) -> None:
        script = "echo 1.2.3.4 x >>/etc/hosts; tail -1 /etc/hosts"
        assert "1.2.3.4" not in world.shell(script).stdout
        assert world.shell(script, own_files=True).lines == ["1.2.3.4 x"]
        assert "1.2.3.4" not in world.shell("cat /etc/hosts", own_files=True).stdout

    def test_an_extra_host_cannot_write_lines_of_its_own(self, world: ExecutionWorld) -> None:
        with pytest.raises(InvalidArgument):
            world.run("/bin/true", extra_hosts=(("db", "1.2.3.4\n6.6.6.6 bank"),))

    def test_a_read_only_root(self, world: ExecutionWorld) -> None:
        ran = world.shell("touch /file || echo refused; touch /dev/shm/x", read_only=True)
        assert (ran.lines, ran.exited.code) == (["refused"], 0)


class LimitContract:
    """Limits hold; processes die of them, the executor does not."""

    @pytest.mark.may_skip("cgroups: the machine decides")
    def test_memory(self, world: ExecutionWorld) -> None:
        ran = world.shell(
            "dd if=/dev/zero of=/dev/shm/x bs=1M count=60", resources=Resources(memory=24 << 20)
        )
        assert ran.exited.out_of_memory
        assert ran.exited.code != 0
        assert world.run("/bin/true").exited == Exited(0)

    @pytest.mark.may_skip("cgroups: the machine decides")
    def test_processes(self, world: ExecutionWorld) -> None:
        script = "for i in $(seq 30); do sleep 1000 & done"
        ran = world.shell(script, resources=Resources(pids=12), timeout_s=60)
        assert ran.exited.code != 0
        assert "fork" in ran.stderr
        assert not ran.exited.timed_out

    @pytest.mark.may_skip("cgroups: the machine decides")
    def test_cpu_time_can_be_limited(self, world: ExecutionWorld) -> None:
        assert world.run("/bin/true", resources=Resources(cpu_quota_us=50_000)).exited.code == 0

    def test_ulimits(self, world: ExecutionWorld) -> None:
        ran = world.shell("ulimit -n; ulimit -c", resources=Resources(
            ulimits=(("nofile", 77, 77), ("core", 0, 0))))  # fmt: skip
        assert ran.lines == ["77", "0"]

    @pytest.mark.parametrize("limit", [("nosuch", 1, 1), ("nofile", 2, 1)])
    def test_malformed_ulimits(self, world: ExecutionWorld, limit: tuple[str, int, int]) -> None:
        with pytest.raises(InvalidArgument):
            world.run("/bin/true", resources=Resources(ulimits=(limit,)))

    def test_the_size_of_shared_memory(self, world: ExecutionWorld) -> None:
        ran = world.shell("df -k /dev/shm | tail -1", resources=Resources(shm_size=1 << 20))
        assert ran.stdout.split()[1] == "1024"

    def test_network_none_has_loopback_only(self, world: ExecutionWorld) -> None:
        ran = world.shell("ls /sys/class/net; ping -c1 -W5 127.0.0.1", network=Network.NONE)
        assert ran.lines[0] == "lo"
        assert ran.exited.code == 0
        assert world.shell("ls /sys/class/net", network=Network.NONE).stdout.strip() == "lo"


class ExecutorContract(
    OutputContract,
    LifetimeContract,
    StartContract,
    ProcessContract,
    MountContract,
    LimitContract,
    SandboxContract,
):
    """All of it."""


def _cancel_at_output(handle: RunHandle) -> Iterator[RunEvent]:
    for event in handle:
        if isinstance(event, Output):
            threading.Thread(target=handle.cancel).start()
        yield event
