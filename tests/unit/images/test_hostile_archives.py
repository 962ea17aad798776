from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.content.store import Content
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import DigestMismatch, DomainError, InvalidArgument
from slipform.core.oci import layout, media_types
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.index import Index
from slipform.core.oci.manifest import Manifest
from slipform.core.oci.platform import Platform
from slipform.drivers.content.memory import MemoryBlobs
from slipform.images import spool
from slipform.images.holds import Holds
from slipform.images.layers import Layers
from slipform.images.loading import load_spooled
from slipform.images.spool import Spool
from slipform.testing.images import (
    HardLink,
    ImagesWorld,
    Symlink,
    TinyImage,
    chunked,
    plain_layer,
    rootfs_tar,
    tar_of,
    tiny_docker_archive,
    tiny_image,
    tiny_oci_layout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def load(world: ImagesWorld, archive: bytes) -> list[str]:
    return [str(image.id) for image in world.images.load(chunked(archive))]


def refuse(world: ImagesWorld, archive: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load(world, archive)
    assert world.images.list_images() == []
    assert list(world.content.walk()) == []
    assert world.content.statuses() == []
    assert world.content.list_leases() == []


def archive_with(value: object, files: Mapping[str, bytes] | None = None) -> bytes:
    return tar_of({"manifest.json": json.dumps(value).encode(), **(files or {})})


def test_names_that_climb_are_only_names(world: ImagesWorld) -> None:
    tiny = tiny_image()
    files = tiny_docker_archive({"a": tiny})
    nodes: dict[str, Any] = {
        "../../etc/cron.d/x": b"evil",
        "/etc/passwd": b"evil",
        "a/../../../b": b"evil",
        "bell\a\x1b[2J": b"evil",
        "link": Symlink("/etc"),
        "link/shadow": b"evil",
        "hard": HardLink("/etc/passwd"),
        "loop": Symlink("loop"),
    }
    assert load(world, rootfs_tar(nodes | dict(files))) == [str(tiny.id)]


def test_devices_and_fifos_are_passed_over(world: ImagesWorld) -> None:
    buffer = io.BytesIO(tar_of(tiny_docker_archive({"a": tiny_image()})))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"node-{kind!r}")
            info.type = kind
            tar.addfile(info)
    assert load(world, buffer.getvalue()) == [str(tiny_image().id)]


def test_links_between_members_are_followed(world: ImagesWorld) -> None:
    tiny = tiny_image()
    lower, upper = tiny.layers
    nodes: dict[str, Any] = {
        "x/layer.tar": lower.tar,
        "one/layer.tar": Symlink("../x/layer.tar"),
        "two": Symlink("three"),
        "three/layer.tar": upper.blob,
        "config.json": tiny.config,
        "again.json": HardLink("config.json"),
        "manifest.json": json.dumps(
            [{"Config": "again.json", "Layers": ["one/layer.tar", "two/layer.tar"]}]
        ).encode(),
    }
    assert load(world, rootfs_tar(nodes)) == [str(tiny.id)]


def test_a_layer_behind_a_loop_of_links(world: ImagesWorld) -> None:
    nodes: dict[str, Any] = dict(tiny_docker_archive({"a": tiny_image()}))
    name = f"{tiny_image().layers[0].diff_id.hex}/layer.tar"
    nodes[name] = Symlink("layer.tar")
    refuse(world, rootfs_tar(nodes), "too many links")


def test_a_layer_outside_the_archive(world: ImagesWorld) -> None:
    nodes: dict[str, Any] = dict(tiny_docker_archive({"a": tiny_image()}))
    nodes[f"{tiny_image().layers[0].diff_id.hex}/layer.tar"] = Symlink("/etc/passwd")
    refuse(world, rootfs_tar(nodes), "is not in the archive")


def test_a_member_twice(world: ImagesWorld) -> None:
    files = tiny_docker_archive({"a": tiny_image()})
    buffer = io.BytesIO(tar_of(files))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        info = tarfile.TarInfo("./manifest.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"[]"))
    refuse(world, buffer.getvalue(), 'member "manifest.json" stands there twice')


def test_too_many_members(world: ImagesWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_MEMBERS", 10)
    refuse(world, tar_of({str(number): b"" for number in range(11)}), "more than 10 members")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "not valid JSON"),
        (b"{" + b'"a":{' * 50_000, "not valid JSON"),
        (b"[]" + b" " * (5 << 20), "want at most"),
        (b"[1e999]", "want an object with a Config"),
        (b"[" + b"9" * 5000 + b"]", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"{}", "want a JSON array"),
        (b"[]", "lists no image"),
        (b'[{"Config":1}]', "want an object with a Config"),
        (b'[{"Config":"../../../etc/shadow"}]', "is not in the archive"),
        (b'[{"Config":"c","Layers":"x"}]', "want an array of strings"),
        (b'[{"Config":"c","RepoTags":["Bad"]}]', "must be lowercase"),
        (b'[{"Config":"c","Layers":[' + b'"x",' * 5000 + b'"x"]}]', "want at most"),
    ],
    ids=range(13),
)
def test_manifest_json_of_the_wrong_shape(world: ImagesWorld, data: bytes, message: str) -> None:
    refuse(world, tar_of({"manifest.json": data, "c": b"{}"}), message)


