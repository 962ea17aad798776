"""The one place where exceptions of handlers become statuses, and where bugs are logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from slipform.core.errors import DomainError
from slipform.rpc.codes import details_of, message_of
from slipform.rpc.limits import ERROR_KEY
from slipform.rpc.status import code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)


class StatusInterceptor(grpc.ServerInterceptor):
    """Maps ``DomainError`` to its status; anything else is logged and hidden."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of one method, whatever its shape."""
        handler: Any = continuation(handler_call_details)
        if handler is None:
            return None
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        wrap = _streaming if handler.response_streaming else _unary
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: grpc.RpcMethodHandler[Any, Any] = make(
            wrap(getattr(handler, kind), str(handler_call_details.method)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped


def _unary(behaviour: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(request, context)
        except Exception as e:
            _abort(context, e, method)

    return call


def _streaming(
    behaviour: Callable[[Any, Any], Iterator[Any]], method: str
) -> Callable[[Any, Any], Iterator[Any]]:
    def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(request, context)
        except Exception as e:
            _abort(context, e, method)

    return call


def _abort(context: grpc.ServicerContext, error: Exception, method: str) -> NoReturn:
    if isinstance(error, DomainError):
        context.set_trailing_metadata(((ERROR_KEY, details_of(error)),))
        context.abort(code_of(error), message_of(error))
    if not context.is_active() and isinstance(error, grpc.RpcError | StopIteration):
        context.abort(grpc.StatusCode.CANCELLED, "the client went away")
    # grpc raises a bare Exception from abort() to unwind; a handler that aborted is done.
    if type(error) is Exception and context.code() is not None:  # type: ignore[attr-defined]
        raise error
    _log.error("internal error in %s", method, exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, "internal error")
