"""``slipform save``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.cli.connect import connect
from slipform.cli.errors import CommandError
from slipform.cli.parsers import VerbParser
from slipform.core.images import ArchiveFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMATS: Final = {
    "docker": ArchiveFormat.DOCKER,
    "docker-archive": ArchiveFormat.DOCKER,
    "oci": ArchiveFormat.OCI,
    "oci-archive": ArchiveFormat.OCI,
}


def main(words: list[str], host: str) -> int:
    """Write an archive to a file or to stdout; a file is whole or not there."""
    parser = VerbParser("save", "Write images to a tar archive.")
    parser.add_argument("image", nargs="+", metavar="IMAGE")
    parser.add_argument("-o", "--output", type=Path, help="write to a file instead of stdout")
    parser.add_argument("--format", default="docker", choices=sorted(_FORMATS))
    given = parser.parse_args(words)
    if given.output is None and sys.stdout.isatty():
        raise CommandError("cowardly refusing to save to a terminal. Use -o or redirect")
    with connect(host) as client:
        chunks = client.images.save(given.image, _FORMATS[given.format])
        if given.output is None:
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        else:
            _write_aside(given.output, chunks)
    return 0


def _write_aside(path: Path, chunks: Iterator[bytes]) -> None:
    """Write beside the file and rename: nobody ever sees half an archive."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as e:
        raise CommandError(f"slipform: cannot write {path}: {e.strerror}") from e
    finally:
        aside.unlink(missing_ok=True)
