"""Entry point: finds the verb, imports its module and nothing else.

The start is a hot path (DESIGN.md): ``--help`` and ``--version`` import no gRPC, and each verb
pays only for itself.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import Final

VERBS: Final = {
    "build": ("build", "Build an image from a Dockerfile"),
    "run": ("run", "Run a command in a new container of an image"),
    "images": ("images", "List images"),
    "inspect": ("inspect", "Show everything that is known of images"),
    "history": ("history", "Show the history of an image"),
    "tag": ("tag", "Give an image another name"),
    "rmi": ("rmi", "Remove images"),
    "save": ("save", "Write images to a tar archive"),
    "load": ("load", "Read images from a tar archive"),
    "import": ("import_", "Make an image of the contents of a tarball"),
    "prune": ("prune", "Remove the build cache"),
    "serve": ("serve", "Run the services, or some of them"),
    "shutdown": ("shutdown", "End the daemon"),
    "info": ("info", "Show what the daemon is made of"),
    "version": ("version", "Show the versions of client and daemon"),
}
"""Verb → module in this package and the line that ``--help`` shows."""

GROUPS: Final = {
    "image": {
        "ls": "images",
        "list": "images",
        "rm": "rmi",
        "remove": "rmi",
        **{verb: verb for verb in ("build", "history", "inspect", "tag", "save", "load", "import")},
    },
    "builder": {"build": "build", "prune": "prune"},
    "buildx": {"build": "build", "prune": "prune"},
    "container": {"run": "run"},
    "system": {"info": "info"},
}
"""Docker's management commands, each a longer way to say a verb."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status, docker's where docker has one."""
    # grpc tells on stderr what we tell in a sentence, or what is no error: a daemon that was asked
    # to end has ended.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _open_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    host = ""
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("-h", "--help"):
            return _help()
        if option in ("-v", "--version"):
            return _print_version()
        if option in ("-H", "--host") and words:
            host = words.pop(0)
        elif option.startswith("--host="):
            host = option.partition("=")[2]
        else:
            return _fail(f"unknown flag: {option}", 125)
    if not words or words[0] == "help":
        return _help()
    verb = words.pop(0)
    if verb in GROUPS:
        if not words or words[0] in ("-h", "--help"):
            sys.stdout.write(f"Usage:  slipform {verb} {{{','.join(GROUPS[verb])}}}\n")
            return 0
        sub = words.pop(0)
        if sub not in GROUPS[verb]:
            return _fail(f"'{sub}' is not a slipform {verb} command.", 1)
        verb = GROUPS[verb][sub]
    if verb not in VERBS:
        return _fail(f"'{verb}' is not a slipform command.{_guess(verb)}", 1)
    return _run(verb, words, host)


def _open_standard_streams() -> None:
    """Put /dev/null where a caller closed one: a socket there would be read or written as it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))


def _run(verb: str, words: list[str], host: str) -> int:
    from slipform.cli.errors import reported

    # Nothing that imports make is garbage; looking for it takes a tenth of the start.
    gc.disable()
    try:
        module = import_module(f"slipform.cli.{VERBS[verb][0]}")
    except KeyboardInterrupt:
        return 130
    gc.enable()
    with reported(getattr(module, "FAILURE", 1)) as outcome:
        outcome.code = module.main(words, host)
    return outcome.code


def _help() -> int:
    width = max(map(len, VERBS)) + 2
    lines = [
        "Usage:  slipform [OPTIONS] COMMAND",
        "",
        "Builds, runs and ships OCI images",
        "",
        "Commands:",
        *(f"  {verb:{width}}{text}" for verb, (_, text) in VERBS.items()),
        "",
        "Options:",
        "  -H, --host ADDRESS   Daemon to talk to: unix:/path or dns:host:port",
        "  -v, --version        Print the version and quit",
        "",
        "Environment:",
        "  SLIPFORM_ROOT        Data directory; its daemon is started when none answers",
        "  SLIPFORM_HOST        Daemon to talk to instead",
        "  SLIPFORM_CONFIG      Configuration file of services that run apart",
        "  SLIPFORM_TLS_CA, SLIPFORM_TLS_CERT, SLIPFORM_TLS_KEY",
        "                       PEM files for dns: addresses, as in [tls] of the file",
        "",
        "Run 'slipform COMMAND --help' for more on a command.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _print_version() -> int:
    from slipform.cli.versions import VERSION

    sys.stdout.write(f"Slipform version {VERSION}\n")
    return 0


def _guess(verb: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(verb, [*VERBS, *GROUPS], 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{hint}\nSee 'slipform --help'"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"slipform: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
