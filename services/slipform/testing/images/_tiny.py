"""Small images made of nothing but bytes: root file systems, layouts, docker-archives."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core.oci import canonical, layout, media_types
from slipform.core.oci.config import History, ImageConfig, RunConfig
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.index import Index
from slipform.core.oci.manifest import Manifest
from slipform.core.oci.platform import Platform, host_platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUSYBOX: Final = Path("/bin/busybox")
CREATED: Final = "2026-01-02T03:04:05Z"

APPLETS: Final = (
    "ash", "awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "du", "echo", "env",
    "expr", "false", "find", "grep", "gzip", "head", "hostname", "httpd", "id", "ip", "kill",
    "ln", "ls", "md5sum", "mkdir", "mknod", "mount", "mv", "nc", "ps", "pwd", "rm", "rmdir",
    "sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat", "tail", "tar", "test", "touch",
    "tr", "true", "umount", "uname", "wc", "wget", "which", "whoami", "xargs", "yes",
)  # fmt: skip

PASSWD: Final = (
    b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
)
GROUP: Final = b"root:x:0:\nusers:x:100:\nnobody:x:65534:\n"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of a root file system."""

    data: bytes = b""
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of a root file system."""

    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link of a root file system."""

    target: str


@dataclass(frozen=True, slots=True)
class HardLink:
    """Another name of an earlier file."""

    target: str


Node = File | Directory | Symlink | HardLink | bytes


def rootfs_tar(nodes: Mapping[str, Node], *, mtime: int = 0) -> bytes:
    """A tar of these paths, in their order; owned by root, the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, node in nodes.items():
            _add(tar, path, File(node) if isinstance(node, bytes) else node, mtime)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, path: str, node: Node, mtime: int) -> None:
    info = tarfile.TarInfo(path)
    info.mtime, info.mode = mtime, 0o644
    if isinstance(node, File):
        info.size, info.mode = len(node.data), node.mode
        tar.addfile(info, io.BytesIO(node.data))
        return
    if isinstance(node, Directory):
        info.type, info.mode = tarfile.DIRTYPE, node.mode
    elif isinstance(node, Symlink):
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, node.target
    elif isinstance(node, HardLink):
        info.type, info.linkname = tarfile.LNKTYPE, node.target
    tar.addfile(info)


def busybox_rootfs_tar(busybox: Path = BUSYBOX, extra: Mapping[str, Node] | None = None) -> bytes:
    """A root file system with a static busybox, its usual applets, passwd and group.

    Args:
        busybox: a statically linked busybox of this machine.
        extra: further paths.

    Raises:
        FileNotFoundError: no busybox; tests say ``requires("busybox")``.
    """
    directories = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var")
    nodes: dict[str, Node] = {name: Directory() for name in directories}
    nodes["tmp"] = Directory(0o1777)
    nodes["root"] = Directory(0o700)
    nodes["bin/busybox"] = File(busybox.read_bytes(), 0o755)
    nodes |= {f"bin/{name}": Symlink("busybox") for name in APPLETS}
    nodes |= {"etc/passwd": File(PASSWD), "etc/group": File(GROUP)}
    return rootfs_tar(nodes | dict(extra or {}))


@dataclass(frozen=True, slots=True)
class TinyLayer:
    """A layer: its tar, and the blob it travels as."""

    tar: bytes
    blob: bytes
    media_type: str

    @property
    def diff_id(self) -> Digest:
        """Digest of the tar."""
        return Digest.of(self.tar)

    @property
    def descriptor(self) -> Descriptor:
        """Points at the blob."""
        return Descriptor(self.media_type, Digest.of(self.blob), len(self.blob))


def plain_layer(nodes: Mapping[str, Node]) -> TinyLayer:
    """An uncompressed layer."""
    tar = rootfs_tar(nodes)
    return TinyLayer(tar, tar, media_types.OCI_LAYER)


def gzip_layer(nodes: Mapping[str, Node]) -> TinyLayer:
    """A layer that travels compressed."""
    tar = rootfs_tar(nodes)
    return TinyLayer(tar, gzip.compress(tar, mtime=0), media_types.OCI_LAYER_GZIP)


@dataclass(frozen=True, slots=True)
class TinyImage:
    """An image as bytes: config, manifest, layers."""

    layers: Sequence[TinyLayer]
    run: RunConfig = field(default_factory=RunConfig)
    platform: Platform = field(default_factory=host_platform)
    created: str = CREATED

    @property
    def config(self) -> bytes:
        """With one history entry per layer, and an empty one on top."""
        history = [
            History(created=self.created, created_by=f"layer {number}")
            for number in range(len(self.layers))
        ]
        history.append(History(created=self.created, created_by="CMD", empty_layer=True))
        return ImageConfig(
            self.platform,
            self.run,
            tuple(layer.diff_id for layer in self.layers),
            tuple(history),
            self.created,
        ).encode()

    @property
    def manifest(self) -> bytes:
        """An OCI manifest."""
        config = Descriptor(media_types.OCI_CONFIG, Digest.of(self.config), len(self.config))
        return Manifest(config, tuple(layer.descriptor for layer in self.layers)).encode()

    @property
    def target(self) -> Descriptor:
        """Points at the manifest."""
        data = self.manifest
        return Descriptor(media_types.OCI_MANIFEST, Digest.of(data), len(data))

    @property
    def id(self) -> Digest:
        """Docker's image id."""
        return Digest.of(self.config)

    @property
    def blobs(self) -> dict[Digest, bytes]:
        """Everything a content store needs to have."""
        data = [self.config, self.manifest, *(layer.blob for layer in self.layers)]
        return {Digest.of(item): item for item in data}


def tiny_image(text: str = "hello\n") -> TinyImage:
    """An image of one plain and one compressed layer; ``text`` makes it differ from others."""
    lower = plain_layer({"etc": Directory(), "etc/lower": b"lower\n", "both": b"lower\n"})
    upper = gzip_layer({"etc": Directory(), "etc/upper": text.encode(), "both": b"upper\n"})
    return TinyImage((lower, upper), RunConfig(env=("A=b",), cmd=("/bin/sh",)))


def tiny_oci_layout(images: Mapping[str, TinyImage]) -> dict[str, bytes]:
    """The files of an OCI layout; keys are references ("" for none)."""
    files: dict[str, bytes] = {layout.LAYOUT_FILE: layout.encode_marker()}
    manifests = []
    for name, image in images.items():
        annotations = {layout.IMAGE_NAME: name} if name else {}
        target = image.target
        manifests.append(
            Descriptor(target.media_type, target.digest, target.size, annotations, image.platform)
        )
        files |= {layout.blob_path(digest): data for digest, data in image.blobs.items()}
    files[layout.INDEX_FILE] = Index(tuple(manifests)).encode()
    return files


def tiny_docker_archive(images: Mapping[str, TinyImage]) -> dict[str, bytes]:
    """The files of a docker-archive in the old style; keys are references ("" for none)."""
    files: dict[str, bytes] = {}
    items = []
    for name, image in images.items():
        files[f"{image.id.hex}.json"] = image.config
        paths = []
        for layer in image.layers:
            paths.append(f"{layer.diff_id.hex}/layer.tar")
            files[paths[-1]] = layer.blob
        tags = [name] if name else None
        items.append({"Config": f"{image.id.hex}.json", "RepoTags": tags, "Layers": paths})
    files["manifest.json"] = canonical.encode(items)
    return files


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of an archive's files."""
    return rootfs_tar(files)
