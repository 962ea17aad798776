"""Cache keys: what an operation's result depends on, as small documents.

A document holds the operation, the identity of the file system it changes, and identities or
content digests of what else it reads. Nothing that the result does not depend on is in it: no
times, no names of stages, no proxies, no secrets.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from slipform.builder.cache import Document, canonical_digest
from slipform.core.oci.digest import Digest, chain_id
from slipform.core.plan import BaseOp, CopyOp, MountType, Operation, RunMount, RunOp, WorkdirOp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slipform.core.plan import InlineFile, Plan, Step

EMPTY = "scratch"
"""The identity of an empty root."""


def base_identity(diff_ids: Sequence[Digest]) -> str:
    """The identity of an image's root: its chain_id, whatever the image is called."""
    return f"chain/{chain_id(diff_ids)}" if diff_ids else EMPTY


def run_document(
    op: RunOp, rootfs: str, sources: Sequence[str], hosts: Iterable[tuple[str, str]] = ()
) -> Document:
    """``RUN``; ``sources`` has, for each mount, the identity of what it shows or ""."""
    document: Document = {
        "op": "run",
        "rootfs": rootfs,
        "args": op.args,
        "env": op.env,
        "cwd": op.cwd,
        "user": op.user,
        "network": op.network.value,
        "security": op.security.value,
    }
    if op.mounts:
        pairs = zip(op.mounts, sources, strict=True)
        document["mounts"] = [_mount(mount, source) for mount, source in pairs]
    if op.pipes:
        document["pipes"] = [_inline(file) for file in op.pipes]
    if extra := sorted(map(list, hosts)):
        document["hosts"] = extra
    return document


def copy_document(op: CopyOp, rootfs: str, contents: Mapping[str, object]) -> Document:
    """``COPY`` and ``ADD``; ``contents`` says what the sources hold, in any explainable way."""
    document: Document = {
        "op": "add" if op.add else "copy",
        "rootfs": rootfs,
        "dest": op.dest + ("/" if op.dest_is_dir and op.dest != "/" else ""),
        **contents,
    }
    if op.files:
        document["files"] = [_inline(file) for file in op.files]
    for name in ("chown", "chmod", "link"):
        if getattr(op, name):
            document[name] = getattr(op, name)
    if op.unpack is not None:
        document["unpack"] = op.unpack
    return document


def stage_contents(op: CopyOp, identity: str) -> Document:
    """Contents of a COPY from another step, known before that step ran: all of it, and patterns."""
    document: Document = {"from": identity, "sources": op.sources}
    if op.excludes:
        document["excludes"] = op.excludes
    if op.parents:
        document["parents"] = True
    return document


def workdir_document(op: WorkdirOp, rootfs: str) -> Document:
    """``WORKDIR``."""
    return {"op": "workdir", "rootfs": rootfs, "path": op.path, "user": op.user}


def step_digests(plan: Plan) -> dict[int, Digest]:
    """A digest for each step that is the same in every build of the same step.

    It depends on the operation and on the digests of the steps it builds on, on no content.
    """
    digests: dict[int, Digest] = {}
    for step in plan.steps:
        inputs = [str(digests[number]) for number in step_inputs(step)]
        value = [_definition(step.op), inputs, step.rootfs is None]
        digests[step.id] = Digest("sha256", canonical_digest(value))
    return digests


def step_inputs(step: Step) -> list[int]:
    """Ids of the steps whose results a step reads, the one it changes first."""
    inputs = [] if step.rootfs is None else [step.rootfs]
    if isinstance(step.op, CopyOp) and step.op.from_step is not None:
        inputs.append(step.op.from_step)
    if isinstance(step.op, RunOp):
        inputs += [mount.from_step for mount in step.op.mounts if mount.from_step is not None]
    return inputs


def _definition(op: Operation) -> Document:
    match op:
        case BaseOp():
            return {"op": "base", "reference": op.reference, "platform": str(op.platform)}
        case RunOp():
            return run_document(op, "", [""] * len(op.mounts))
        case WorkdirOp():
            return workdir_document(op, "")
        case CopyOp():
            return copy_document(op, "", {"urls": op.urls, **stage_contents(op, op.from_context)})


def _mount(mount: RunMount, source: str) -> Document:
    document: Document = {"type": mount.type.value, "target": mount.target}
    if mount.type is MountType.BIND or source:
        document |= {"source": mount.source, "content": source, "ro": mount.read_only}
    if mount.type in (MountType.CACHE, MountType.SECRET, MountType.SSH):
        document |= {"id": mount.id, "sharing": mount.sharing.value, "required": mount.required}
        document |= {"uid": mount.uid, "gid": mount.gid, "mode": mount.mode, "env": mount.env}
    if mount.type is MountType.TMPFS:
        document["size"] = mount.size
    return document


def _inline(file: InlineFile) -> Document:
    digest = hashlib.sha256(file.data).hexdigest()
    return {"name": file.name, "digest": digest, "mode": file.mode}
