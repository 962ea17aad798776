"""The servicer of the process itself."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Final

from slipform.api.daemon.v1 import daemon_pb2 as pb
from slipform.api.daemon.v1 import daemon_pb2_grpc as pb_grpc
from slipform.core.oci.platform import host_platform
from slipform.daemon.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from slipform.daemon.assembly import Assembly

_ANSWER_S: Final = 0.1
"""What an answer that has been given may need to reach the client."""


class DaemonServicer(pb_grpc.DaemonServiceServicer):
    """Answers what this process is; ends it through a callback."""

    def __init__(self, assembly: Assembly, end: Callable[[float], None]) -> None:
        """Keep what is asked about.

        Args:
            assembly: the cores of this process.
            end: asks the main thread to stop, given the grace time in seconds.
        """
        self._assembly = assembly
        self._end = end
        self._started_ns = time.time_ns()

    def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetInfoResponse:
        """What runs where."""
        config = self._assembly.config
        served = config.serves
        return pb.GetInfoResponse(
            version=VERSION,
            pid=os.getpid(),
            root=str(config.root),
            services=served,
            remotes={
                name: service.address
                for name, service in config.services.items()
                if name not in served and service.address
            },
            drivers=self._assembly.drivers,
            kernel=platform.release(),
            architecture=host_platform().architecture,
            python=platform.python_version(),
            started_at_ns=self._started_ns,
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            images=len(self._assembly.images.list_images()) if "images" in served else 0,
        )

    def Shutdown(
        self, request: pb.ShutdownRequest, context: grpc.ServicerContext
    ) -> pb.ShutdownResponse:
        """End the process after this answer."""
        grace_s = max(request.grace_ms / 1000, _ANSWER_S)
        # Only when this call is over: ending the server would cancel it too.
        if not context.add_callback(lambda: self._end(grace_s)):
            self._end(grace_s)
        return pb.ShutdownResponse(pid=os.getpid())
