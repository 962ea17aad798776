"""A frontend behind a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.api.frontend.v1 import frontend_pb2 as pb
from slipform.api.frontend.v1 import frontend_pb2_grpc as pb_grpc
from slipform.core.content import DEFAULT_TENANT
from slipform.rpc.convert.frontend import parsed_from_pb, request_to_pb, result_from_pb
from slipform.rpc.metadata import tenant_metadata
from slipform.rpc.status import domain_errors

if TYPE_CHECKING:
    import grpc

    from slipform.core.plan import ParsedDockerfile, PlanRequest, PlanResult


class RemoteFrontend:
    """Satisfies ``Frontend``.

    Args:
        channel: stays the caller's.
        tenant: travels with every call; a frontend keeps nothing of anybody.
        timeout_s: of every call.
    """

    def __init__(
        self, channel: grpc.Channel, tenant: str = DEFAULT_TENANT, timeout_s: float = 60.0
    ) -> None:
        self._stub = pb_grpc.FrontendServiceStub(channel)
        self._metadata = tenant_metadata(tenant)
        self._timeout_s = timeout_s

    def parse(self, dockerfile: bytes, filename: str = "Dockerfile") -> ParsedDockerfile:
        """Raises ``InvalidArgument`` with the place of the fault."""
        request = pb.ParseRequest(dockerfile=dockerfile, filename=filename)
        with domain_errors():
            response = self._stub.Parse(request, timeout=self._timeout_s, metadata=self._metadata)
        return parsed_from_pb(response)

    def plan(self, request: PlanRequest) -> PlanResult:
        """Raises ``InvalidArgument`` with the place of the fault."""
        with domain_errors():
            response = self._stub.Plan(
                request_to_pb(request), timeout=self._timeout_s, metadata=self._metadata
            )
        return result_from_pb(response)
