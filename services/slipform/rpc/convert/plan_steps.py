"""Between the steps of ``slipform.api.frontend.v1`` and core values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.api.frontend.v1 import frontend_pb2 as pb
from slipform.core import plan
from slipform.core.errors import InvalidArgument
from slipform.core.execution import Network, Security
from slipform.rpc.convert.types import (
    platform_from_pb,
    platform_to_pb,
    source_from_pb,
    source_to_pb,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_NETWORKS: Final = {Network.HOST: pb.NETWORK_HOST, Network.NONE: pb.NETWORK_NONE}
_SECURITY: Final = {
    Security.SANDBOX: pb.SECURITY_SANDBOX,
    Security.INSECURE: pb.SECURITY_INSECURE,
}
_TYPES: Final = {
    plan.MountType.BIND: pb.MOUNT_TYPE_BIND,
    plan.MountType.CACHE: pb.MOUNT_TYPE_CACHE,
    plan.MountType.TMPFS: pb.MOUNT_TYPE_TMPFS,
    plan.MountType.SECRET: pb.MOUNT_TYPE_SECRET,
    plan.MountType.SSH: pb.MOUNT_TYPE_SSH,
}
_SHARING: Final = {
    plan.Sharing.SHARED: pb.CACHE_SHARING_SHARED,
    plan.Sharing.PRIVATE: pb.CACHE_SHARING_PRIVATE,
    plan.Sharing.LOCKED: pb.CACHE_SHARING_LOCKED,
}
_NETWORKS_BACK: Final = {number: value for value, number in _NETWORKS.items()}
_SECURITY_BACK: Final = {number: value for value, number in _SECURITY.items()}
_TYPES_BACK: Final = {number: value for value, number in _TYPES.items()}
_SHARING_BACK: Final = {number: value for value, number in _SHARING.items()}


def network_to_pb(value: Network) -> pb.Network.ValueType:
    """Core to protobuf."""
    return _NETWORKS[value]


def network_from_pb(value: pb.Network.ValueType) -> Network:
    """Protobuf to core; unspecified is the host's."""
    return _NETWORKS_BACK.get(value, Network.HOST)


def files_to_pb(values: Iterable[plan.InlineFile]) -> list[pb.InlineFile]:
    """Core to protobuf."""
    return [pb.InlineFile(name=f.name, data=f.data, mode=f.mode) for f in values]


def files_from_pb(values: Iterable[pb.InlineFile]) -> tuple[plan.InlineFile, ...]:
    """Protobuf to core."""
    return tuple(plan.InlineFile(f.name, f.data, f.mode) for f in values)


def step_to_pb(value: plan.Step) -> pb.Step:
    """Core to protobuf."""
    message = pb.Step(
        id=value.id,
        rootfs=value.rootfs,
        name=value.name,
        stage=value.stage,
        source=None if value.source is None else source_to_pb(value.source),
        source_text=value.source_text,
        history=value.history,
        ignore_cache=value.ignore_cache,
    )
    match value.op:
        case plan.BaseOp() as op:
            message.base_op.CopyFrom(_base_to_pb(op))
        case plan.RunOp() as op:
            message.run_op.CopyFrom(_run_to_pb(op))
        case plan.CopyOp() as op:
            message.copy_op.CopyFrom(_copy_to_pb(op))
        case plan.WorkdirOp() as op:
            message.workdir_op.CopyFrom(pb.WorkdirOp(path=op.path, user=op.user))
    return message


def step_from_pb(value: pb.Step) -> plan.Step:
    """Protobuf to core.

    Raises:
        InvalidArgument: no operation, or an unknown one.
    """
    return plan.Step(
        id=value.id,
        op=_op_from_pb(value),
        rootfs=value.rootfs if value.HasField("rootfs") else None,
        name=value.name,
        stage=value.stage,
        source=source_from_pb(value.source) if value.HasField("source") else None,
        source_text=value.source_text,
        history=value.history if value.HasField("history") else None,
        ignore_cache=value.ignore_cache,
    )


