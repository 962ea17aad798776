"""How failures reach a person: one sentence on stderr, and docker's exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipform.core.errors import Cancelled, DomainError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


@dataclass(slots=True)
class Outcome:
    """What a command ended with."""

    code: int = 0


class CommandError(Exception):
    """A command gives up with a sentence and an exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        """Keep both."""
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def reported(failure: int) -> Iterator[Outcome]:
    """Around a command: expected failures are told, not traced.

    Args:
        failure: exit status for failures that carry none of their own.
    """
    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()
    except CommandError as e:
        tell(str(e))
        outcome.code = e.code
    except Cancelled:
        outcome.code = INTERRUPTED
    except DomainError as e:
        tell(f"Error: {e}")
        if isinstance(e, InvalidArgument):
            tell(source_excerpt(e))
        outcome.code = failure
    except KeyboardInterrupt:
        outcome.code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: keep Python from complaining at exit.
        _forget_stdout()
        outcome.code = 141
    except UnicodeError as e:
        # A word of the command line or of the environment that no message can carry.
        said = ascii(e.object) if isinstance(e, UnicodeEncodeError) else str(e)
        tell(f"slipform: not UTF-8: {said[:200]}")
        outcome.code = failure
    except OSError as e:
        # Commands tell which file they could not read; what is left is our own output.
        _forget_stdout()
        tell(f"slipform: {e.filename or 'write error'}: {e.strerror or e}")
        outcome.code = failure


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere: Python would complain about it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def tell(text: str) -> None:
    """Write one message to stderr; nothing when it is empty."""
    if text:
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()


def source_excerpt(error: InvalidArgument) -> str:
    """The line of the file that is wrong, with a mark under the place; may be empty."""
    at = error.source
    if at is None:
        return ""
    lines = [f"{at.file}:{at.start_line}"]
    if error.source_line:
        number = f"{at.start_line:4d} | "
        lines.append(f"{number}{error.source_line}")
        lines.append(" " * (len(number) + max(0, at.start_column - 1)) + "^")
    if error.expected:
        lines.append(f"expected: {error.expected}")
    return "\n".join(lines)
