"""Between ``slipform.api.executor.v1`` and core values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.api.executor.v1 import executor_pb2 as pb
from slipform.core.containers import ContainerRequest
from slipform.core.execution import (
    Exited,
    Network,
    Output,
    Resources,
    RunRequest,
    Security,
    Started,
    Stream,
)
from slipform.rpc.convert.types import mount_from_pb, mount_to_pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.core.execution import RunEvent

_SECOND_NS: Final = 1_000_000_000
_NETWORK: Final = {Network.HOST: pb.NETWORK_HOST, Network.NONE: pb.NETWORK_NONE}
_SECURITY: Final = {
    Security.SANDBOX: pb.SECURITY_SANDBOX,
    Security.INSECURE: pb.SECURITY_INSECURE,
}
_STREAM: Final = {Stream.STDOUT: pb.STREAM_STDOUT, Stream.STDERR: pb.STREAM_STDERR}


def network_from_pb(value: pb.Network.ValueType) -> Network:
    """Protobuf to core; what is not known is the host's."""
    return Network.NONE if value == pb.NETWORK_NONE else Network.HOST


def security_from_pb(value: pb.Security.ValueType) -> Security:
    """Protobuf to core; what is not known is the sandbox."""
    return Security.INSECURE if value == pb.SECURITY_INSECURE else Security.SANDBOX


def resources_to_pb(value: Resources) -> pb.Resources:
    """Core to protobuf."""
    return pb.Resources(
        memory=value.memory,
        pids=value.pids,
        cpu_quota_us=value.cpu_quota_us,
        cpu_period_us=value.cpu_period_us,
        shm_size=value.shm_size,
        ulimits=[pb.Ulimit(name=n, soft=soft, hard=hard) for n, soft, hard in value.ulimits],
    )


def resources_from_pb(value: pb.Resources) -> Resources:
    """Protobuf to core; zeros become the defaults."""
    default = Resources()
    return Resources(
        memory=value.memory,
        pids=value.pids,
        cpu_quota_us=value.cpu_quota_us,
        cpu_period_us=value.cpu_period_us or default.cpu_period_us,
        shm_size=value.shm_size or default.shm_size,
        ulimits=tuple((u.name, u.soft, u.hard) for u in value.ulimits),
    )


def request_to_pb(value: RunRequest) -> pb.ProcessSpec:
    """Core to protobuf."""
    return pb.ProcessSpec(
        id=value.id,
        rootfs=map(mount_to_pb, value.rootfs),
        args=value.args,
        env=value.env,
        cwd=value.cwd,
        user=value.user,
        hostname=value.hostname,
        network=_NETWORK[value.network],
        security=_SECURITY[value.security],
        mounts=map(mount_to_pb, value.mounts),
        resources=resources_to_pb(value.resources),
        read_only=value.read_only,
        extra_hosts=_hosts_to_pb(value.extra_hosts),
        cap_add=value.cap_add,
        cap_drop=value.cap_drop,
        timeout_ns=round(value.timeout_s * _SECOND_NS),
        stdin=value.stdin,
        open_stdin=value.open_stdin,
        own_files=value.own_files,
    )


def request_from_pb(value: pb.ProcessSpec) -> RunRequest:
    """Protobuf to core."""
    return RunRequest(
        id=value.id,
        rootfs=tuple(map(mount_from_pb, value.rootfs)),
        args=tuple(value.args),
        env=tuple(value.env),
        cwd=value.cwd or "/",
        user=value.user,
        hostname=value.hostname,
        network=network_from_pb(value.network),
        security=security_from_pb(value.security),
        mounts=tuple(map(mount_from_pb, value.mounts)),
        resources=resources_from_pb(value.resources),
        read_only=value.read_only,
        extra_hosts=_hosts_from_pb(value.extra_hosts),
        cap_add=tuple(value.cap_add),
        cap_drop=tuple(value.cap_drop),
        timeout_s=value.timeout_ns / _SECOND_NS,
        stdin=value.stdin,
        open_stdin=value.open_stdin,
        own_files=value.own_files,
    )


