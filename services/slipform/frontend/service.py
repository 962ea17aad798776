"""The frontend over gRPC: parse, call, convert."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.api.frontend.v1 import frontend_pb2 as pb
from slipform.api.frontend.v1 import frontend_pb2_grpc as pb_grpc
from slipform.rpc.convert.frontend import parsed_to_pb, request_from_pb, result_to_pb

if TYPE_CHECKING:
    import grpc

    from slipform.core.plan import Frontend


class FrontendServicer(pb_grpc.FrontendServiceServicer):
    """Answers for one frontend; the same for all tenants."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    def Parse(self, request: pb.ParseRequest, context: grpc.ServicerContext) -> pb.ParseResponse:
        """Instructions, stages, advice."""
        parsed = self._frontend.parse(request.dockerfile, request.filename or "Dockerfile")
        return parsed_to_pb(parsed)

    def Plan(self, request: pb.PlanRequest, context: grpc.ServicerContext) -> pb.PlanResponse:
        """The plan, or the bases that it needs."""
        return result_to_pb(self._frontend.plan(request_from_pb(request)))
