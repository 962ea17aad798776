"""HEALTHCHECK: exits with 0 when the server of this container answers."""

from __future__ import annotations

import os
import sys
from urllib.request import urlopen

try:
    with urlopen(f"http://127.0.0.1:{os.environ.get('PORT', '8080')}/health", timeout=2) as answer:
        print(answer.read().decode().strip())
except OSError as e:
    print(e)
    sys.exit(1)
