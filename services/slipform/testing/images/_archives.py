"""Archives and imports."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import pyzstd

from slipform.core.errors import DigestMismatch, DomainError, InvalidArgument, NotFound
from slipform.core.images import ArchiveFormat
from slipform.core.oci.config import RunConfig
from slipform.core.oci.digest import Digest
from slipform.core.oci.platform import Platform
from slipform.testing.images._layout import layout_faults, untar
from slipform.testing.images._tiny import (
    TinyImage,
    gzip_layer,
    plain_layer,
    rootfs_tar,
    tar_of,
    tiny_docker_archive,
    tiny_image,
    tiny_oci_layout,
)
from slipform.testing.images._world import chunked

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.testing.images._world import ImagesWorld

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": pyzstd.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


class LoadContract:
    """Reading archives and root file systems."""

    @pytest.mark.parametrize("kind", COMPRESSORS)
    def test_a_docker_archive(self, world: ImagesWorld, kind: str) -> None:
        tiny = tiny_image()
        archive = COMPRESSORS[kind](tar_of(tiny_docker_archive({"busybox:1": tiny})))
        (image,) = world.images.load(chunked(archive))
        assert image.id == tiny.id
        assert image.references == ("docker.io/library/busybox:1",)
        assert image.size == sum(len(layer.tar) for layer in tiny.layers)
        world.content.collect()
        details = world.images.get("busybox:1")
        assert details.config_bytes == tiny.config
        assert [layer.digest for layer in details.layers] == [
            layer.descriptor.digest for layer in tiny.layers
        ]
        assert details.manifest_bytes == tiny.manifest

    @pytest.mark.parametrize("kind", COMPRESSORS)
    def test_an_oci_layout(self, world: ImagesWorld, kind: str) -> None:
        tiny = tiny_image()
        archive = COMPRESSORS[kind](tar_of(tiny_oci_layout({"reg.example/x:1": tiny})))
        (image,) = world.images.load(chunked(archive))
        assert image.target == tiny.target
        assert image.references == ("reg.example/x:1",)

    def test_loading_again_changes_nothing(self, world: ImagesWorld) -> None:
        archive = tar_of(tiny_docker_archive({"a": tiny_image()}))
        first = list(world.images.load(chunked(archive)))
        assert list(world.images.load(chunked(archive))) == first
        assert world.images.list_images() == first

    def test_several_images_that_share_a_layer(self, world: ImagesWorld) -> None:
        first, second = tiny_image("1"), tiny_image("2")
        files = tiny_docker_archive({"a": first, "b": second, "": TinyImage(())})
        images = list(world.images.load(chunked(tar_of(files))))
        assert [image.references for image in images] == [
            ("docker.io/library/a:latest",),
            ("docker.io/library/b:latest",),
            (),
        ]

    def test_nothing_is_left_of_what_no_image_needs(self, world: ImagesWorld) -> None:
        files = tiny_docker_archive({"a": tiny_image()}) | {"junk": b"j" * 200_000}
        list(world.images.load(chunked(tar_of(files))))
        assert not world.has(Digest.of(b"j" * 200_000))
        assert world.content.statuses() == []
        assert [lease.id for lease in world.content.list_leases()] == [
            f"image/{world.images.get('a').image.target.digest}"
        ]

    @pytest.mark.parametrize("make", [tiny_docker_archive, tiny_oci_layout])
    def test_a_changed_layer_is_a_digest_mismatch(
        self, world: ImagesWorld, make: Callable[[dict[str, TinyImage]], dict[str, bytes]]
    ) -> None:
        files = make({"a": tiny_image()})
        name = max(files, key=lambda n: len(files[n]))
        files[name] = files[name].replace(b"lower\n", b"LOWER\n")
        with pytest.raises(DigestMismatch, match=name.split("/")[0]):
            list(world.images.load(chunked(tar_of(files))))
        assert world.images.list_images() == []

    def test_a_changed_config_is_a_digest_mismatch(self, world: ImagesWorld) -> None:
        files = tiny_docker_archive({"a": tiny_image()})
        name = f"{tiny_image().id.hex}.json"
        files[name] += b" "
        with pytest.raises(DigestMismatch, match=name):
            list(world.images.load(chunked(tar_of(files))))

    def test_one_bad_image_keeps_all_of_an_archive_out(self, world: ImagesWorld) -> None:
        files = tiny_docker_archive({"a": tiny_image("1"), "b": tiny_image("2")})
        del files[f"{tiny_image('2').layers[1].diff_id.hex}/layer.tar"]
        with pytest.raises(InvalidArgument, match="is not in the archive"):
            list(world.images.load(chunked(tar_of(files))))
        assert world.images.list_images() == []
        assert list(world.content.walk()) == []
        assert world.content.list_leases() == []

    @pytest.mark.parametrize("kind", COMPRESSORS)
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
    def test_a_truncated_archive_is_refused(
        self, world: ImagesWorld, kind: str, share: float
    ) -> None:
        body = bytes(range(256)) * 1000
        tiny = TinyImage((plain_layer({"f": body}), gzip_layer({"g": body})))
        whole = COMPRESSORS[kind](tar_of(tiny_oci_layout({"a": tiny})))
        with pytest.raises(InvalidArgument):
            list(world.images.load(chunked(whole[: int(len(whole) * share)])))
        assert world.images.list_images() == []
        assert world.content.statuses() == []

    @pytest.mark.parametrize(
        "data",
        [b"", b"\0" * 10240, b"no tar at all, but long enough " * 100, b"\x1f\x8b\x08", b"BZh9"],
        ids=["empty", "zeros", "text", "gzip", "bzip2"],
    )
    def test_what_is_no_archive_is_refused(self, world: ImagesWorld, data: bytes) -> None:
        with pytest.raises(InvalidArgument, match="archive"):
            list(world.images.load(chunked(data)))

    def test_a_root_file_system_is_no_image_archive(self, world: ImagesWorld) -> None:
        with pytest.raises(InvalidArgument, match=r"neither manifest\.json"):
            list(world.images.load([rootfs_tar({"etc/passwd": b""})]))

    def test_an_import(self, world: ImagesWorld) -> None:
        tar = rootfs_tar({"etc/passwd": b"root\n"})
        at = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
        image = world.images.import_rootfs(
            chunked(gzip.compress(tar)),
            "base:1",
            changes=["ENV A=b", 'CMD ["sh"]'],
            message="made by hand",
            platform=Platform("linux", "arm", "v7"),
            created=at,
        )
        assert image.references == ("docker.io/library/base:1",)
        assert (image.created_at, image.size) == (at, len(tar))
        details = world.images.get("base:1")
        assert details.config.diff_ids == (Digest.of(tar),)
        assert details.layers[0].digest == Digest.of(tar)
        assert details.config.config == RunConfig(env=("A=b",), cmd=("sh",))
        assert details.config.created == "2026-01-02T03:04:05.6Z"
        assert details.config.history[0].comment == "made by hand"
        assert str(image.platform) == "linux/arm/v7"
        assert b"".join(world.content.read(Digest.of(tar))) == tar

    def test_the_same_import_is_the_same_image(self, world: ImagesWorld) -> None:
        tar, at = rootfs_tar({"f": b"x"}), datetime(2026, 1, 1, tzinfo=UTC)
        first = world.images.import_rootfs([tar], created=at)
        assert world.images.import_rootfs([lzma.compress(tar)], created=at) == first
        assert world.images.get(str(first.id)).config.history[0].comment == "Imported from -"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "empty"),
            (b"not a tar" * 100, "not a tar"),
            (rootfs_tar({"f": b"x" * 1000})[:1024], 'truncated in member "f"'),
            (rootfs_tar({"f": b"x" * 512})[:1024], "truncated: no end-of-archive"),
            (gzip.compress(rootfs_tar({"f": b"x"}), mtime=0)[:-9], "ends early"),
        ],
        ids=["empty", "text", "in a body", "after a body", "in gzip"],
    )
    def test_a_bad_root_file_system_is_refused(
        self, world: ImagesWorld, data: bytes, message: str
    ) -> None:
        with pytest.raises(InvalidArgument, match=message):
            world.images.import_rootfs(chunked(data), "a")
        assert world.images.list_images() == []
        assert world.content.statuses() == []
        assert list(world.content.walk()) == []

    def test_a_bad_change_is_refused(self, world: ImagesWorld) -> None:
        with pytest.raises(InvalidArgument, match='"RUN" is not a valid change command'):
            world.images.import_rootfs([rootfs_tar({})], changes=["RUN true"])


class SaveContract:
    """Writing archives."""

    def test_a_docker_archive_has_uncompressed_layers(self, world: ImagesWorld) -> None:
        tiny = tiny_image()
        world.create(tiny, "busybox:1", "me/app")
        files = untar(self._save(world, ArchiveFormat.DOCKER, "busybox:1", "me/app:latest"))
        (item,) = json.loads(files["manifest.json"])
        assert item["RepoTags"] == ["busybox:1", "me/app:latest"]
        assert files[item["Config"]] == tiny.config
        assert [files[name] for name in item["Layers"]] == [layer.tar for layer in tiny.layers]
        top = tiny.layers[-1].diff_id.hex
        assert json.loads(files["repositories"]) == {
            "busybox": {"1": top},
            "me/app": {"latest": top},
        }

    def test_an_oci_layout_keeps_every_rule(self, world: ImagesWorld) -> None:
        first, second = tiny_image("1"), tiny_image("2")
        world.create(first, "busybox:1", "me/app:2")
        world.create(second, "other:1")
        world.create(TinyImage(()))
        archive = self._save(
            world,
            ArchiveFormat.OCI,
            *("busybox:1", "me/app:2", "other:1", str(TinyImage(()).id)),
        )
        files = untar(archive)
        assert layout_faults(files) == []
        manifests = json.loads(files["index.json"])["manifests"]
        assert [item["digest"] for item in manifests] == [
            *(str(first.target.digest),) * 2,
            str(second.target.digest),
            str(TinyImage(()).target.digest),
        ]
        assert [item.get("annotations") for item in manifests] == [
            {
                "io.containerd.image.name": "docker.io/library/busybox:1",
                "org.opencontainers.image.ref.name": "busybox:1",
            },
            {
                "io.containerd.image.name": "docker.io/me/app:2",
                "org.opencontainers.image.ref.name": "2",
            },
            {
                "io.containerd.image.name": "docker.io/library/other:1",
                "org.opencontainers.image.ref.name": "other:1",
            },
            None,
        ]

    @pytest.mark.parametrize("kind", ArchiveFormat)
    def test_what_is_saved_can_be_loaded(self, world: ImagesWorld, kind: ArchiveFormat) -> None:
        world.create(tiny_image("1"), "a:1", "a:2")
        world.create(tiny_image("2"), "b")
        archive = self._save(world, kind, "a", "b")
        before = {(image.id, image.references) for image in world.images.list_images()}
        for name in ("a:1", "a:2", "b"):
            world.images.remove(name)
        assert list(world.content.walk()) == []
        loaded = {(image.id, image.references) for image in world.images.load(chunked(archive))}
        assert loaded == before

    @pytest.mark.parametrize("kind", ArchiveFormat)
    def test_the_same_images_give_the_same_bytes(
        self, world: ImagesWorld, kind: ArchiveFormat
    ) -> None:
        world.create(tiny_image("1"), "a")
        world.create(tiny_image("2"), "b")
        assert self._save(world, kind, "a", "b") == self._save(world, kind, "a", "b")

    @pytest.mark.parametrize("kind", ArchiveFormat)
    def test_shared_layers_are_written_once(self, world: ImagesWorld, kind: ArchiveFormat) -> None:
        world.create(tiny_image("1"), "a")
        world.create(tiny_image("2"), "b")
        archive = self._save(world, kind, "a", "b")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            names = tar.getnames()
            assert all(member.mtime == 0 for member in tar)
        assert len(names) == len(set(names))
        assert names == sorted(names)

    def test_an_image_by_id_has_no_tags(self, world: ImagesWorld) -> None:
        world.create(tiny_image(), "a")
        files = untar(self._save(world, ArchiveFormat.DOCKER, tiny_image().id.hex[:12]))
        assert json.loads(files["manifest.json"])[0]["RepoTags"] is None
        assert "repositories" not in files

    def test_chunks_are_of_at_most_a_mebibyte(self, world: ImagesWorld) -> None:
        world.create(TinyImage((plain_layer({"f": bytes(3 << 20)}),)), "a")
        chunks = list(world.images.save(["a"], ArchiveFormat.OCI))
        assert max(map(len, chunks)) <= 1 << 20
        assert len(chunks) < 10

    def test_an_absent_image_is_not_found(self, world: ImagesWorld) -> None:
        world.create(tiny_image(), "a")
        with pytest.raises(NotFound, match="No such image: b:latest"):
            self._save(world, ArchiveFormat.OCI, "a", "b")
        with pytest.raises(InvalidArgument, match="at least one"):
            self._save(world, ArchiveFormat.OCI)

    def test_a_save_that_is_given_up_leaves_nothing(self, world: ImagesWorld) -> None:
        world.create(TinyImage((plain_layer({"f": bytes(9 << 20)}),)), "a")
        chunks = world.images.save(["a"], ArchiveFormat.OCI)
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        with pytest.raises(DomainError):
            world.images.get("b")
        assert world.images.remove("a")

    @staticmethod
    def _save(world: ImagesWorld, kind: ArchiveFormat, *names: str) -> bytes:
        return b"".join(world.images.save(names, kind))