@pytest.mark.parametrize(
    "config",
    [
        b"[]",
        b'{"rootfs":{"diff_ids":[1]}}',
        b'{"rootfs":{"diff_ids":["sha256:x"]}}',
        b'{"rootfs":[1]}',
        b'{"config":[1]}',
        b'{"config":{"Env":5}}',
        b'{"history":[5]}',
        b'{"config":{"Healthcheck":{"Interval":1e999}}}',
        b'{"config":{"Healthcheck":{"Interval":"x"}}}',
        b'{"os":"\\ud800"}',
        b'{"history":[{"comment":"\\udc00"}]}',
    ],
    ids=range(11),
)
def test_configs_of_the_wrong_shape(world: ImagesWorld, config: bytes) -> None:
    refuse(world, archive_with([{"Config": "c", "Layers": []}], {"c": config}), "c:|digest")


def test_a_compressed_layer_that_is_broken(world: ImagesWorld) -> None:
    tar = rootfs_tar({"f": b"x" * 100_000})
    config = TinyImage((plain_layer({"f": b"x" * 100_000}),)).config
    for blob in (gzip.compress(tar)[:-20], gzip.compress(bytes(10**6)) + b"trailing rubbish"):
        files = {"c": config, "l": blob}
        refuse(world, archive_with([{"Config": "c", "Layers": ["l"]}], files), 'member "l"')


def layout_of(*manifests: Descriptor, **blobs: bytes) -> bytes:
    files = {layout.LAYOUT_FILE: layout.encode_marker()}
    files[layout.INDEX_FILE] = Index(manifests).encode()
    files |= {layout.blob_path(Digest.of(data)): data for data in blobs.values()}
    return tar_of(files)


def descriptor(data: bytes, media_type: str, size: int | None = None) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data) if size is None else size)


def test_indexes_in_indexes_end(world: ImagesWorld) -> None:
    blobs, inner = {}, Index(()).encode()
    for depth in range(8):
        blobs[str(depth)] = inner
        inner = Index((descriptor(inner, media_types.OCI_INDEX),)).encode()
    blobs["top"] = inner
    archive = layout_of(descriptor(inner, media_types.OCI_INDEX), **blobs)
    refuse(world, archive, "nested too deep")


def test_a_wrong_size_in_a_descriptor(world: ImagesWorld) -> None:
    tiny = tiny_image()
    target = descriptor(tiny.manifest, media_types.OCI_MANIFEST, 7)
    blobs = {f"b{n}": data for n, data in enumerate(tiny.blobs.values())}
    refuse(world, layout_of(target, **blobs), "but its descriptor says 7")


def test_an_artifact_is_no_image(world: ImagesWorld) -> None:
    config = descriptor(b"{}", media_types.OCI_EMPTY)
    manifest = Manifest(config, ()).encode()
    target = descriptor(manifest, media_types.OCI_MANIFEST)
    refuse(world, layout_of(target, m=manifest, c=b"{}"), "lists no image")


