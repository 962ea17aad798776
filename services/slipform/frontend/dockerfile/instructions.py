"""Typed instructions: what a statement says, nothing expanded yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipform.core.oci.config import Healthcheck
    from slipform.frontend.dockerfile.heredoc import Heredoc
    from slipform.frontend.dockerfile.lexer import Statement


@dataclass(frozen=True, slots=True)
class Instruction:
    """Any of them; ``statement`` knows where it stands."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class Command:
    """Exec form: ``words`` is argv. Shell form: ``words`` is the text for the shell, one word."""

    words: tuple[str, ...]
    exec_form: bool


@dataclass(frozen=True, slots=True)
class From(Instruction):
    """``FROM [--platform=p] base [AS name]``; ``name`` is lower-cased."""

    base: str
    name: str = ""
    written_name: str = ""
    as_word: str = ""
    """``AS`` as written; empty without it."""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    """``RUN``; mounts are the texts of ``--mount``, read when their variables are known."""

    command: Command
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """``COPY`` and ``ADD``; ``sources`` holds texts and heredocs in their order."""

    add: bool
    sources: tuple[str | Heredoc, ...]
    dest: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    unpack: bool | None = None
    keep_git_dir: bool = False


@dataclass(frozen=True, slots=True)
class Pairs(Instruction):
    """``ENV`` and ``LABEL``; ``legacy`` is the form ``name rest of the line``."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """``ARG``; None is "no default"."""

    args: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Words(Instruction):
    """``EXPOSE``, ``VOLUME`` and ``SHELL``; ``exec_form`` when it was a JSON array."""

    words: tuple[str, ...]
    exec_form: bool = False


@dataclass(frozen=True, slots=True)
class Value(Instruction):
    """``USER``, ``WORKDIR``, ``STOPSIGNAL``, ``MAINTAINER``: one argument."""

    value: str


@dataclass(frozen=True, slots=True)
class Process(Instruction):
    """``CMD`` and ``ENTRYPOINT``."""

    command: Command


@dataclass(frozen=True, slots=True)
class Health(Instruction):
    """``HEALTHCHECK``; the value is complete: nothing of it is expanded."""

    healthcheck: Healthcheck


@dataclass(frozen=True, slots=True)
class OnBuild(Instruction):
    """``ONBUILD``: the trigger as text, heredoc bodies included."""

    expression: str
    trigger: Instruction


@dataclass(frozen=True, slots=True)
class Stage:
    """``FROM`` and what follows it."""

    index: int
    origin: From
    body: tuple[Instruction, ...]

    @property
    def label(self) -> str:
        """Its name, or its index as text."""
        return self.origin.name or str(self.index)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file: global ARGs, then stages."""

    meta: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    instructions: tuple[Instruction, ...]
