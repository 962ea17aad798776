"""Argument parsers that fail as docker does: exit status 125 and a hint."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

USAGE_ERROR = 125


class VerbParser(argparse.ArgumentParser):
    """A parser for one verb; options may not be abbreviated."""

    def __init__(self, verb: str, summary: str) -> None:
        """Make the parser of ``slipform VERB``."""
        super().__init__(prog=f"slipform {verb}", description=summary, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and exit with docker's status."""
        sys.stderr.write(f"{self.prog}: {message}\nSee '{self.prog} --help'.\n")
        sys.exit(USAGE_ERROR)


def key_value(text: str) -> tuple[str, str]:
    """Split ``NAME=value``; a name alone has an empty value."""
    name, _, value = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f'"{text}": want NAME=value')
    return name, value
