"""``slipform history``."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from slipform.cli.connect import connect
from slipform.cli.parsers import VerbParser
from slipform.cli.units import human_age, human_size, table

if TYPE_CHECKING:
    from slipform.core.images import HistoryEntry

_CREATED_BY: Final = 45
"""Characters of the instruction that docker shows without ``--no-trunc``."""


def main(words: list[str], host: str) -> int:
    """Print the history, newest first, in docker's columns."""
    parser = VerbParser("history", "Show the history of an image.")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only ids")
    parser.add_argument("--no-trunc", action="store_true", help="print everything whole")
    parser.add_argument(
        "-H", "--human", nargs="?", const="true", default="true", choices=("true", "false")
    )
    parser.add_argument("--format", default="", help='"json", or {{.Field}} of a row')
    given = parser.parse_args(words)
    with connect(host) as client:
        entries = client.images.history(given.image)
    human = given.human == "true"
    rows = [_row(entry, whole=given.no_trunc, human=human) for entry in entries]
    if given.quiet:
        sys.stdout.write("".join(f"{row['ID']}\n" for row in rows))
    elif given.format and given.format != "table":
        from slipform.cli.templates import render

        sys.stdout.write("".join(render(given.format, row) + "\n" for row in rows))
    else:
        keys = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
        header = ("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT")
        sys.stdout.write(table(header, [[row[key] for key in keys] for row in rows]))
    return 0


def _row(line: HistoryEntry, *, whole: bool, human: bool) -> dict[str, Any]:
    created_by = line.entry.created_by.replace("\t", " ").replace("\n", " ")
    if not whole and len(created_by) > _CREATED_BY:
        created_by = created_by[: _CREATED_BY - 1] + "…"
    identity = "<missing>"
    if line.image_id is not None:
        identity = str(line.image_id) if whole else line.image_id.short
    at = datetime.fromisoformat(line.entry.created) if line.entry.created else None
    return {
        "ID": identity,
        "CreatedSince": human_age(at),
        "CreatedAt": line.entry.created,
        "CreatedBy": created_by,
        "Size": human_size(line.size) if human else str(line.size),
        "Comment": line.entry.comment,
    }
