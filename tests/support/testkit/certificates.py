"""Certificates for mutual TLS, made by the openssl command."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipform.rpc.tls import TlsFiles
from testkit.requires import need

HERE: Final = ("IP:127.0.0.1", "DNS:localhost")
_NEW: Final = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"


@dataclass(frozen=True)
class Authority:
    """Vouches for whom it is told to."""

    folder: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, name: str = "ca") -> Authority:
        """A new one; skips the test where there is no openssl."""
        need("openssl")
        folder.mkdir(exist_ok=True)
        made = cls(folder, folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(made.certificate, made.key, name, "basicConstraints=critical,CA:TRUE")
        return made

    def issue(self, name: str, hosts: tuple[str, ...] = HERE) -> TlsFiles:
        """A certificate for a server or a client, which both believe this authority."""
        files = TlsFiles(self.certificate, self.folder / f"{name}.pem", self.folder / f"{name}.key")
        names = f"subjectAltName={','.join(hosts)}"
        signed = ("-CA", str(self.certificate), "-CAkey", str(self.key))
        _openssl(files.cert, files.key, name, "basicConstraints=critical,CA:FALSE", names, *signed)
        return files


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _openssl(certificate: Path, key: Path, name: str, *words: str) -> None:
    extensions = [part for word in words if "=" in word for part in ("-addext", word)]
    rest = [word for word in words if "=" not in word]
    out = ["-out", str(certificate), "-keyout", str(key), "-subj", f"/CN={name}"]
    subprocess.run(
        ["openssl", *_NEW.split(), *out, *extensions, *rest], check=True, capture_output=True
    )
