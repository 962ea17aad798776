"""OCI image layouts (image-spec image-layout.md): file names, annotations, the marker file."""

from __future__ import annotations

from typing import Final

from slipform.core.errors import InvalidArgument
from slipform.core.oci import canonical
from slipform.core.oci.digest import Digest

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
BLOBS: Final = "blobs"
VERSION: Final = "1.0.0"

REF_NAME: Final = "org.opencontainers.image.ref.name"
"""Annotation of a manifest in an index: its tag, as skopeo and umoci look it up."""
IMAGE_NAME: Final = "io.containerd.image.name"
"""The full normalised reference, as containerd and docker write and read it."""
IMAGE_CREATED: Final = "org.opencontainers.image.created"
REFERENCE_TYPE: Final = "vnd.docker.reference.type"
"""Marks manifests that are no images: ``attestation-manifest``."""


def blob_path(digest: Digest) -> str:
    """Where a layout keeps a blob: ``blobs/sha256/<hex>``."""
    return f"{BLOBS}/{digest.algorithm}/{digest.hex}"


def digest_of_path(path: str) -> Digest | None:
    """The digest that a path of a layout promises; None when it is not the path of a blob."""
    parts = path.split("/")
    if len(parts) != 3 or parts[0] != BLOBS:
        return None
    try:
        return Digest(parts[1], parts[2])
    except InvalidArgument:
        return None


def encode_marker() -> bytes:
    """The ``oci-layout`` file."""
    return canonical.encode({"imageLayoutVersion": VERSION})


def check_marker(data: bytes) -> None:
    """Accept the ``oci-layout`` file of any version 1.

    Raises:
        InvalidArgument: not JSON, or another version.
    """
    version = canonical.decode_object(data, LAYOUT_FILE).get("imageLayoutVersion")
    if not isinstance(version, str) or version.split(".")[0] != "1":
        raise InvalidArgument(f"{LAYOUT_FILE}: imageLayoutVersion is {version!r}, want {VERSION}")
