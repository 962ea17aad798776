"""RUN mounts, the cache over restarts and deaths, determinism, full disks: in real builds."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from slipform.builder.builder import ImageBuilder
from slipform.content.store import Content
from slipform.core.build import BuildFailed, BuildSucceeded
from slipform.core.linux.mounting import mounted
from slipform.core.mounts import Mount
from slipform.drivers.registry import load
from slipform.executor.execution import Execution
from slipform.frontend.frontend import DockerfileFrontend
from slipform.images.store import Images
from slipform.snapshotter.store import Snapshots
from slipform.testing.building import (
    Site,
    build,
    busybox_members,
    import_rootfs,
    leftovers,
    opened_root,
    write_tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.build import Builder

pytestmark = pytest.mark.root


def open_site(root: Path, snapshot: str = "overlay") -> Site:
    resources = contextlib.ExitStack()
    places = {name: root / name for name in ("content", "snapshots", "executor", "images")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    driver = load("executor", "native")(places["executor"])
    resources.callback(driver.close)  # type: ignore[attr-defined]
    executor = Execution(driver, places["executor"])  # type: ignore[arg-type]
    blobs = load("content", "filesystem")(places["content"])
    content_core = Content(blobs, places["content"] / "metadata.db")  # type: ignore[arg-type]
    resources.callback(content_core.close)
    content = content_core.tenant("default")
    layers = load("snapshot", snapshot)(places["snapshots"])
    snapshots = Snapshots(places["snapshots"], layers, content)  # type: ignore[arg-type]
    resources.callback(snapshots.close)
    snapshotter = snapshots.tenant("default")
    images = Images(places["images"] / "images.db", content, snapshotter)
    resources.callback(images.close)
    frontend = DockerfileFrontend()

    def new_builder() -> Builder:
        made = ImageBuilder(root / "builder", frontend, content, snapshotter, executor, images)
        return cast("Builder", made)

    return Site(root, frontend, content, snapshotter, executor, images, new_builder, resources)


@contextlib.contextmanager
def opened(site: Site) -> Iterator[Builder]:
    builder = site.new_builder()
    try:
        yield builder
    finally:
        builder.close()  # type: ignore[attr-defined]


@pytest.fixture(params=["overlay", "copy"])
def site(request: pytest.FixtureRequest, tmp_path: Path, busybox: Path) -> Iterator[Site]:
    made = open_site(tmp_path / "root", request.param)
    try:
        import_rootfs(made.images, "busybox", busybox_members(busybox))
        yield made
    finally:
        made.close()


@pytest.fixture
def builder(site: Site) -> Iterator[Builder]:
    with opened(site) as made:
        yield made


def test_bind_mount_shows_the_context_and_leaves_no_trace(
    site: Site, builder: Builder, tmp_path: Path
) -> None:
    context = write_tree(tmp_path / "context", {"d/a": "A", "b": "B"})
    text = (
        "FROM busybox\nRUN --mount=target=/src --mount=source=d/a,target=/one"
        " cat /src/d/a /src/b /one\n"
    )
    report = build(builder, text, context)
    assert report.log == "ABA"
    with opened_root(site, report.image) as root:
        assert not (root / "src").exists()
        assert not (root / "one").exists()
    assert build(builder, text, context).ran() == []
    (context / "b").write_text("C")
    assert build(builder, text, context).log == "ACA"


def test_bind_mount_hides_ignored_files_and_is_read_only(builder: Builder, tmp_path: Path) -> None:
    files = {"a": "A", "secret": "S", ".dockerignore": "secret\n"}
    context = write_tree(tmp_path / "context", files)
    text = "FROM busybox\nRUN --mount=target=/src ls /src; echo x > /src/a || echo refused\n"
    log = build(builder, text, context).log
    assert "secret" not in log
    assert "refused" in log
    assert (context / "a").read_text() == "A"


def test_writes_to_a_writable_bind_mount_are_thrown_away(builder: Builder, tmp_path: Path) -> None:
    context = write_tree(tmp_path / "context", {"a": "A"})
    text = (
        "FROM busybox\nRUN --mount=target=/src,rw echo x > /src/a && cat /src/a\n"
        "RUN --mount=target=/src cat /src/a\n"
    )
    assert build(builder, text, context).log == "x\nA"
    assert (context / "a").read_text() == "A"


@pytest.mark.parametrize("source", ["/", "/out", "/out/f"])
def test_bind_mount_of_a_stage(builder: Builder, source: str) -> None:
    text = (
        "FROM busybox AS made\nRUN mkdir /out && echo made > /out/f\nFROM busybox\n"
        f"RUN --mount=from=made,source={source},target=/m /bin/busybox find /m -name f -type f"
        " | /bin/busybox xargs cat; cat /m/out/f /m/f 2>/dev/null || cat /m 2>/dev/null || true\n"
    )
    assert "made" in build(builder, text).log


def test_cache_mount_outlives_builds_and_is_in_no_layer(site: Site, builder: Builder) -> None:
    line = "RUN --mount=type=cache,target=/c sh -c 'ls /c; echo {0} > /c/{0}'\n"
    build(builder, f"FROM busybox\n{line.format(1)}")
    report = build(builder, f"FROM busybox\n{line.format(2)}")
    assert report.log == "1\n"
    with opened_root(site, report.image) as root:
        assert not (root / "c").exists()


def test_tmpfs_mount_is_empty_and_gone(site: Site, builder: Builder) -> None:
    report = build(builder, "FROM busybox\nRUN --mount=type=tmpfs,target=/t echo 1 > /t/x; ls /t\n")
    assert report.log == "x\n"
    with opened_root(site, report.image) as root:
        assert not (root / "t").exists()


def test_heredoc_script_with_its_own_interpreter(site: Site, builder: Builder) -> None:
    text = "FROM busybox\nRUN <<EOF\n#!/bin/busybox sh\necho from $0\nEOF\n"
    report = build(builder, text)
    assert report.log.startswith("from /dev/pipes/")
    with opened_root(site, report.image) as root:
        assert not (root / "dev/pipes").exists()


def test_run_as_a_user_in_a_new_workdir(site: Site, builder: Builder) -> None:
    text = "FROM busybox\nUSER app\nWORKDIR /made\nRUN id -u; id -g; echo 1 > mine\n"
    report = build(builder, text)
    assert report.log == "1000\n1001\n"
    with opened_root(site, report.image) as root:
        assert (root / "made").stat().st_uid == 1000


def test_missing_executable_is_docker_s_127(builder: Builder) -> None:
    failure = build(builder, 'FROM busybox\nRUN ["/nope"]\n').failure
    assert failure.exit_code == 127
    assert "/nope" in failure.message


def test_timeout_kills_and_says_so(site: Site, builder: Builder) -> None:
    failure = build(builder, "FROM busybox\nRUN sleep 600\n", step_timeout_s=0.3).failure
    assert "killed after 0.3 s" in failure.message
    assert leftovers(site) == []


def test_independent_stages_run_at_the_same_time(builder: Builder) -> None:
    # Each waits for the other's mark in a shared cache mount: one after the other would not end.
    wait = "until [ -e /c/{1} ]; do sleep 0.05; done"
    mount = "--mount=type=cache,id=meet,target=/c"
    text = (
        f"FROM busybox AS a\nRUN {mount} echo > /c/a; {wait.format(0, 'b')}; echo > /a\n"
        f"FROM busybox AS b\nRUN {mount} echo > /c/b; {wait.format(0, 'a')}; echo > /b\n"
        "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    assert isinstance(build(builder, text, step_timeout_s=60.0).last, BuildSucceeded)


def test_failure_of_one_stage_stops_the_others(site: Site, builder: Builder) -> None:
    text = (
        "FROM busybox AS slow\nRUN sleep 600\nFROM busybox AS bad\nRUN sleep 0.2; exit 4\n"
        "FROM scratch\nCOPY --from=slow / /\nCOPY --from=bad / /\n"
    )
    report = build(builder, text)
    assert report.failure.exit_code == 4
    assert {"cancelled", "failed"} <= {state.value for state in report.states().values()}
    assert leftovers(site) == []


def test_cache_survives_a_restart(site: Site, tmp_path: Path) -> None:
    context = write_tree(tmp_path / "context", {"a": "1"})
    text = "FROM busybox\nCOPY a /\nRUN cat /a\n"
    with opened(site) as builder:
        first = build(builder, text, context).image
    with opened(site) as builder:
        report = build(builder, text, context)
        assert report.ran() == []
        assert report.image == first


def test_record_whose_snapshot_is_gone_is_a_miss(site: Site, builder: Builder) -> None:
    text = "FROM busybox\nRUN echo 1 > /x\n"
    build(builder, text, None, "gone")
    for lease in site.snapshotter.list_leases():
        if lease.id.startswith("cache/"):
            site.snapshotter.delete_lease(lease.id)
    site.images.remove("gone")
    site.snapshotter.collect()
    report = build(builder, text)
    assert len(report.ran()) == 1
    assert isinstance(report.last, BuildSucceeded)


def test_both_snapshot_drivers_give_the_same_digests(tmp_path: Path, busybox: Path) -> None:
    context = write_tree(tmp_path / "context", {"a/b/c": "1", "x": "2"})
    (context / "l").symlink_to("a")
    text = (
        "FROM busybox AS one\nWORKDIR /w/o\nCOPY . .\nRUN rm -r a && mkdir a && echo 2 > a/z\n"
        "FROM busybox\nCOPY --from=one /w /w\nRUN rm /w/o/x; /bin/busybox chmod 700 /w\n"
    )
    digests = set()
    for driver in ("overlay", "copy"):
        site = open_site(tmp_path / driver, driver)
        try:
            import_rootfs(site.images, "busybox", busybox_members(busybox))
            with opened(site) as builder:
                report = build(builder, text, context, source_date_epoch=1_700_000_000)
                # The imported base tells when it was imported; everything else must agree.
                details = site.images.get(str(report.image.manifest_digest))
                digests.add(tuple(layer.digest for layer in details.layers))
        finally:
            site.close()
    assert len(digests) == 1


_DIES = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("case", sys.argv[1])
case = importlib.util.module_from_spec(spec)
spec.loader.exec_module(case)
from slipform.core.build import BuildRequest, LogEvent
site = case.open_site(Path(sys.argv[2]))
builder = site.new_builder()
text = b"FROM busybox\\nRUN echo kept > /kept\\nRUN echo ready; sleep 600\\n"
for event in builder.build(BuildRequest(dockerfile=text)):
    if isinstance(event, LogEvent):
        print("ready", flush=True)
"""