def _op_from_pb(value: pb.Step) -> plan.Operation:
    match value.WhichOneof("op"):
        case "base_op":
            base = value.base_op
            return plan.BaseOp(base.reference, base.digest, platform_from_pb(base.platform))
        case "run_op":
            return _run_from_pb(value.run_op)
        case "copy_op":
            return _copy_from_pb(value.copy_op)
        case "workdir_op":
            return plan.WorkdirOp(value.workdir_op.path, value.workdir_op.user)
        case _:
            raise InvalidArgument(f"step {value.id} of the plan has no known operation")


def _base_to_pb(op: plan.BaseOp) -> pb.BaseOp:
    return pb.BaseOp(reference=op.reference, digest=op.digest, platform=platform_to_pb(op.platform))


def _run_to_pb(op: plan.RunOp) -> pb.RunOp:
    return pb.RunOp(
        args=op.args,
        env=op.env,
        proxy_env=op.proxy_env,
        cwd=op.cwd,
        user=op.user,
        network=_NETWORKS[op.network],
        security=_SECURITY[op.security],
        mounts=[_mount_to_pb(mount) for mount in op.mounts],
        pipes=files_to_pb(op.pipes),
    )


def _run_from_pb(op: pb.RunOp) -> plan.RunOp:
    security = _SECURITY_BACK.get(op.security)
    if security is None:
        raise InvalidArgument(f"security {op.security} of a step is unknown")
    return plan.RunOp(
        args=tuple(op.args),
        env=tuple(op.env),
        proxy_env=tuple(op.proxy_env),
        cwd=op.cwd,
        user=op.user,
        network=network_from_pb(op.network),
        security=security,
        mounts=tuple(_mount_from_pb(mount) for mount in op.mounts),
        pipes=files_from_pb(op.pipes),
    )


def _mount_to_pb(mount: plan.RunMount) -> pb.RunMount:
    return pb.RunMount(
        type=_TYPES[mount.type],
        target=mount.target,
        source=mount.source,
        from_step=mount.from_step,
        from_context=mount.from_context,
        id=mount.id,
        read_only=mount.read_only,
        required=mount.required,
        env=mount.env,
        sharing=_SHARING[mount.sharing],
        size=mount.size,
        mode=mount.mode,
        uid=mount.uid,
        gid=mount.gid,
    )


def _mount_from_pb(mount: pb.RunMount) -> plan.RunMount:
    kind, sharing = _TYPES_BACK.get(mount.type), _SHARING_BACK.get(mount.sharing)
    if kind is None or sharing is None:
        raise InvalidArgument(f"mount at {mount.target!r}: unknown type or sharing")
    return plan.RunMount(
        type=kind,
        target=mount.target,
        source=mount.source,
        from_step=mount.from_step if mount.HasField("from_step") else None,
        from_context=mount.from_context,
        id=mount.id,
        read_only=mount.read_only,
        required=mount.required,
        env=mount.env,
        sharing=sharing,
        size=mount.size,
        mode=mount.mode if mount.HasField("mode") else None,
        uid=mount.uid,
        gid=mount.gid,
    )


def _copy_to_pb(op: plan.CopyOp) -> pb.CopyOp:
    return pb.CopyOp(
        dest=op.dest,
        dest_is_dir=op.dest_is_dir,
        sources=op.sources,
        urls=op.urls,
        files=files_to_pb(op.files),
        from_step=op.from_step,
        from_context=op.from_context,
        add=op.add,
        unpack=op.unpack,
        chown=op.chown,
        chmod=op.chmod,
        link=op.link,
        parents=op.parents,
        excludes=op.excludes,
        checksum=op.checksum,
    )


def _copy_from_pb(op: pb.CopyOp) -> plan.CopyOp:
    return plan.CopyOp(
        dest=op.dest,
        dest_is_dir=op.dest_is_dir,
        sources=tuple(op.sources),
        urls=tuple(op.urls),
        files=files_from_pb(op.files),
        from_step=op.from_step if op.HasField("from_step") else None,
        from_context=op.from_context,
        add=op.add,
        unpack=op.unpack if op.HasField("unpack") else None,
        chown=op.chown,
        chmod=op.chmod,
        link=op.link,
        parents=op.parents,
        excludes=tuple(op.excludes),
        checksum=op.checksum,
    )
