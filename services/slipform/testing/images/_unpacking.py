"""Images as snapshots, in both directions; needs a snapshotter that may mount."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from slipform.core.errors import DigestMismatch, InvalidArgument, NotFound
from slipform.core.images import ArchiveFormat
from slipform.core.oci import media_types
from slipform.core.oci.config import RunConfig
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest, chain_id
from slipform.core.oci.manifest import Manifest
from slipform.core.oci.platform import host_platform
from slipform.core.snapshots import ChainRecord, Kind
from slipform.testing.images._layout import layout_faults, untar
from slipform.testing.images._tiny import (
    Directory,
    TinyImage,
    TinyLayer,
    gzip_layer,
    plain_layer,
    rootfs_tar,
    tiny_image,
)
from slipform.testing.images._world import ImagesWorld, chunked


def build(world: ImagesWorld, *references: str) -> TinyImage:
    """An image as a build makes it: its layers exist as snapshots only."""
    layers: list[TinyLayer] = []
    parent = ""
    for number in range(2):
        content = rootfs_tar({"d": Directory(), f"d/{number}": b"built\n" * 50_000})
        source = Descriptor(media_types.OCI_LAYER, world.put(content), len(content))
        world.snapshotter.prepare(f"build-{number}", parent)
        world.snapshotter.apply(f"build-{number}", source)
        parent = f"built-{number}"
        world.snapshotter.commit(parent, f"build-{number}")
        made = world.snapshotter.diff(parent, clamp_mtime=7, store=True)
        tar = b"".join(world.content.read(made.diff_id))
        layers.append(TinyLayer(tar, tar, media_types.OCI_LAYER))
        chain = chain_id(layer.diff_id for layer in layers)
        world.snapshotter.record_chain(ChainRecord(chain, parent, made.diff_id, made.size, 7))
        for digest in {source.digest, made.diff_id}:
            world.content.delete(digest)
    tiny = TinyImage(layers)
    for data in (tiny.config, tiny.manifest):
        world.put(data)
    world.images.create(tiny.target, references)
    return tiny


@pytest.mark.root
class UnpackContract:
    """Layers of images and snapshots."""

    def test_unpacking_makes_a_chain_of_snapshots(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        world.create(tiny, "a")
        unpacked = world.images.unpack("a")
        assert unpacked.details == world.images.get("a")
        chains = [chain_id([layer.diff_id for layer in tiny.layers[:n]]) for n in (1, 2)]
        assert unpacked.snapshot == f"chain/{chains[1]}"
        assert world.snapshotter.stat(unpacked.snapshot).parent == f"chain/{chains[0]}"
        record = world.snapshotter.find_chain(chains[1])
        assert not record.regenerable
        assert record.diff_id == tiny.layers[1].diff_id

    def test_unpacking_again_does_nothing(self, world: ImagesWorld) -> None:
        world.create(tiny_image(), "a")
        first = world.images.unpack("a")
        before = list(world.snapshotter.walk())
        assert world.images.unpack("a") == first
        assert list(world.snapshotter.walk()) == before

    def test_only_the_new_layers_of_a_related_image_are_unpacked(self, world: ImagesWorld) -> None:
        lower = tiny_image().layers[0]
        world.create(TinyImage((lower,)), "base")
        world.images.unpack("base")
        world.create(tiny_image(), "a")
        world.images.unpack("a")
        assert len(list(world.snapshotter.walk())) == 2

    def test_an_image_keeps_its_snapshots_and_a_removed_one_does_not(
        self, world: ImagesWorld
    ) -> None:
        world.create(tiny_image(), "a")
        world.images.unpack("a")
        world.snapshotter.collect()
        world.content.collect()
        assert len(list(world.snapshotter.walk(kind=Kind.COMMITTED))) == 2
        world.images.remove("a")
        assert list(world.snapshotter.walk()) == []
        assert world.snapshotter.list_leases() == []

    def test_an_image_without_layers_has_no_snapshot(self, world: ImagesWorld) -> None:
        world.create(TinyImage(()), "a")
        assert world.images.unpack("a").snapshot == ""

    def test_a_layer_that_is_not_what_the_config_says(self, world: ImagesWorld) -> None:
        honest, other = gzip_layer({"f": b"honest"}), gzip_layer({"f": b"other"})
        config = TinyImage((honest,)).config
        descriptor = Descriptor(media_types.OCI_CONFIG, world.put(config), len(config))
        data = Manifest(descriptor, (other.descriptor,)).encode()
        world.put(other.blob)
        target = Descriptor(media_types.OCI_MANIFEST, world.put(data), len(data))
        with pytest.raises(DigestMismatch, match=honest.diff_id.hex):
            world.images.create(target, ["a"])
        assert list(world.snapshotter.walk()) == []

    def test_a_broken_layer_leaves_nothing_behind(self, world: ImagesWorld) -> None:
        good, bad = plain_layer({"f": b"x"}), b"this is no tar" * 100
        broken = TinyLayer(bad, bad, media_types.OCI_LAYER)
        world.create(TinyImage((good, broken)), "a")
        with pytest.raises(InvalidArgument):
            world.images.unpack("a")
        assert list(world.snapshotter.walk(kind=Kind.ACTIVE)) == []
        assert all(not lease.id.startswith("images-") for lease in world.snapshotter.list_leases())

    def test_threads_that_want_the_same_share_the_work(self, world: ImagesWorld) -> None:
        world.create(tiny_image(), "a")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: world.images.unpack("a").snapshot, range(8)))
        assert len(set(found)) == 1
        assert len(list(world.snapshotter.walk())) == 2

    def test_a_built_image_is_whole_without_layer_blobs(self, world: ImagesWorld) -> None:
        tiny = build(world, "built")
        world.content.collect()
        world.snapshotter.collect()
        assert len(list(world.snapshotter.walk(kind=Kind.COMMITTED))) == 2
        assert [entry.size for entry in world.images.history("built")] == [
            0,
            *(len(layer.tar) for layer in reversed(tiny.layers)),
        ]
        assert world.images.unpack("built").snapshot == "built-1"
        assert not any(world.has(layer.diff_id) for layer in tiny.layers)

    @pytest.mark.parametrize("kind", ArchiveFormat)
    def test_a_built_image_is_saved_from_its_snapshots(
        self, world: ImagesWorld, kind: ArchiveFormat
    ) -> None:
        tiny = build(world, "built:1")
        files = untar(b"".join(world.images.save(["built:1"], kind)))
        if kind is ArchiveFormat.OCI:
            assert layout_faults(files) == []
        else:
            (item,) = json.loads(files["manifest.json"])
            assert [files[name] for name in item["Layers"]] == [layer.tar for layer in tiny.layers]
        assert not any(world.has(layer.diff_id) for layer in tiny.layers)

    def test_a_built_image_comes_back_from_its_archive(self, world: ImagesWorld) -> None:
        tiny = build(world, "built:1")
        archive = b"".join(world.images.save(["built:1"], ArchiveFormat.OCI))
        world.images.remove("built:1")
        with contextlib.suppress(NotFound):
            world.snapshotter.remove("built-1")
            world.snapshotter.remove("built-0")
        (image,) = world.images.load(chunked(archive))
        assert image.id == tiny.id
        top = chain_id(layer.diff_id for layer in tiny.layers)
        assert world.images.unpack("built:1").snapshot == f"chain/{top}"

    def test_layers_that_are_nowhere_cannot_be_recorded(self, world: ImagesWorld) -> None:
        tiny = TinyImage((plain_layer({"f": b"x"}),), RunConfig(), host_platform())
        for data in (tiny.config, tiny.manifest):
            world.put(data)
        with pytest.raises(NotFound, match=Digest.of(tiny.layers[0].tar).hex):
            world.images.create(tiny.target)