def test_builder_killed_in_mid_step_leaves_nothing_and_loses_nothing(
    tmp_path: Path, busybox: Path
) -> None:
    root = tmp_path / "root"
    site = open_site(root)
    import_rootfs(site.images, "busybox", busybox_members(busybox))
    site.close()
    command = [sys.executable, "-c", _DIES, str(Path(__file__)), str(root)]
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    site = open_site(root)
    try:
        with opened(site) as builder:
            assert leftovers(site) == []
            assert list((root / "builder/builds").iterdir()) == []
            report = build(builder, "FROM busybox\nRUN echo kept > /kept\nRUN true\n")
            assert [name for name in report.ran() if "kept" in name] == []
    finally:
        site.close()


def test_full_disk_is_a_failure_and_the_next_build_works(tmp_path: Path, busybox: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    context = write_tree(tmp_path / "context", {"big": b"x" * (24 << 20), "little": "1"})
    with mounted([Mount("tmpfs", "tmpfs", "", ("size=24m",))], small):
        site = open_site(small / "root")
        try:
            import_rootfs(site.images, "busybox", busybox_members(busybox))
            with opened(site) as builder:
                last = build(builder, "FROM busybox\nCOPY big /\n", context).last
                assert isinstance(last, BuildFailed)
                assert "space" in last.message
                assert last.source is not None
                last = build(builder, "FROM busybox\nCOPY little /\n", context).last
                assert isinstance(last, BuildSucceeded)
        finally:
            site.close()


def test_no_cache_runs_everything_and_replaces_results(builder: Builder) -> None:
    text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid | /bin/busybox tee /x\n"
    logs = [build(builder, text, no_cache=True).log for _ in range(2)]
    assert logs[0] != logs[1]
    assert build(builder, f"{text}RUN cat /x\n").log == logs[1]
