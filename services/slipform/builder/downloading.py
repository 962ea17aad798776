"""ADD of URLs: fetched once, revalidated by ETag and Last-Modified, verified, limited."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import os
import posixpath
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.builder.cache import Download
from slipform.core.errors import DigestMismatch, InvalidArgument, ResourceExhausted, Unavailable
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPResponse
    from pathlib import Path

    from slipform.builder.cache import BuildCache

MAX_SIZE: Final = 16 << 30
"""Bytes of one download."""
_TIMEOUT_S: Final = 60.0
_CHUNK: Final = 1 << 20
_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Remote:
    """A URL whose content is known; ``path`` is None until its bytes are here."""

    url: str
    digest: str
    modified: str = ""
    path: Path | None = None

    @property
    def mtime_ns(self) -> int:
        """Last-Modified, or the epoch."""
        parsed = email.utils.parsedate_tz(self.modified)
        return 0 if parsed is None else max(0, email.utils.mktime_tz(parsed)) * 1_000_000_000


class Downloader:
    """Fetches for one build into its own directory.

    Args:
        cache: what servers said before.
        directory: where bytes go.
        proxies: URL of a proxy by scheme; the process's environment is not asked.
        check: called for every chunk; raises to give up.
    """

    def __init__(
        self,
        cache: BuildCache,
        directory: Path,
        proxies: dict[str, str],
        check: Callable[[], None],
    ) -> None:
        self._cache = cache
        self._directory = directory
        self._check = check
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies), _WebOnly()
        ).open

    def identify(self, url: str, checksum: str) -> Remote:
        """Find out what a URL holds, fetching it only when that is not known otherwise.

        Raises:
            InvalidArgument: not a URL of the web.
            Unavailable: the server cannot be reached or refuses.
            DigestMismatch: the content is not that of ``checksum``.
        """
        _check_url(url)
        if checksum:
            return Remote(url, str(_sha256(checksum)))
        known = self._cache.download(url)
        headers = {}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.modified:
            headers["If-Modified-Since"] = known.modified
        return self._get(url, headers, known)

    def fetch(self, remote: Remote) -> Remote:
        """The same with its bytes on disk, verified."""
        if remote.path is not None:
            return remote
        got = self._get(remote.url, {}, None)
        if got.digest != remote.digest:
            raise DigestMismatch(f"ADD {remote.url}: want {remote.digest}, found {got.digest}")
        return got

    def _get(self, url: str, headers: dict[str, str], known: Download | None) -> Remote:
        request = urllib.request.Request(url, headers={**headers, "Accept-Encoding": "identity"})  # noqa: S310 - checked
        try:
            with self._open(request, timeout=_TIMEOUT_S) as answer:
                remote = self._receive(url, answer)
        except urllib.error.HTTPError as e:
            with contextlib.closing(e):
                if e.code == 304 and known is not None:
                    return Remote(url, known.digest, known.modified)
            raise Unavailable(f"ADD {url}: the server answered {e.code} {e.reason}") from e
        except (OSError, ValueError) as e:
            reason = e.reason if isinstance(e, urllib.error.URLError) else e
            text = getattr(reason, "strerror", None) or reason
            raise Unavailable(f"ADD {url}: {text}") from e
        return remote

    def _receive(self, url: str, answer: HTTPResponse) -> Remote:
        path = self._directory / os.urandom(8).hex()
        hasher = hashlib.sha256()
        size = 0
        with path.open("xb") as file:
            while chunk := answer.read(_CHUNK):
                self._check()
                size += len(chunk)
                if size > MAX_SIZE:
                    raise ResourceExhausted(f"ADD {url}: larger than {MAX_SIZE} bytes")
                hasher.update(chunk)
                file.write(chunk)
        announced = answer.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) != size:
            raise Unavailable(f"ADD {url}: ended after {size} of {announced} bytes")
        digest = f"sha256:{hasher.hexdigest()}"
        modified = answer.headers.get("Last-Modified", "")
        etag = answer.headers.get("ETag", "")
        if etag or modified:
            self._cache.add_download(url, Download(etag, modified, digest))
        return Remote(url, digest, modified, path)


def file_name(url: str, *, needed: bool) -> str:
    """The last part of a URL's path.

    Raises:
        InvalidArgument: there is none, and the destination is a directory.
    """
    name = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
    if name in ("", ".", "..") or "\0" in name or "/" in name:
        if needed:
            raise InvalidArgument(
                f"ADD {url}: the URL has no file name, and the destination is a directory"
            )
        return "file"
    return name


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Redirects may not leave the web (urllib would follow to ftp)."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        _check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in _SCHEMES or not parts.hostname:
        raise InvalidArgument(f'ADD "{url}": want an http or https URL')


def _sha256(text: str) -> Digest:
    digest = Digest.parse(text)
    if digest.algorithm != "sha256":
        raise InvalidArgument(f'ADD --checksum="{text}": only sha256 is supported')
    return digest
