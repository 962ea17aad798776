"""What every image store does: ``ImageStoreContract``; and images small enough for any test.

A subclass of the contract supplies the fixture ``world``. The builders make images of nothing but
bytes (``tiny_image``, ``tiny_oci_layout``, ``tiny_docker_archive``) or of this machine's static
busybox (``busybox_rootfs_tar``); ``layout_faults`` says what is wrong with an OCI layout.
"""

from __future__ import annotations

from slipform.testing.images._archives import LoadContract, SaveContract
from slipform.testing.images._layout import layout_faults, untar
from slipform.testing.images._names import NameContract, RecordContract
from slipform.testing.images._tiny import (
    BUSYBOX,
    CREATED,
    Directory,
    File,
    HardLink,
    Symlink,
    TinyImage,
    TinyLayer,
    busybox_rootfs_tar,
    gzip_layer,
    plain_layer,
    rootfs_tar,
    tar_of,
    tiny_docker_archive,
    tiny_image,
    tiny_oci_layout,
)
from slipform.testing.images._unpacking import UnpackContract
from slipform.testing.images._world import ImagesWorld, chunked

__all__ = [
    "BUSYBOX",
    "CREATED",
    "Directory",
    "File",
    "HardLink",
    "ImageStoreContract",
    "ImagesWorld",
    "Symlink",
    "TinyImage",
    "TinyLayer",
    "UnpackContract",
    "busybox_rootfs_tar",
    "chunked",
    "gzip_layer",
    "layout_faults",
    "plain_layer",
    "rootfs_tar",
    "tar_of",
    "tiny_docker_archive",
    "tiny_image",
    "tiny_oci_layout",
    "untar",
]


class ImageStoreContract(RecordContract, NameContract, LoadContract, SaveContract):
    """Everything an image store must do without mounting; ``UnpackContract`` is the rest."""
