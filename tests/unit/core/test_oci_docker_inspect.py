from __future__ import annotations

from slipform.core.images import Image, ImageDetails
from slipform.core.oci.config import History, ImageConfig, RunConfig
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.docker_inspect import docker_inspect
from slipform.core.oci.platform import Platform

MANIFEST = Digest.of(b"manifest")


def details(run: RunConfig, *references: str) -> ImageDetails:
    config = ImageConfig(
        Platform("linux", "arm", "v7"),
        run,
        (Digest.of(b"layer"),),
        (History(created_by="x", comment="by hand"),),
        "2026-01-02T03:04:05Z",
        "somebody",
    )
    data = config.encode()
    image = Image(
        Digest.of(data),
        Descriptor("application/vnd.oci.image.manifest.v1+json", MANIFEST, 8),
        references,
        None,
        12,
        config.platform,
    )
    return ImageDetails(image, config, data, b"manifest", ())


def test_a_plain_image() -> None:
    value = docker_inspect(
        details(
            RunConfig(env=("A=b",), cmd=("x",), volumes=("/v",), extra={"More": 1}),
            "docker.io/library/a:1",
            f"docker.io/library/a@{MANIFEST}",
            "reg.example/b:2",
        )
    )
    assert value["RepoTags"] == ["a:1", "reg.example/b:2"]
    assert value["RepoDigests"] == [f"a@{MANIFEST}", f"reg.example/b@{MANIFEST}"]
    assert value["Comment"] == "by hand"
    assert (value["Os"], value["Architecture"], value["Variant"]) == ("linux", "arm", "v7")
    assert value["RootFS"] == {"Type": "layers", "Layers": [str(Digest.of(b"layer"))]}
    assert value["Config"]["Volumes"] == {"/v": {}}
    assert value["Config"]["More"] == 1
    assert value["Config"]["Entrypoint"] is None
    assert value["Config"]["Labels"] is None


def test_what_is_set_and_empty_stays_so() -> None:
    value = docker_inspect(details(RunConfig(cmd=(), entrypoint=())))
    assert value["Config"]["Cmd"] == []
    assert value["Config"]["Entrypoint"] == []
    assert value["RepoTags"] == value["RepoDigests"] == []
