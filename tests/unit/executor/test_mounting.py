from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import NotFound, Unsupported
from slipform.core.linux import mountapi
from slipform.core.linux.mounting import mounted, perform, unmount
from slipform.core.linux.mountoptions import MountOptions
from slipform.core.mounts import Mount

if TYPE_CHECKING:
    from pathlib import Path


def overlay(base: Path, layers: int, *extra: str) -> Mount:
    lowers = []
    for number in range(layers):
        lower = base / str(number) / "fs"
        lower.mkdir(parents=True)
        (lower / f"file{number}").write_text(str(number))
        lowers.append(str(lower))
    return Mount("overlay", "overlay", "", (f"lowerdir={':'.join(lowers)}", *extra))


def test_options() -> None:
    found = MountOptions.parse(("rbind", "ro", "rw", "ro", "nosuid", "rprivate", "size=1m", "x"))
    assert found.flags == mountapi.MS_RDONLY | mountapi.MS_NOSUID
    assert found.bind
    assert found.recursive
    assert found.propagation == mountapi.MS_PRIVATE | mountapi.MS_REC
    assert found.data == "size=1m,x"
    assert MountOptions.parse(("ro", "rw")).flags == 0


@pytest.mark.root
@pytest.mark.parametrize("prefix", ["s", "l" * 200 + "/" + "m" * 200])
def test_an_overlay_of_300_layers(tmp_path: Path, prefix: str) -> None:
    base = tmp_path / prefix
    for name in ("upper", "work"):
        (base / name).mkdir(parents=True)
    (tmp_path / "root").mkdir()
    options = (f"upperdir={base}/upper", f"workdir={base}/work", "index=off")
    before = os.getcwd()
    with mounted([overlay(base, 300, *options)], tmp_path / "root") as root:
        assert len([*root.iterdir()]) == 300
        (root / "new").write_text("x")
    assert (base / "upper" / "new").exists()
    assert os.getcwd() == before


@pytest.mark.root
def test_a_read_only_bind_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mount = Mount("bind", str(tmp_path / "a"), "", ("rbind", "ro"))
    with mounted([mount], tmp_path / "b") as root:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is checked
            (root / "x").touch()
        assert caught.value.errno == errno.EROFS
    (tmp_path / "b" / "x").touch()


@pytest.mark.root
def test_a_busy_mount_goes_all_the_same(tmp_path: Path) -> None:
    with mounted([Mount("tmpfs", "tmpfs")], tmp_path) as root:
        held = (root / "file").open("w")
    with held:
        assert not (tmp_path / "file").exists()


@pytest.mark.root
def test_a_failure_undoes_what_was_made(tmp_path: Path) -> None:
    mounts = [Mount("tmpfs", "tmpfs"), Mount("bind", str(tmp_path / "no"), "", ("bind",))]
    with pytest.raises(NotFound):
        perform(mounts, tmp_path)
    assert not os.path.ismount(tmp_path)
    with pytest.raises(Unsupported):
        perform([Mount("nosuchfs", "x")], tmp_path)


@pytest.mark.root
def test_unmounting_what_is_not_mounted_is_fine(tmp_path: Path) -> None:
    unmount(tmp_path)
    unmount(tmp_path / "absent")


@pytest.mark.root
def test_targets_stay_in_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(NotFound), mounted([Mount("tmpfs", "tmpfs", "/link")], root):
        pass
    (root / "link").unlink()
    (root / "link").symlink_to("/../../inside")
    with mounted([Mount("tmpfs", "tmpfs", "/link")], root):
        assert os.path.ismount(root / "inside")
