"""Recording, finding, naming and removing images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import FailedPrecondition, InvalidArgument, NotFound
from slipform.core.images import Removal
from slipform.core.oci import media_types
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.manifest import Manifest
from slipform.core.oci.platform import Platform
from slipform.testing.images._tiny import TinyImage, tiny_image

if TYPE_CHECKING:
    from slipform.testing.images._world import ImagesWorld

MALFORMED = (b"", b"[]", b"{}", b'{"schemaVersion":2}', b"\xff", b"[" * 9999)
ABSENT = ("absent", "absent:1", "deadbeef", "sha256:" + "0" * 64, "0" * 64)


class RecordContract:
    """Creating and reading images."""

    def test_a_created_image_is_found_by_all_its_names(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        image = world.create(tiny, "busybox", "me/app:1")
        assert image.id == tiny.id
        assert image.references == ("docker.io/library/busybox:latest", "docker.io/me/app:1")
        assert image.size == sum(len(layer.tar) for layer in tiny.layers)
        assert image.platform == tiny.platform
        for name in (
            "busybox",
            "docker.io/library/busybox:latest",
            "me/app:1",
            str(tiny.id),
            tiny.id.hex,
            tiny.id.hex[:5],
            f"sha256:{tiny.id.hex[:7]}",
            str(tiny.target.digest),
            tiny.target.digest.hex[:9],
            f"busybox@{tiny.target.digest}",
        ):
            details = world.images.get(name)
            assert details.image == image
            assert details.config_bytes == tiny.config
            assert details.manifest_bytes == tiny.manifest
            assert details.layers == tuple(layer.descriptor for layer in tiny.layers)
            assert details.config.config.env == ("A=b",)

    def test_creating_again_changes_nothing(self, world: ImagesWorld) -> None:
        first = world.create(tiny_image(), "a")
        assert world.create(tiny_image(), "a") == first
        assert world.images.list_images() == [first]

    def test_an_image_survives_collection_with_all_its_parts(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        stray = world.put(b"nobody needs this")
        world.create(tiny)
        world.content.collect()
        assert all(world.has(digest) for digest in tiny.blobs)
        assert not world.has(stray)

    def test_an_absent_manifest_config_or_layer_is_not_found(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        for missing in (tiny.target.digest, tiny.id, tiny.layers[0].descriptor.digest):
            for digest, data in tiny.blobs.items():
                if digest != missing:
                    world.put(data)
            with pytest.raises(NotFound, match=missing.hex):
                world.images.create(tiny.target, ["a"])
            assert world.images.list_images() == []
            for digest in tiny.blobs.keys() - {missing}:
                world.content.delete(digest)

    @pytest.mark.parametrize("data", MALFORMED)
    def test_a_malformed_manifest_is_refused(self, world: ImagesWorld, data: bytes) -> None:
        digest = world.put(data)
        with pytest.raises(InvalidArgument):
            world.images.create(Descriptor(media_types.OCI_MANIFEST, digest, len(data)))

    def test_layers_and_diff_ids_must_be_as_many(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        config = Descriptor(media_types.OCI_CONFIG, world.put(tiny.config), len(tiny.config))
        data = Manifest(config, (tiny.layers[0].descriptor,)).encode()
        target = Descriptor(media_types.OCI_MANIFEST, world.put(data), len(data))
        with pytest.raises(InvalidArgument, match="1 layers, but the config has 2 diff_ids"):
            world.images.create(target)

    def test_a_bad_reference_is_refused_before_anything_happens(self, world: ImagesWorld) -> None:
        for data in tiny_image().blobs.values():
            world.put(data)
        with pytest.raises(InvalidArgument, match="must be lowercase"):
            world.images.create(tiny_image().target, ["ok", "Bad"])
        assert world.images.list_images() == []

    def test_newest_first(self, world: ImagesWorld) -> None:
        old = world.create(TinyImage((), created="2020-01-01T00:00:00Z"), "old")
        new = world.create(TinyImage((), created="2024-01-01T00:00:00.123456789Z"), "new")
        never = world.create(TinyImage((), created="0001-01-01T00:00:00Z"), "never")
        assert world.images.list_images() == [new, old, never]
        assert never.created_at is None

    def test_history(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        world.create(tiny, "a")
        top, upper, lower = world.images.history("a")
        assert (top.entry.created_by, top.entry.empty_layer, top.size) == ("CMD", True, 0)
        assert top.image_id == tiny.id
        assert (upper.entry.created_by, upper.size) == ("layer 1", len(tiny.layers[1].tar))
        assert (lower.entry.created_by, lower.size) == ("layer 0", len(tiny.layers[0].tar))
        assert upper.image_id is lower.image_id is None

    def test_an_image_is_for_its_platform_only(self, world: ImagesWorld) -> None:
        world.create(TinyImage((), platform=Platform("linux", "s390x")), "a")
        found = world.images.get("a", platform=Platform("linux", "s390x"))
        assert found.image.platform.architecture == "s390x"
        with pytest.raises(NotFound, match="does not match the specified platform"):
            world.images.get("a", platform=Platform("linux", "amd64"))


class NameContract:
    """Tags, prefixes and removal, by docker's rules."""

    @pytest.mark.parametrize("name", ABSENT)
    def test_an_absent_name_is_not_found(self, world: ImagesWorld, name: str) -> None:
        with pytest.raises(NotFound, match="No such image"):
            world.images.get(name)

    def test_a_name_that_cannot_exist_is_refused(self, world: ImagesWorld) -> None:
        with pytest.raises(InvalidArgument, match="invalid reference format"):
            world.images.get("no such thing")
        with pytest.raises(InvalidArgument, match="invalid reference format"):
            world.images.get("")

    def test_a_prefix_of_two_ids_is_ambiguous(self, world: ImagesWorld) -> None:
        first: dict[str, str] = {}
        for number in range(300):
            tiny = TinyImage((), created=f"text {number}")
            world.create(tiny)
            if tiny.id.hex[0] in first:
                break
            first[tiny.id.hex[0]] = tiny.id.hex
        with pytest.raises(InvalidArgument, match="ambiguous"):
            world.images.get(f"sha256:{tiny.id.hex[0]}")

    def test_a_reference_wins_over_an_id(self, world: ImagesWorld) -> None:
        first = world.create(TinyImage((), created="1"))
        prefix = first.id.hex[:6]
        second = world.create(TinyImage((), created="2"), prefix)
        assert world.images.get(prefix).image == second

    def test_tagging_moves_a_name(self, world: ImagesWorld) -> None:
        first, second = world.create(TinyImage((), created="1"), "a"), TinyImage((), created="2")
        world.create(second, "b")
        world.images.tag("b", "a:latest")
        assert world.images.get("a").image.id == second.id
        assert world.images.get(str(first.id)).image.references == ()
        world.images.tag(second.id.hex[:12], "localhost:5000/x")
        assert world.references() == [
            "docker.io/library/a:latest",
            "docker.io/library/b:latest",
            "localhost:5000/x:latest",
        ]

    def test_tagging_errors(self, world: ImagesWorld) -> None:
        world.create(TinyImage(()), "a")
        with pytest.raises(NotFound, match="No such image: b:latest"):
            world.images.tag("b", "c")
        with pytest.raises(InvalidArgument, match="must be lowercase"):
            world.images.tag("a", "C")
        with pytest.raises(InvalidArgument, match="digest reference"):
            world.images.tag("a", "b@sha256:" + "0" * 64)
        with pytest.raises(InvalidArgument, match="ambiguous tag"):
            world.images.tag("a", "sha256:x")

    def test_removing_one_of_two_names_only_untags(self, world: ImagesWorld) -> None:
        world.create(tiny_image(), "a", "b:1")
        assert world.images.remove("a") == [Removal(untagged="a:latest")]
        assert world.references() == ["docker.io/library/b:1"]

    def test_removing_the_last_name_deletes(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        world.create(tiny, "a")
        assert world.images.remove("a") == [Removal(untagged="a:latest"), Removal(deleted=tiny.id)]
        assert world.images.list_images() == []
        assert not any(world.has(digest) for digest in tiny.blobs)
        assert all(not lease.id.startswith("image") for lease in world.content.list_leases())
        assert all(not lease.id.startswith("image") for lease in world.snapshotter.list_leases())

    def test_what_another_image_needs_stays(self, world: ImagesWorld) -> None:
        layers = tiny_image().layers
        world.create(TinyImage(layers, created="1"), "a")
        world.create(TinyImage(layers, created="2"), "b")
        world.images.remove("a")
        assert all(world.has(layer.descriptor.digest) for layer in layers)

    def test_an_id_with_several_names_must_be_forced(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        world.create(tiny, "a:1", "a:2")
        with pytest.raises(FailedPrecondition) as caught:
            world.images.remove(tiny.id.hex[:12])
        assert str(caught.value) == (
            f"conflict: unable to delete {tiny.id.short} (must be forced) - image is referenced"
            " in multiple repositories"
        )
        assert world.images.remove(tiny.id.hex[:12], force=True) == [
            Removal(untagged="a:1"),
            Removal(untagged="a:2"),
            Removal(deleted=tiny.id),
        ]

    def test_an_id_with_one_name_or_none_goes_at_once(self, world: ImagesWorld) -> None:
        one, none = TinyImage((), created="1"), TinyImage((), created="2")
        world.create(one, "a")
        world.create(none)
        assert world.images.remove(str(one.id)) == [
            Removal(untagged="a:latest"),
            Removal(deleted=one.id),
        ]
        assert world.images.remove(none.id.hex) == [Removal(deleted=none.id)]

    def test_removing_what_is_absent(self, world: ImagesWorld) -> None:
        with pytest.raises(NotFound, match="No such image: a:latest"):
            world.images.remove("a")

    def test_pins_of_a_repository_go_with_its_last_tag(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        pin = f"busybox@{Digest.of(b'index')}"
        world.create(tiny, "busybox", pin)
        assert world.images.remove("busybox") == [
            Removal(untagged="busybox:latest"),
            Removal(untagged=pin),
            Removal(deleted=tiny.id),
        ]
