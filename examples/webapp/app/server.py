"""A web server with two pages and a health endpoint; the standard library is enough."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path(__file__).parent / "site"


class Handler(BaseHTTPRequestHandler):
    """Answers GET: the page, what the container looks like from inside, and whether it lives."""

    server_version = "webapp"

    def do_GET(self) -> None:
        """Finds the answer to a path."""
        if self.path == "/":
            self.answer_page(SITE / "index.html")
        elif self.path == "/about":
            self.answer("application/json", json.dumps(about(), indent=2).encode() + b"\n")
        elif self.path == "/health":
            self.answer("text/plain", b"ok\n")
        else:
            self.send_error(404)

    def answer_page(self, page: Path) -> None:
        """Sends a page, compressed (that was done when the image was built) to whom it suits."""
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self.answer("text/html; charset=utf-8", Path(f"{page}.gz").read_bytes(), "gzip")
        else:
            self.answer("text/html; charset=utf-8", page.read_bytes())

    def answer(self, kind: str, body: bytes, encoding: str | None = None) -> None:
        """Sends a whole response."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)


def about() -> dict[str, object]:
    """Returns what a visitor may know about this container."""
    return {
        "version": os.environ.get("WEBAPP_VERSION", "unknown"),
        "python": sys.version.split()[0],
        "uid": os.getuid(),
        "pid": os.getpid(),
        "directory": str(Path.cwd()),
    }


def main() -> None:
    """Serves until SIGTERM, which as pid 1 nobody else would turn into an end."""
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(address, Handler) as server:
        print(f"webapp listens on {address[0]}:{address[1]}")
        server.serve_forever()


if __name__ == "__main__":
    main()
