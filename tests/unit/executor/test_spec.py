from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.execution import Network, Resources, RunRequest, Security
from slipform.core.linux.process import CAPABILITIES
from slipform.core.mounts import Mount
from slipform.executor import owners
from slipform.executor.command import environment
from slipform.executor.spec import DEFAULT_CAPABILITIES, ProvidedFiles, write_spec

FILES = ProvidedFiles(Path("/f/hosts"), Path("/f/hostname"), Path("/f/resolv.conf"), writable=False)


def spec(**more: Any) -> dict[str, Any]:
    return write_spec(RunRequest(**{"id": "x", "rootfs": (), "args": ("true",), **more}), FILES)


def test_defaults_are_dockers() -> None:
    found = spec()
    assert {*found["process"]["capabilities"]["bounding"]} == {*DEFAULT_CAPABILITIES}
    assert not found["process"]["noNewPrivileges"]
    assert "/proc/kcore" in found["linux"]["maskedPaths"]
    assert {n["type"] for n in found["linux"]["namespaces"]} == {
        "mount", "pid", "ipc", "uts", "cgroup"}  # fmt: skip
    assert found["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}


def test_network_none_is_a_namespace() -> None:
    kinds = {n["type"] for n in spec(network=Network.NONE)["linux"]["namespaces"]}
    assert "network" in kinds


def test_privileged() -> None:
    found = spec(security=Security.INSECURE)
    assert found["process"]["capabilities"]["bounding"] == list(CAPABILITIES)
    assert "seccomp" not in found["linux"]
    assert found["linux"]["maskedPaths"] == found["linux"]["readonlyPaths"] == []


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), ("ALL",), set()),
        (("kill",), ("all",), {"CAP_KILL"}),
        (("ALL",), (), {*CAPABILITIES}),
        (("ALL",), ("SYS_ADMIN",), {*CAPABILITIES} - {"CAP_SYS_ADMIN"}),
        (("SYS_PTRACE",), ("CHOWN",), {*DEFAULT_CAPABILITIES, "CAP_SYS_PTRACE"} - {"CAP_CHOWN"}),
    ],
)
def test_capabilities(add: tuple[str, ...], drop: tuple[str, ...], expected: set[str]) -> None:
    assert {*spec(cap_add=add, cap_drop=drop)["process"]["capabilities"]["bounding"]} == expected


def test_limits() -> None:
    limits = Resources(memory=1 << 20, pids=5, cpu_quota_us=1000, ulimits=(("nofile", 1, -1),))
    found = spec(resources=limits)
    assert found["linux"]["resources"]["memory"] == {"limit": 1 << 20, "swap": 1 << 20}
    assert found["linux"]["resources"]["pids"] == {"limit": 5}
    assert found["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": (1 << 64) - 1}
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"args": ()},
        {"args": ("",)},
        {"args": ("a\0b",)},
        {"cwd": "x"},
        {"mounts": (Mount("tmpfs", "tmpfs", "rel"),)},
        {"mounts": (Mount("tmpfs", "tmpfs", "/.."),)},
        {"mounts": (Mount("bind", "rel", "/x"),)},
        {"cap_add": ("NOPE",)},
    ],
)
def test_malformed_requests(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        spec(**more)


def test_environment_keeps_its_order() -> None:
    found = environment(("A=1", "PATH=/x", "B=2"), ("A=3", "B", "C=4"), "h")
    assert found == ("PATH=/x", "HOSTNAME=h", "A=3", "C=4")


def test_owners() -> None:
    mine = owners.mine()
    assert not owners.is_dead(mine)
    host, boot, pid, _ = mine.split(" ")
    assert owners.is_dead(f"{host} {boot} {pid} 1")
    assert owners.is_dead(f"{host} other-boot {pid} 1")
    assert not owners.is_dead("elsewhere other-boot 1 1")
    assert not owners.is_dead("garbage")
