"""What tests of building need: a builder on real services, base images, and the contract suite.

``Site`` is everything in one process below one directory. The contract classes want two fixtures:
``site`` (a ``Site``) and ``builder`` (a ``Builder`` on it, direct or over gRPC).
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import threading
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from slipform.core.build import (
    BuildFailed,
    BuildRequest,
    BuildSucceeded,
    LogEvent,
    StepEvent,
    StepState,
)
from slipform.core.errors import InvalidArgument
from slipform.core.folder import Folder
from slipform.core.linux.mounting import mounted
from slipform.core.oci.config import ImageConfig
from slipform.core.patterns import IgnoreMatcher
from slipform.core.snapshots import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from slipform.core.build import Builder, BuildEvent
    from slipform.core.content import ContentStore
    from slipform.core.context import ContextSource
    from slipform.core.execution import Executor
    from slipform.core.images import ImageStore
    from slipform.core.plan import Frontend
    from slipform.core.snapshots import Snapshotter


@dataclass(slots=True)
class Site:
    """Real services; ``new_builder`` makes a builder on its state (again, after ``close``)."""

    state: Path
    frontend: Frontend
    content: ContentStore
    snapshotter: Snapshotter
    executor: Executor
    images: ImageStore
    new_builder: Callable[[], Builder]
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def close(self) -> None:
        """Close what was made for this site."""
        self.resources.close()


@dataclass(frozen=True, slots=True)
class Report:
    """All events of one build, read to the end."""

    events: tuple[BuildEvent, ...]

    @property
    def last(self) -> BuildSucceeded | BuildFailed:
        """How it ended."""
        last = self.events[-1]
        assert isinstance(last, BuildSucceeded | BuildFailed)
        return last

    @property
    def image(self) -> BuildSucceeded:
        """The image; fails the test with the build's message when there is none."""
        assert isinstance(self.last, BuildSucceeded), self.last
        return self.last

    @property
    def failure(self) -> BuildFailed:
        """Why there is no image."""
        assert isinstance(self.last, BuildFailed), self.last
        return self.last

    @property
    def log(self) -> str:
        """Everything that processes wrote."""
        data = b"".join(event.data for event in self.events if isinstance(event, LogEvent))
        return data.decode()

    def states(self) -> dict[str, StepState]:
        """The last state of each step, by name."""
        return {e.name: e.state for e in self.events if isinstance(e, StepEvent)}

    def ran(self) -> list[str]:
        """Names of the steps that were made anew, without bases."""
        done = {e.step for e in self.events if isinstance(e, StepEvent) and e.miss_reason}
        finished = [e for e in self.events if isinstance(e, StepEvent)]
        return [e.name for e in finished if e.state is StepState.DONE and e.step in done]

    def reasons(self) -> list[str]:
        """Why steps missed the cache."""
        return [e.miss_reason for e in self.events if isinstance(e, StepEvent) and e.miss_reason]


def build(
    builder: Builder,
    dockerfile: str | None,
    context: Path | None = None,
    *references: str,
    source: ContextSource | None = None,
    **options: Any,
) -> Report:
    """Build to the end. ``options`` are fields of ``BuildRequest``."""
    request = BuildRequest(
        dockerfile=None if dockerfile is None else dockerfile.encode(),
        local_context=context,
        references=references,
    )
    return Report(tuple(builder.build(replace(request, **options), source)))


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a directory; names that end in ``/`` are directories."""
    for name, data in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    root.mkdir(parents=True, exist_ok=True)
    return root


def import_rootfs(
    images: ImageStore, reference: str, members: Iterable[tuple[str, bytes, int]]
) -> None:
    """Import an image of files, given as (name, data, mode); directories end in ``/``."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data, mode in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = mode
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    images.import_rootfs([archive.getvalue()], reference)