def test_a_marker_of_another_version(world: ImagesWorld) -> None:
    files = tiny_oci_layout({"a": tiny_image()})
    files[layout.LAYOUT_FILE] = b'{"imageLayoutVersion":"2.0.0"}'
    refuse(world, tar_of(files), "imageLayoutVersion is '2.0.0'")


def test_the_host_s_image_of_a_multi_platform_one(world: ImagesWorld) -> None:
    mine, other = tiny_image("mine"), TinyImage((), platform=Platform("linux", "s390x"))
    attestation = TinyImage((), platform=Platform("unknown", "unknown"))
    inner = Index(
        tuple(
            Descriptor(media_types.OCI_MANIFEST, i.target.digest, i.target.size, {}, i.platform)
            for i in (other, attestation, mine)
        )
    ).encode()
    target = Descriptor(
        media_types.OCI_INDEX, Digest.of(inner), len(inner), {layout.IMAGE_NAME: "a:1"}
    )
    blobs = {**mine.blobs, **other.blobs, **attestation.blobs}
    archive = layout_of(target, i=inner, **{f"b{n}": d for n, d in enumerate(blobs.values())})
    assert load(world, archive) == [str(mine.id)]
    assert world.references() == ["docker.io/library/a:1"]


def test_names_beside_a_layout_are_those_of_docker(world: ImagesWorld) -> None:
    tiny = tiny_image()
    files = tiny_oci_layout({"": tiny})
    config = layout.blob_path(tiny.id)
    files["manifest.json"] = json.dumps([{"Config": config, "RepoTags": ["x:1"]}]).encode()
    assert load(world, tar_of(files)) == [str(tiny.id)]
    assert world.references() == ["docker.io/library/x:1"]


@pytest.mark.parametrize("kind", ["bzip2", "xz"])
def test_layers_without_a_media_type_are_stored_plain(world: ImagesWorld, kind: str) -> None:
    import bz2
    import lzma

    pack = bz2.compress if kind == "bzip2" else lzma.compress
    layer = plain_layer({"f": b"x" * 300_000})
    files = {"c": TinyImage((layer,)).config, "l": pack(layer.tar)}
    load(world, archive_with([{"Config": "c", "RepoTags": ["a"], "Layers": ["l"]}], files))
    assert world.images.get("a").layers == (layer.descriptor,)


class _NoSnapshots:
    """Enough of a snapshotter for work that makes none."""

    def create_lease(self, *_: object, **__: object) -> None: ...
    def delete_lease(self, *_: object) -> None: ...


WHOLE = {
    "docker": tar_of(tiny_docker_archive({"a": tiny_image()})),
    "oci": tar_of(tiny_oci_layout({"a": tiny_image()})),
    "gzip": gzip.compress(tar_of(tiny_oci_layout({"a": tiny_image()})), mtime=0),
}


@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.integers(1, 70_000),
)
def test_any_damage_is_found_or_harmless(
    kind: str, edits: list[tuple[float, int]], chunk: int
) -> None:
    data = bytearray(WHOLE[kind])
    for place, byte in edits:
        data[int(place * len(data))] = byte
    content = Content(MemoryBlobs(), None)
    store = content.tenant(DEFAULT_TENANT)
    snapshots: Any = _NoSnapshots()
    catalog: Any = type("Forgets", (), {"remember_layer": lambda *_: None})()
    try:
        with Holds(store, snapshots).work() as work:
            spooled = Spool(store, work)
            spooled.read_archive(chunked(bytes(data), chunk))
            (loaded,) = load_spooled(
                spooled, Layers(store, snapshots, catalog), Platform("linux", "amd64")
            )
            manifest = Manifest.decode(b"".join(store.read(loaded.target.digest)))
            assert manifest.config.digest == tiny_image().id
    except (InvalidArgument, DigestMismatch):
        pass
    except DomainError as e:  # pragma: no cover
        raise AssertionError(f"unexpected {type(e).__name__}: {e}") from e
    finally:
        assert store.statuses() == []
        assert list(store.walk()) == []
        content.close()
