"""Mutual TLS: the files that prove who we are and say whom we believe.

TCP is never spoken without it (docs/security.md): whoever can call a daemon is root on its host.
Nothing here imports grpc at the top, since configuration is read before grpc may be imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

_KEYS: Final = ("ca", "cert", "key")
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Three PEM files; both ends of a connection need all of them.

    They are read when a server listens or a channel is opened, not before.
    """

    ca: Path
    """Certificates of the authorities that may vouch for the other side."""
    cert: Path
    """Our certificate, and after it those between it and the authority."""
    key: Path
    """The private key of ``cert``, without a passphrase."""


def tls_files(
    table: object, environment: Mapping[str, str], *, where: str, base: Path
) -> TlsFiles | None:
    """Put together what a ``[tls]`` table and ``SLIPFORM_TLS_CA``, ``_CERT`` and ``_KEY`` say.

    Args:
        table: as TOML has it; None when there is none.
        environment: wins over the table, name by name.
        where: the configuration file, for messages.
        base: what relative paths in the table start from; those of the environment start from
            the working directory.

    Returns:
        The files; None when nobody names any.

    Raises:
        InvalidArgument: not a table, an unknown key, not a path, or one of the three is missing.
    """
    named = {} if table is None else _paths(table, where, base)
    for key in _KEYS:
        if path := environment.get(f"SLIPFORM_TLS_{key.upper()}"):
            named[key] = Path(path).absolute()
    if not named:
        return None
    for key in _KEYS:
        if key not in named:
            raise InvalidArgument(
                f"{where}: [tls] {key} (or SLIPFORM_TLS_{key.upper()}) is not set: want ca, cert"
                " and key"
            )
    return TlsFiles(**named)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """What a server shows; it answers nobody whose certificate the authority has not signed.

    Raises:
        NotFound: one of the files does not exist.
        InvalidArgument: one of them cannot be read, is not PEM, or does not fit the others.
    """
    import grpc

    ca, cert, key = _read_all(files)
    return grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """What a client shows; it talks to no server that the authority has not signed.

    The server's certificate must have the dialled host as subjectAltName.

    Raises:
        NotFound: one of the files does not exist.
        InvalidArgument: one of them cannot be read, is not PEM, or does not fit the others.
    """
    import grpc

    ca, cert, key = _read_all(files)
    return grpc.ssl_channel_credentials(ca, key, cert)


def _paths(table: object, where: str, base: Path) -> dict[str, Path]:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{where}: [tls]: want a table, found {type(table).__name__}")
    for key, value in table.items():
        if key not in _KEYS:
            raise InvalidArgument(
                f'{where}: [tls]: unknown key "{key}", want one of {sorted(_KEYS)}'
            )
        if not isinstance(value, str) or not value:
            raise InvalidArgument(f"{where}: [tls] {key} is {value!r}, want the path of a file")
    return {key: base.absolute() / value for key, value in table.items()}


def _read_all(files: TlsFiles) -> tuple[bytes, bytes, bytes]:
    ca = _read(files.ca, "ca", _CERTIFICATE)
    cert = _read(files.cert, "cert", _CERTIFICATE)
    key = _read(files.key, "key", _KEY)
    if b"ENCRYPTED" in key:
        raise InvalidArgument(f"[tls] key {files.key} has a passphrase, want one without")
    _check(files)
    return ca, cert, key


def _read(path: Path, name: str, mark: bytes) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        raise NotFound(f"[tls] {name} {path} does not exist") from e
    except OSError as e:
        raise InvalidArgument(f"[tls] {name} {path} cannot be read: {e.strerror}") from e
    if mark not in data:
        kind = "private key" if mark == _KEY else "certificate"
        raise InvalidArgument(f"[tls] {name} {path} is not PEM: it holds no {kind}")
    return data


def _check(files: TlsFiles) -> None:
    """Ask OpenSSL, which says what is wrong; grpc would only say that it could not bind."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(files.ca)
    except ssl.SSLError as e:
        raise InvalidArgument(f"[tls] ca {files.ca} is not PEM: {_reason(e)}") from e
    try:
        context.load_cert_chain(files.cert, files.key)
    except ssl.SSLError as e:
        if e.reason == "KEY_VALUES_MISMATCH":
            raise InvalidArgument(
                f"[tls] key {files.key} does not belong to the certificate in {files.cert}"
            ) from e
        raise InvalidArgument(
            f"[tls] cert {files.cert} or key {files.key} is not PEM: {_reason(e)}"
        ) from e


def _reason(error: object) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or "malformed").lower().replace("_", " ")