def container_to_pb(value: ContainerRequest) -> pb.ContainerSpec:
    """Core to protobuf."""
    return pb.ContainerSpec(
        image=value.image,
        args=value.args,
        entrypoint=None if value.entrypoint is None else pb.Words(words=value.entrypoint),
        env=value.env,
        cwd=value.cwd,
        user=value.user,
        name=value.name,
        hostname=value.hostname,
        network=_NETWORK[value.network],
        security=_SECURITY[value.security],
        volumes=map(mount_to_pb, value.volumes),
        read_only=value.read_only,
        remove=value.remove,
        resources=resources_to_pb(value.resources),
        extra_hosts=_hosts_to_pb(value.extra_hosts),
        cap_add=value.cap_add,
        cap_drop=value.cap_drop,
        stdin=value.stdin,
        attach_stdin=value.attach_stdin,
    )


def container_from_pb(value: pb.ContainerSpec) -> ContainerRequest:
    """Protobuf to core."""
    entrypoint = tuple(value.entrypoint.words) if value.HasField("entrypoint") else None
    return ContainerRequest(
        image=value.image,
        args=tuple(value.args),
        entrypoint=entrypoint,
        env=tuple(value.env),
        cwd=value.cwd if value.HasField("cwd") else None,
        user=value.user if value.HasField("user") else None,
        name=value.name,
        hostname=value.hostname,
        network=network_from_pb(value.network),
        security=security_from_pb(value.security),
        volumes=tuple(map(mount_from_pb, value.volumes)),
        read_only=value.read_only,
        remove=value.remove,
        resources=resources_from_pb(value.resources),
        extra_hosts=_hosts_from_pb(value.extra_hosts),
        cap_add=tuple(value.cap_add),
        cap_drop=tuple(value.cap_drop),
        stdin=value.stdin,
        attach_stdin=value.attach_stdin,
    )


def event_to_pb(event: RunEvent) -> pb.RunResponse:
    """Core to protobuf."""
    if isinstance(event, Started):
        return pb.RunResponse(started=pb.Started(pid=event.pid))
    if isinstance(event, Output):
        return pb.RunResponse(output=pb.Output(stream=_STREAM[event.stream], data=event.data))
    return pb.RunResponse(exited=_exited_to_pb(event))


def container_event_to_pb(event: RunEvent) -> pb.RunContainerResponse:
    """Core to protobuf."""
    same = event_to_pb(event)
    if same.HasField("started"):
        return pb.RunContainerResponse(started=same.started)
    if same.HasField("output"):
        return pb.RunContainerResponse(output=same.output)
    return pb.RunContainerResponse(exited=same.exited)


def event_from_pb(value: pb.RunResponse | pb.RunContainerResponse) -> RunEvent:
    """Protobuf to core."""
    if value.HasField("started"):
        return Started(value.started.pid)
    if value.HasField("output"):
        stream = Stream.STDERR if value.output.stream == pb.STREAM_STDERR else Stream.STDOUT
        return Output(stream, value.output.data)
    exited = value.exited
    return Exited(
        exited.code, exited.signal, exited.timed_out, exited.cancelled, exited.out_of_memory
    )


def _exited_to_pb(event: Exited) -> pb.Exited:
    return pb.Exited(
        code=event.code,
        signal=event.signal,
        timed_out=event.timed_out,
        cancelled=event.cancelled,
        out_of_memory=event.out_of_memory,
    )


def _hosts_to_pb(hosts: Iterable[tuple[str, str]]) -> list[pb.ExtraHost]:
    return [pb.ExtraHost(name=name, address=address) for name, address in hosts]


def _hosts_from_pb(hosts: Iterable[pb.ExtraHost]) -> tuple[tuple[str, str], ...]:
    return tuple((host.name, host.address) for host in hosts)
