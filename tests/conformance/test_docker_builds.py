"""The three builds, here and by a real dockerd: the same files, the same configuration.

What may differ, and why, is the list below; nothing else may.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from slipform.testing.images import layout_faults, untar
from testkit.builds import SAMPLES, Sample
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


@pytest.mark.requires("skopeo", "umoci")
@pytest.mark.parametrize("fixture", SAMPLES)
def test_archives_are_taken_by_every_tool(
    fixture: str,
    request: pytest.FixtureRequest,
    dockerd: Docker,
    slipform: Slipform,
    tmp_path: Path,
) -> None:
    sample: Sample = request.getfixturevalue(fixture)
    ours = _slipform(slipform, sample, tmp_path / "docker.tar")
    identity = slipform.text("inspect", "-f", "{{.Id}}", sample.name).strip()
    assert (
        f"{sample.name}:latest"
        in dockerd.run("load", "-i", tmp_path / "docker.tar").stdout.decode()
    )
    assert dockerd.run("inspect", "-f", "{{.Id}}", sample.name).stdout.decode().strip() == identity
    done = dockerd.run("run", "--rm", "--network=none", sample.name, *sample.command)
    assert done.stdout == sample.prints

    layout = tmp_path / "layout"
    _tool("skopeo", "--insecure-policy", "copy", f"docker-archive:{tmp_path}/docker.tar",
          f"oci:{layout}:latest")  # fmt: skip
    slipform.run("save", "--format=oci", "-o", tmp_path / "oci.tar", sample.name)
    assert layout_faults(untar((tmp_path / "oci.tar").read_bytes())) == []
    shown = json.loads(_tool("skopeo", "inspect", "--config", f"oci-archive:{tmp_path}/oci.tar"))
    assert shown["config"].get("Entrypoint") == ours.config["config"].get("Entrypoint")
    for source in (layout, _untarred(tmp_path / "oci.tar", tmp_path / "untarred")):
        bundle = tmp_path / f"bundle-{source.name}"
        _tool("umoci", "unpack", "--image", f"{source}:latest", bundle)
        assert (bundle / "rootfs").is_dir()
        _tool("rm", "-rf", bundle)


def _untarred(archive: Path, directory: Path) -> Path:
    directory.mkdir()
    _tool("tar", "-xf", archive, "-C", directory)
    return directory


def _tool(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_archives_of_docker_are_taken_here(
    busybox_sample: Sample, dockerd: Docker, slipform: Slipform, tmp_path: Path
) -> None:
    archive = tmp_path / "docker.tar"
    dockerd.run("build", "--network=none", "-t", "theirs", busybox_sample.context)
    dockerd.run("save", "-o", archive, "theirs")
    assert slipform.text("load", "-i", archive) == "Loaded image: theirs:latest\n"
    assert slipform.text("run", "--rm", "--network=none", "theirs", "good day") == "good day\n"
