"""The three builds, here and by a real dockerd: the same files, the same configuration.

What may differ, and why, is the list below; nothing else may.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from testkit.builds import EPOCH, SAMPLES, Sample
from testkit.docker import Docker
from testkit.flatten import Entry, Flat, flatten_archive
from testkit.slipform import Slipform

pytestmark = [pytest.mark.root, pytest.mark.slow]

FILES_THAT_MAY_DIFFER: Final = {
    "etc/ld.so.cache": "holds the times of libraries of another installation",
}

CONFIG_THAT_MAY_DIFFER: Final = {
    "Hostname": "docker's classic builder leaves the id of its last container",
    "Image": "docker's id of the parent image; not in the image-spec",
    "Domainname": "docker writes empty fields",
    "AttachStdin": "docker writes empty fields",
    "AttachStdout": "docker writes empty fields",
    "AttachStderr": "docker writes empty fields",
    "Tty": "docker writes empty fields",
    "OpenStdin": "docker writes empty fields",
    "StdinOnce": "docker writes empty fields",
}


@pytest.mark.parametrize("fixture", SAMPLES)
def test_same_files_and_configuration_as_docker(
    fixture: str,
    request: pytest.FixtureRequest,
    dockerd: Docker,
    slipform: Slipform,
    tmp_path: Path,
) -> None:
    sample: Sample = request.getfixturevalue(fixture)
    ours = _slipform(slipform, sample, tmp_path / "ours.tar")
    theirs = _docker(dockerd, sample, tmp_path / "theirs.tar")
    assert _differences(ours.files, theirs.files) == {}
    assert _comparable(ours.config) == _comparable(theirs.config)


def _slipform(slipform: Slipform, sample: Sample, archive: Path) -> Flat:
    if sample.base is not None:
        slipform.run("import", sample.base.tar, sample.base.name)
    flags = [f"--build-arg={argument}" for argument in sample.build_args]
    slipform.run("build", "-t", sample.name, *flags, sample.context)
    slipform.run("save", "-o", archive, sample.name)
    return flatten_archive(archive)


def _docker(dockerd: Docker, sample: Sample, archive: Path) -> Flat:
    if sample.base is not None:
        dockerd.run("import", sample.base.tar, sample.base.name)
    flags = [f"--build-arg={argument}" for argument in sample.build_args]
    dockerd.run("build", "--network=host", "-t", sample.name, *flags, sample.context)
    dockerd.run("save", "-o", archive, sample.name)
    return flatten_archive(archive)


def _differences(
    ours: dict[str, Entry], theirs: dict[str, Entry]
) -> dict[str, tuple[Entry | None, Entry | None]]:
    return {
        path: (ours.get(path), theirs.get(path))
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path) and path not in FILES_THAT_MAY_DIFFER
    }


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The run configuration without what may differ; null, empty and absent are the same."""
    values = {
        key: value
        for key, value in config["config"].items()
        if key not in CONFIG_THAT_MAY_DIFFER and value not in (None, "", [], {})
    }
    # BuildKit says "/" where the classic builder says nothing; both mean the root.
    values.setdefault("WorkingDir", "/")
    shared = {key: config.get(key) for key in ("os", "architecture")}
    return json.loads(json.dumps({**values, **shared}, sort_keys=True))  # type: ignore[no-any-return]


def test_archives_are_taken_and_run_by_docker(
    busybox_sample: Sample, dockerd: Docker, slipform: Slipform, tmp_path: Path
) -> None:
    archive = tmp_path / "busybox.tar"
    slipform.run("build", "-t", "taken", busybox_sample.context, env={"SOURCE_DATE_EPOCH": EPOCH})
    slipform.run("save", "-o", archive, "taken")
    assert b"taken:latest" in dockerd.run("load", "-i", archive).stdout
    done = dockerd.run("run", "--rm", "--network=none", "taken", "hello", "docker")
    assert done.stdout == b"hello docker\n"
    ids = dockerd.run("inspect", "-f", "{{.Id}}", "taken").stdout.decode().strip()
    assert ids == slipform.text("inspect", "-f", "{{.Id}}", "taken").strip()


def test_archives_of_docker_are_taken_here(
    busybox_sample: Sample, dockerd: Docker, slipform: Slipform, tmp_path: Path
) -> None:
    archive = tmp_path / "docker.tar"
    dockerd.run("build", "--network=none", "-t", "theirs", busybox_sample.context)
    dockerd.run("save", "-o", archive, "theirs")
    assert slipform.text("load", "-i", archive) == "Loaded image: theirs:latest\n"
    assert slipform.text("run", "--rm", "--network=none", "theirs", "good day") == "good day\n"
