"""Finds trailing blanks, tabs in Python, missing final newlines, TOML or JSON that is none.

Without arguments it reads every file that git knows; `make lint` and the pre-commit hook use it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

TEXT: Final = {".py", ".proto", ".md", ".toml", ".yaml", ".yml", ".json", ".sh", ".mk", ""}
# Golden inputs hold odd bytes on purpose; generated code has its own taste.
LEFT_ALONE: Final = ("tests/golden/", "LICENSE")


def findings(name: str, content: bytes) -> list[str]:
    """Returns one line per thing that is wrong with a file."""
    lines = content.split(b"\n")
    found = [
        f"{name}:{number}: trailing blank"
        for number, line in enumerate(lines, 1)
        if line.endswith((b" ", b"\t", b"\r"))
    ]
    if content and not content.endswith(b"\n"):
        found.append(f"{name}:{len(lines)}: no newline at the end")
    if name.endswith(".py") and b"\t" in content:
        found.append(f"{name}: a tab in Python")
    return found + syntax(name, content)


def syntax(name: str, content: bytes) -> list[str]:
    """Returns what a parser says against a TOML or JSON file."""
    try:
        if name.endswith(".toml"):
            tomllib.loads(content.decode())
        elif name.endswith(".json"):
            json.loads(content)
    except ValueError as e:
        return [f"{name}: {e}"]
    return []


def known_to_git() -> list[str]:
    """Returns the files in git's index."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def main(names: list[str]) -> int:
    """Prints what is wrong, and returns 1 when something is."""
    found = []
    for name in names or known_to_git():
        path = Path(name)
        if path.suffix in TEXT and "_pb2" not in name and not name.startswith(LEFT_ALONE):
            found += findings(name, path.read_bytes()) if path.is_file() else []
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