def busybox_members(busybox: Path) -> list[tuple[str, bytes, int]]:
    """A root file system with one static busybox, a few of its names, passwd and group."""
    data = busybox.read_bytes()
    passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
    group = b"root:x:0:\napp:x:1001:\nstaff:x:50:app\n"
    names = ("bin/", "etc/", "tmp/", "root/", "home/", "usr/", "var/")
    members: list[tuple[str, bytes, int]] = [(name, b"", 0o755) for name in names]
    members += [("etc/passwd", passwd, 0o644), ("etc/group", group, 0o644)]
    members.append(("bin/busybox", data, 0o755))
    applets = "sh cat echo ls mkdir rm sleep stat test touch true false id find ln readlink wc"
    members += [
        (f"bin/{applet}", f'#!/bin/busybox sh\nexec /bin/busybox {applet} "$@"\n'.encode(), 0o755)
        for applet in applets.split()
        if applet != "sh"
    ]
    members.append(("bin/sh", data, 0o755))
    return members


@contextlib.contextmanager
def opened_root(site: Site, image: BuildSucceeded) -> Iterator[Path]:
    """The root file system of an image, mounted read-only for the time of the block."""
    unpacked = site.images.unpack(str(image.manifest_digest))
    key = f"test-{uuid.uuid4().hex}"
    mounts = site.snapshotter.view(key, unpacked.snapshot)
    target = site.state / key
    target.mkdir()
    try:
        with mounted(mounts, target):
            yield target
    finally:
        target.rmdir()
        site.snapshotter.remove(key)


def leftovers(site: Site) -> list[str]:
    """Snapshots that are neither committed nor anybody's."""
    kinds = (Kind.ACTIVE, Kind.VIEW)
    return [info.name for kind in kinds for info in site.snapshotter.walk(kind=kind)]


