"""What an image looks like inside, from its archive, by a reader that shares no code with ours."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

XATTR = "SCHILY.xattr."


@dataclass(frozen=True)
class Entry:
    """Everything about one path that an image promises, without its time."""

    kind: str
    mode: int
    owner: tuple[int, int]
    size: int = 0
    target: str = ""
    digest: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Flat:
    """One image: its files, and its configuration."""

    files: dict[str, Entry]
    config: dict[str, Any]


def flatten_archive(archive: Path) -> Flat:
    """Reads a docker-archive with one image and applies its layers one over the other."""
    with tarfile.open(archive) as outer:
        manifest = json.loads(_member(outer, "manifest.json"))[0]
        files: dict[str, Entry] = {}
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(_member(outer, name))) as layer:
                _apply(layer, files)
        return Flat(files, json.loads(_member(outer, manifest["Config"])))


def _member(outer: tarfile.TarFile, name: str) -> bytes:
    member = outer.getmember(name)
    if member.issym():
        member = outer.getmember(posixpath.normpath(posixpath.join(name, "..", member.linkname)))
    file = outer.extractfile(member)
    assert file is not None, name
    return file.read()


def _apply(layer: tarfile.TarFile, files: dict[str, Entry]) -> None:
    added: dict[str, Entry] = {}
    for member in layer:
        path = posixpath.normpath(member.name.lstrip("/"))
        parent, name = posixpath.split(path)
        if name == ".wh..wh..opq":
            _drop_below(files, parent)
        elif name.startswith(".wh."):
            hidden = posixpath.join(parent, name[4:])
            files.pop(hidden, None)
            _drop_below(files, hidden)
        elif path != ".":
            if not member.isdir():
                _drop_below(files, path)
            added[path] = _entry(layer, member, {**files, **added} if member.islnk() else {})
    files.update(added)


def _drop_below(files: dict[str, Entry], directory: str) -> None:
    for path in [path for path in files if path.startswith(f"{directory}/")]:
        del files[path]


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo, known: dict[str, Entry]) -> Entry:
    if member.islnk():
        # A hard link is the file: what it is called does not change what it is.
        return known[posixpath.normpath(member.linkname.lstrip("/"))]
    digest = ""
    if member.isreg():
        file = layer.extractfile(member)
        assert file is not None
        digest = hashlib.sha256(file.read()).hexdigest()
    kinds = {
        tarfile.DIRTYPE: "directory",
        tarfile.SYMTYPE: "link",
        tarfile.CHRTYPE: "character device",
        tarfile.BLKTYPE: "block device",
        tarfile.FIFOTYPE: "fifo",
    }
    kind = "file" if member.isreg() else kinds[member.type]
    return Entry(
        kind,
        member.mode & 0o7777,
        (member.uid, member.gid),
        member.size if member.isreg() else 0,
        member.linkname if member.issym() else "",
        digest,
        (member.devmajor, member.devminor) if "device" in kind else (0, 0),
        tuple(
            sorted(
                (key.removeprefix(XATTR), value)
                for key, value in member.pax_headers.items()
                if key.startswith(XATTR)
            )
        ),
    )
