"""Plans: what the frontend makes of a Dockerfile and the builder walks.

A plan is a graph of steps that touch a file system; instructions that only change the image's
configuration are already folded into the steps' environments, ``config`` and ``history``.
All variables are expanded. Steps refer to others by ``Step.id``; every reference points to an
earlier id, so a plan has no cycles. Only steps that the target needs are in it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from slipform.core.execution import Network, Security

if TYPE_CHECKING:
    from slipform.core.advice import Warning
    from slipform.core.oci.config import RunConfig
    from slipform.core.oci.platform import Platform
    from slipform.core.source import SourceRange


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A base whose configuration the frontend needs before it can plan on."""

    reference: str
    """As written, after expansion; never ``scratch``."""
    platform: Platform
    source: SourceRange | None = None


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """The answer to a ``BaseImage``: its configuration as the builder found it."""

    reference: str
    platform: Platform
    digest: str
    """Digest of the manifest: part of the cache key."""
    config: bytes
    """The exact bytes of the OCI image config."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """Everything a plan depends on; planning is a pure function of it."""

    dockerfile: bytes
    filename: str = "Dockerfile"
    target: str = ""
    """Stage name or index; empty is the last stage."""
    build_args: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """``--label``: they win over LABEL."""
    platform: Platform | None = None
    """Target; None is the build platform."""
    build_platform: Platform | None = None
    """None is the host of whoever plans; the builder always sets it."""
    network: Network = Network.HOST
    bases: tuple[ResolvedBase, ...] = ()


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc: ``name`` is its delimiter, ``data`` its body with variables expanded."""

    name: str
    data: bytes
    mode: int = 0o644


class MountType(enum.Enum):
    """Of ``RUN --mount``."""

    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"  # noqa: S105 - the word of the Dockerfile reference
    SSH = "ssh"


class Sharing(enum.Enum):
    """Of ``RUN --mount=type=cache``."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class RunMount:
    """One ``RUN --mount``; which fields mean something depends on ``type``."""

    type: MountType
    target: str
    source: str = "/"
    from_step: int | None = None
    """Step whose root is the source; None is the build context (bind) or nothing (cache)."""
    from_context: str = ""
    """Named context; empty with ``from_step`` None is the default build context."""
    id: str = ""
    read_only: bool = True
    required: bool = False
    env: str = ""
    sharing: Sharing = Sharing.SHARED
    size: int = 0
    """Bytes (tmpfs); 0 is no limit."""
    mode: int | None = None
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class BaseOp:
    """The root file system of an image, pinned by digest."""

    reference: str
    digest: str
    platform: Platform


@dataclass(frozen=True, slots=True)
class RunOp:
    """``RUN``: final argv and environment."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    """ENV, then declared ARGs that ENV does not override: this is part of the cache key."""
    proxy_env: tuple[str, ...] = ()
    """Predefined proxy variables: given to the process, kept out of key and history."""
    cwd: str = "/"
    user: str = ""
    network: Network = Network.HOST
    security: Security = Security.SANDBOX
    mounts: tuple[RunMount, ...] = ()
    pipes: tuple[InlineFile, ...] = ()
    """Heredoc scripts with a ``#!`` line: mounted read-only, 0755, at /dev/pipes/<name>."""


@dataclass(frozen=True, slots=True)
class CopyOp:
    """``COPY`` and ``ADD``.

    ``sources`` are paths or patterns (Go ``filepath.Match``) relative to the root of the input:
    ``from_step``, else the context named ``from_context`` ("" = the build context). ``urls`` and
    ``files`` (heredocs) are further sources.
    """

    dest: str
    """Absolute, cleaned, inside the root; ``dest_is_dir`` tells of a trailing slash."""
    dest_is_dir: bool
    sources: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    files: tuple[InlineFile, ...] = ()
    from_step: int | None = None
    from_context: str = ""
    add: bool = False
    """ADD: local archives are unpacked."""
    unpack: bool | None = None
    """``--unpack``; None is the default of the instruction."""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class WorkdirOp:
    """``WORKDIR``: an absolute directory that is made when absent, 0755, owned by ``user``."""

    path: str
    user: str = ""


Operation = BaseOp | RunOp | CopyOp | WorkdirOp


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the graph.

    ``rootfs`` is the step whose result this one changes; None starts from an empty root
    (``FROM scratch``, and every BaseOp).
    """

    id: int
    op: Operation
    rootfs: int | None
    name: str
    """As progress shows it: ``[build 2/5] RUN make``."""
    stage: str
    """Name of the stage, or its index as text."""
    source: SourceRange | None = None
    source_text: str = ""
    """The instruction as written, for error messages."""
    history: int | None = None
    """Index into ``Plan.history`` of the entry this step's layer belongs to, when it is a step of
    the target stage chain; None else."""
    ignore_cache: bool = False


@dataclass(frozen=True, slots=True)
class PlannedHistory:
    """A history entry that this build adds; creation time is the builder's to add."""

    created_by: str
    empty_layer: bool
    comment: str = "buildkit.dockerfile.v0"


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole build.

    Attributes:
        steps: in an order in which they could run one after the other.
        result: id of the step whose root is the image's; None for an image without layers.
        base: id of the BaseOp the target stage chain starts from; None for scratch. Its layers
            and history come first in the image.
        config: run configuration of the result.
        history: entries this build adds on top of the base's (of the whole FROM chain).
        chain: ids of the steps whose layers make the image on top of the base, lowest first;
            as many as history entries with ``empty_layer`` False.
    """

    steps: tuple[Step, ...]
    result: int | None
    base: int | None
    platform: Platform
    config: RunConfig
    history: tuple[PlannedHistory, ...]
    chain: tuple[int, ...]
    author: str = ""
    warnings: tuple[Warning, ...] = ()
    source_date_epoch: int | None = None
    """From a build argument or global ARG SOURCE_DATE_EPOCH."""


@dataclass(frozen=True, slots=True)
class NeedBases:
    """Planning needs these configurations first: resolve them and ask again with them."""

    bases: tuple[BaseImage, ...]


PlanResult = Plan | NeedBases


@dataclass(frozen=True, slots=True)
class StageInfo:
    """A stage of a parsed Dockerfile."""

    index: int
    name: str
    base: str
    source: SourceRange


@dataclass(frozen=True, slots=True)
class InstructionInfo:
    """One instruction as written: for tools that show or check Dockerfiles."""

    name: str
    """Upper case."""
    flags: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...]
    exec_form: bool
    heredocs: tuple[InlineFile, ...]
    source: SourceRange
    text: str


@dataclass(frozen=True, slots=True)
class ParsedDockerfile:
    """Instructions in order, and the stages they form."""

    instructions: tuple[InstructionInfo, ...]
    stages: tuple[StageInfo, ...]
    escape: str = "\\"
    syntax: str = ""
    warnings: tuple[Warning, ...] = field(default=())


class Frontend(Protocol):
    """Dockerfile text in, plan out: no files, no network, no clock."""

    def parse(self, dockerfile: bytes, filename: str = "Dockerfile") -> ParsedDockerfile:
        """Raises ``InvalidArgument`` with the place of the fault."""
        ...

    def plan(self, request: PlanRequest) -> PlanResult:
        """Raises ``InvalidArgument`` with the place of the fault."""
        ...
