"""The verbs as a user types them, against a real daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.builds import Sample
from testkit.slipform import Slipform

pytestmark = pytest.mark.root


@pytest.fixture
def built(slipform: Slipform, busybox_sample: Sample) -> Slipform:
    slipform.run("build", "-t", "sample:1", busybox_sample.context)
    return slipform


def test_images_inspect_history_tag_rmi(built: Slipform) -> None:
    lines = built.text("images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert lines[1].split()[:2] == ["sample", "1"]
    identity = built.text("images", "-q", "--no-trunc").strip()
    details = json.loads(built.text("inspect", "sample:1"))[0]
    assert details["Id"] == identity
    assert details["Config"]["Healthcheck"] == {
        "Test": ["CMD", "/bin/true"], "Interval": 5_000_000_000, "Retries": 2,
    }  # fmt: skip
    assert details["Config"]["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
    history = built.text("history", "--no-trunc", "sample:1").splitlines()
    assert 'CMD ["hello"]' in history[1]
    assert len(history) == 1 + 14
    built.run("tag", "sample:1", "other/name")
    assert "Untagged: sample:1" in built.text("rmi", "sample:1")
    assert f"Deleted: {identity}" in built.text("rmi", "other/name")
    assert built.text("images", "-q") == ""


def test_run_environment_user_and_exit_status(built: Slipform, tmp_path: Path) -> None:
    def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return built.run("run", "--rm", "--network=none", *words, check=check)

    assert run("sample:1").stdout == b"hello\n"
    shown = run("--entrypoint", "/bin/env", "-e", "NAME=c", "-e", "NEW=1", "sample:1").stdout
    assert {b"GREETING=hello", b"NAME=c", b"NEW=1"} <= set(shown.splitlines())
    script = "id -u; pwd; echo err >&2; exit 7"
    done = run("--entrypoint", "sh", "-w", "/tmp/made", "sample:1", "-c", script, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"1000\n/tmp/made\n", b"err\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("from the host")
    volume = f"{tmp_path}/shared:/mnt/shared:ro"
    script = "cat /mnt/shared/file; touch /mnt/shared/new"
    done = run("-u", "0", "-v", volume, "--entrypoint", "sh", "sample:1", "-c", script, check=False)
    assert done.returncode == 1
    assert done.stdout == b"from the host"
    assert b"Read-only file system" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["no-such-image"], 125, "no-such-image"),
        (["--entrypoint", "/no/such/file", "sample:1"], 127, "/no/such/file"),
        (["--entrypoint", "/data/deep/other", "sample:1"], 126, "/data/deep/other"),
        (["-u", "nobody-here", "sample:1"], 125, "nobody-here"),
    ],
)
def test_run_failures_have_dockers_status(
    built: Slipform, words: list[str], code: int, said: str
) -> None:
    done = built.run("run", "--rm", "--network=none", *words, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr.decode()


def test_run_passes_stdin_and_signals_on(built: Slipform) -> None:
    done = built.run("run", "--rm", "-i", "--entrypoint", "cat", "sample:1", stdin=b"fed\n")
    assert done.stdout == b"fed\n"
    words = ["run", "--rm", "--entrypoint", "sh", "sample:1", "-c"]
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        [sys.executable, "-m", "slipform.cli", *words, script],
        env=built.environment(),
        stdout=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=30)[0] == b"caught\n"
    assert running.returncode == 3


def test_save_load_import(built: Slipform, tmp_path: Path) -> None:
    identity = built.text("inspect", "-f", "{{.Id}}", "sample:1")
    for form in ("docker", "oci"):
        archive = tmp_path / f"{form}.tar"
        built.run("save", "--format", form, "-o", archive, "sample:1")
        built.run("rmi", "sample:1")
        assert built.text("load", "-i", archive) == "Loaded image: sample:1\n"
        assert built.text("inspect", "-f", "{{.Id}}", "sample:1") == identity
        assert built.text("run", "--rm", "sample:1", "again") == "again\n"
    piped = built.run("save", "sample:1").stdout
    assert b"Loaded image: sample:1" in built.run("load", stdin=piped).stdout
    rootfs = tmp_path / "rootfs.tar"
    subprocess.run(["tar", "-C", tmp_path, "-cf", rootfs, "docker.tar"], check=True)
    built.run("import", "-c", "ENV A=b", "-m", "by hand", rootfs, "imported")
    assert built.text("inspect", "-f", "{{json .Config.Env}}", "imported") == '["A=b"]\n'
    assert "by hand" in built.text("history", "imported")


def test_quiet_iidfile_and_metadata(
    slipform: Slipform, busybox_sample: Sample, tmp_path: Path
) -> None:
    files: list[str | Path] = [
        "--iidfile",
        tmp_path / "iid",
        "--metadata-file",
        tmp_path / "meta.json",
    ]
    printed = slipform.run("build", "-q", *files, busybox_sample.context)
    assert printed.stderr == b""
    assert printed.stdout.decode().strip() == (tmp_path / "iid").read_text()
    metadata = json.loads((tmp_path / "meta.json").read_text())
    assert metadata["containerimage.config.digest"] == (tmp_path / "iid").read_text()


def test_dockerfile_from_stdin_and_from_elsewhere(
    slipform: Slipform, busybox_sample: Sample, tmp_path: Path
) -> None:
    text = b'FROM scratch\nCOPY busybox /b\nCMD ["/b"]\n'
    first = slipform.run("build", "-q", "-f", "-", busybox_sample.context, stdin=text).stdout
    (tmp_path / "Other").write_bytes(text)
    second = slipform.run("build", "-q", "-f", tmp_path / "Other", busybox_sample.context).stdout
    assert first == second
    slipform.run("build", "-q", "-", stdin=b"FROM scratch\nLABEL a=b\n")


def test_interrupted_build_stops_its_process(slipform: Slipform, busybox_sample: Sample) -> None:
    dockerfile = busybox_sample.context / "Slow"
    dockerfile.write_text(
        "FROM scratch\nCOPY busybox /bin/sh\n"
        "RUN echo begun; exec /bin/sh -c 'while :; do :; done'\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "slipform.cli", "build", "--progress=plain", "-f", dockerfile,
         busybox_sample.context],
        env=slipform.environment(), stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stderr is not None
    for line in running.stderr:
        if line.endswith(b" begun\n"):
            break
    os.kill(running.pid, signal.SIGINT)
    assert b"cancelled" in running.communicate(timeout=30)[1]
    assert running.returncode == 130
    slipform.run("build", "-q", busybox_sample.context)


def test_daemon_ends_when_idle(tmp_path: Path) -> None:
    slipform = Slipform(tmp_path / "root", {"SLIPFORM_IDLE_TIMEOUT": "0.5"})
    pid = int(slipform.text("info", "-f", "{{.pid}}"))
    from slipform.client.launch import wait_for_end

    assert wait_for_end(pid, 30)
    assert slipform.run("shutdown").returncode == 0


def test_two_roots_never_meet(slipform: Slipform, busybox_sample: Sample, tmp_path: Path) -> None:
    other = Slipform(tmp_path / "other")
    slipform.run("build", "-q", "-t", "here", busybox_sample.context)
    try:
        assert other.text("images", "-q") == ""
    finally:
        other.run("shutdown")


def test_failures_of_our_own_output_and_input_are_one_sentence(
    built: Slipform, tmp_path: Path
) -> None:
    for words in (["images"], ["save", "sample:1"], ["run", "--rm", "sample:1"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "slipform.cli", *words],
                stdout=full, stderr=subprocess.PIPE, env=built.environment(), check=False,
            )  # fmt: skip
        assert done.returncode != 0
        assert done.stderr == b"slipform: write error: No space left on device\n"
    done = built.run("run", "-e", os.fsdecode(b"A=\xff"), "sample:1", check=False)
    assert (done.returncode, done.stderr) == (125, b"slipform: not UTF-8: 'A=\\udcff'\n")
    (tmp_path / "context/Dockerfile").mkdir(parents=True)
    done = built.run("build", tmp_path / "context", check=False)
    assert done.returncode == 1
    assert b'failed to read Dockerfile: "Dockerfile" is not a file' in done.stderr


def test_build_argument_without_a_value_is_the_environments_or_none(
    slipform: Slipform, busybox_sample: Sample
) -> None:
    text = b"FROM scratch\nARG A=default\nLABEL a=$A\n"
    for env, want in (({}, "default"), ({"A": "mine"}, "mine"), ({"A": ""}, "")):
        command = ("build", "-q", "-f", "-", "--build-arg", "A", busybox_sample.context)
        identity = slipform.run(*command, stdin=text, env=env).stdout.decode().strip()
        assert slipform.text("inspect", "-f", "{{.Config.Labels.a}}", identity).strip() == want


def test_images_and_history_show_an_empty_layer_as_nothing(slipform: Slipform) -> None:
    slipform.run("import", "-", "empty", stdin=bytes(10240))
    assert slipform.text("images", "--format", "{{.Size}}").strip() == "0B"
    assert slipform.text("history", "--format", "{{.Size}}", "empty").strip() == "0B"


def test_a_dockerfile_alone_does_not_get_out_of_the_sandbox(
    slipform: Slipform, busybox_sample: Sample
) -> None:
    text = b"FROM scratch\nCOPY busybox /bin/sh\nRUN --security=insecure mount -t tmpfs x /dev\n"
    command = ("build", "-f", "-", busybox_sample.context)
    done = slipform.run(*command, stdin=text, check=False)
    assert done.returncode == 1
    assert b"RUN --security=insecure: the build does not allow security.insecure" in done.stderr
    assert b"Dockerfile:3" in done.stderr
    slipform.run(*command, "--allow", "security.insecure", stdin=text)