class BuilderContract:
    """What every builder does; wants fixtures ``site`` (with image ``busybox``) and ``builder``."""

    def test_image_has_the_files_config_and_history_it_was_told(
        self, site: Site, builder: Builder, tmp_path: Path
    ) -> None:
        context = write_tree(tmp_path / "context", {"app.txt": "hello"})
        text = (
            "FROM busybox\nWORKDIR /app\nCOPY app.txt .\nENV A=1\n"
            'RUN echo "$A" > made\nCMD ["sh"]\n'
        )
        image = build(builder, text, context, "made:1").image
        details = site.images.get("made:1")
        config = ImageConfig.decode(details.config_bytes)
        assert details.image.id == image.image_id
        assert image.references == ("docker.io/library/made:1",)
        assert config.config.cmd == ("sh",)
        assert config.config.working_dir == "/app"
        assert "A=1" in config.config.env
        assert len([h for h in config.history if not h.empty_layer]) == len(config.diff_ids)
        assert config.created.endswith("Z")
        with opened_root(site, image) as root:
            assert (root / "app/app.txt").read_text() == "hello"
            assert (root / "app/made").read_text() == "1\n"
        assert leftovers(site) == []

    def test_second_build_runs_nothing_and_makes_the_same_image(
        self, builder: Builder, tmp_path: Path
    ) -> None:
        context = write_tree(tmp_path / "context", {"a": "1"})
        text = "FROM busybox\nCOPY a /a\nRUN cat /a\n"
        first = build(builder, text, context)
        second = build(builder, text, context)
        assert len(first.ran()) == 2
        assert second.ran() == []
        assert set(second.states().values()) == {StepState.CACHED}
        assert second.image == first.image

    def test_changed_file_is_the_reason_of_a_miss(self, builder: Builder, tmp_path: Path) -> None:
        context = write_tree(tmp_path / "context", {"a": "1", "b": "1"})
        text = "FROM busybox\nRUN true\nCOPY . /src\nRUN cat /src/a\n"
        build(builder, text, context)
        (context / "a").write_text("2")
        report = build(builder, text, context)
        assert len(report.ran()) == 2
        assert report.reasons() == ["file a changed", "a step before it has a new result"]
        assert "2" in report.log

    def test_touched_file_is_no_change(self, builder: Builder, tmp_path: Path) -> None:
        context = write_tree(tmp_path / "context", {"a": "1"})
        text = "FROM busybox\nCOPY a /a\n"
        build(builder, text, context)
        os.utime(context / "a", (1, 1))
        assert build(builder, text, context).ran() == []

    def test_same_size_edit_right_after_a_build_is_seen(
        self, builder: Builder, tmp_path: Path
    ) -> None:
        context = write_tree(tmp_path / "context", {"a": "1"})
        text = "FROM busybox\nCOPY a /a\nRUN cat /a\n"
        for value in "123":
            (context / "a").write_text(value)
            assert value in build(builder, text, context).log

    def test_unused_stage_never_runs(self, builder: Builder) -> None:
        report = build(builder, "FROM busybox AS unused\nRUN false\nFROM busybox\nRUN true\n")
        assert isinstance(report.last, BuildSucceeded)
        assert len(report.ran()) == 1

    def test_stage_whose_readers_are_cached_is_not_made(
        self, builder: Builder, tmp_path: Path
    ) -> None:
        text = "FROM busybox AS make\nRUN echo 1 > /out\nFROM scratch\nCOPY --from=make /out /\n"
        build(builder, text)
        report = build(builder, text)
        assert report.ran() == []

    def test_stage_with_the_same_content_hits_behind_it(self, builder: Builder) -> None:
        text = (
            "FROM busybox AS make\nRUN echo {} > /dev/null; echo 1 > /out\n"
            "FROM busybox\nCOPY --from=make /out /\nRUN cat /out\n"
        )
        build(builder, text.format("a"))
        report = build(builder, text.format("b"))
        assert [name for name in report.ran() if "make" not in name] == []
        assert build(builder, text.format("b")).ran() == []

    def test_failing_step_is_named_with_its_line_code_and_output(
        self, site: Site, builder: Builder
    ) -> None:
        report = build(builder, "FROM busybox\nRUN true\nRUN echo why >&2; exit 3\n")
        failure = report.failure
        assert failure.message == (
            'process "/bin/sh -c echo why >&2; exit 3" did not complete successfully: exit code: 3'
        )
        assert failure.exit_code == 3
        assert failure.source is not None
        assert failure.source.start_line == 3
        assert failure.source_text.startswith("RUN")
        assert failure.tail == ("why",)
        assert not failure.cancelled
        assert leftovers(site) == []
        assert build(builder, "FROM busybox\nRUN true\n").ran() == []

    def test_missing_source_is_named_with_its_line(self, builder: Builder, tmp_path: Path) -> None:
        context = write_tree(tmp_path / "context", {"a": "1"})
        failure = build(builder, "FROM busybox\nCOPY nope /\n", context).failure
        assert '"/nope": not found' in failure.message
        assert failure.source is not None
        assert failure.source.start_line == 2

    def test_missing_base_is_a_failure_with_its_line(self, builder: Builder) -> None:
        failure = build(builder, "FROM nothere:1\n").failure
        assert "nothere:1" in failure.message
        assert failure.source is not None
        assert failure.source.start_line == 1

    def test_bad_dockerfile_is_raised(self, builder: Builder) -> None:
        with pytest.raises(InvalidArgument) as caught:
            build(builder, "FROM busybox\nRUNN true\n")
        assert caught.value.source is not None
        assert caught.value.source.start_line == 2

    def test_cancelling_stops_the_process_and_leaves_nothing(
        self, site: Site, builder: Builder
    ) -> None:
        text = b"FROM busybox\nRUN echo ready; sleep 600\n"
        handle = builder.build(BuildRequest(dockerfile=text))
        last = None
        for event in handle:
            last = event
            if isinstance(event, LogEvent):
                handle.cancel()
        assert isinstance(last, BuildFailed)
        assert last.cancelled
        assert isinstance(build(builder, "FROM busybox\nRUN true\n").last, BuildSucceeded)

    def test_identical_steps_of_two_builds_run_once(self, builder: Builder) -> None:
        text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid; sleep 1\n"
        reports: list[Report] = []
        threads = [
            threading.Thread(target=lambda: reports.append(build(builder, text))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A build that came after the step had ended finds it in the cache, and has no output.
        assert len({report.log for report in reports if report.log}) == 1
        assert len(reports) == 3

    def test_cancelled_build_does_not_stop_a_step_that_another_waits_for(
        self, builder: Builder
    ) -> None:
        text = "FROM busybox\nRUN echo ready; sleep 2; echo end\n"
        request = BuildRequest(dockerfile=text.encode())
        first, second = builder.build(request), builder.build(request)
        kept: list[Report] = []
        reader = threading.Thread(target=lambda: kept.append(Report(tuple(second))))
        started = False
        for event in first:
            if isinstance(event, LogEvent) and not started:
                started = True
                reader.start()
                # The second build has joined when it has the replayed output; give it its events.
                first.cancel()
        reader.join()
        assert isinstance(kept[0].last, BuildSucceeded)

    def test_same_inputs_with_an_epoch_give_the_same_digests(
        self, builder: Builder, tmp_path: Path
    ) -> None:
        context = write_tree(tmp_path / "context", {"d/a": "1", "b": "2"})
        text = "FROM busybox\nWORKDIR /w\nCOPY . .\nRUN mkdir x; echo 1 > x/y\n"
        options: dict[str, Any] = {"source_date_epoch": 1_700_000_000, "no_cache": True}
        digests = {
            build(builder, text, context, max_parallelism=n, **options).image.manifest_digest
            for n in (1, 4)
        }
        assert len(digests) == 1

    def test_events_of_a_step_begin_with_queued_and_carry_a_stable_digest(
        self, builder: Builder
    ) -> None:
        text = "FROM busybox\nRUN echo 1\n"
        reports = [build(builder, text, no_cache=True) for _ in range(2)]
        digests = []
        for report in reports:
            events = [e for e in report.events if isinstance(e, StepEvent) and "RUN" in e.name]
            states = [e.state for e in events]
            assert states == [StepState.QUEUED, StepState.STARTED, StepState.DONE]
            assert all(e.at.tzinfo is not None for e in events)
            digests.append({e.digest for e in events})
        assert digests[0] == digests[1]

    def test_sent_context_gives_the_image_of_a_local_one(
        self, builder: Builder, tmp_path: Path
    ) -> None:
        files: dict[str, str | bytes] = {
            "a/b.txt": "1",
            "a/c.txt": b"x" * 3_000_000,
            "d/": "",
            "no": "ignored",
        }
        context = write_tree(tmp_path / "context", files)
        text = "FROM busybox\nCOPY . /src\n"
        (context / ".dockerignore").write_text("no\n.dockerignore\n")
        options: dict[str, Any] = {"source_date_epoch": 1_700_000_000, "no_cache": True}
        local = build(builder, text, context, **options).image
        folder = Folder(context, IgnoreMatcher(["no", ".dockerignore"]))
        sent = build(builder, text, None, source=folder, **options).image
        folder.close()
        assert sent.manifest_digest == local.manifest_digest

    def test_pruned_cache_runs_again_and_keeps_images(self, site: Site, builder: Builder) -> None:
        text = "FROM busybox\nRUN echo 1 > /one\n"
        image = build(builder, text, None, "kept").image
        build(builder, "FROM busybox\nRUN dd if=/dev/zero of=/z count=1 2>&1 || echo > /z\n")
        builder.prune()
        assert site.images.get("kept").image.id == image.image_id
        with opened_root(site, image) as root:
            assert (root / "one").read_text() == "1\n"
        assert len(build(builder, text).ran()) == 1
