"""The builder: one object per daemon, one ``Build`` per call."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from slipform.builder.build import Build
from slipform.builder.cache import BuildCache
from slipform.builder.cachemounts import CacheMounts
from slipform.builder.flights import Flights
from slipform.builder.planning import Planner
from slipform.builder.running import Runner
from slipform.builder.statcache import StatCache
from slipform.builder.workshop import Workshop
from slipform.core.errors import FailedPrecondition

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from slipform.core.build import BuildHandle, BuildRequest
    from slipform.core.content import ContentStore
    from slipform.core.context import ContextSource
    from slipform.core.execution import Executor
    from slipform.core.images import ImageStore
    from slipform.core.plan import Frontend
    from slipform.core.snapshots import Snapshotter

_DIFFERS: Final = 2
"""Layers hashed at once; more would take the processor from the steps."""


class ImageBuilder:
    """Builds images with the services it is given; satisfies ``Builder``.

    Only one builder may use a state directory at a time. What a builder that died left behind is
    removed when the next one starts.

    Args:
        state: cache, cache mounts and scratch space; made when absent.
        frontend: makes plans.
        content: takes configs and manifests.
        snapshotter: takes the results of steps.
        executor: runs processes.
        images: knows bases and takes results.
        workers: steps at once, over all builds.
        shared_mounts: the executor sees mounts that this process makes, so that parts of stages
            can be mounted into a RUN without copying them.
    """

    def __init__(
        self,
        state: Path,
        frontend: Frontend,
        content: ContentStore,
        snapshotter: Snapshotter,
        executor: Executor,
        images: ImageStore,
        *,
        workers: int = 0,
        shared_mounts: bool = False,
    ) -> None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._workers = workers or max(4, os.cpu_count() or 1)
        self._cache = BuildCache(state / "cache.db")
        self._shop = Workshop(
            state,
            content,
            snapshotter,
            executor,
            images,
            self._cache,
            StatCache(state / "stat"),
            shared_mounts=shared_mounts,
        )
        self._shop.prepare()
        self._cache_mounts = CacheMounts(state / "cache-mounts")
        self._flights = Flights(self._workers)
        self._differs = ThreadPoolExecutor(_DIFFERS, thread_name_prefix="diff")
        self._planner = Planner(frontend, images)
        self._runner = Runner(self._shop, self._cache_mounts)
        self._lock = threading.Lock()
        self._builds: set[Build] = set()
        self._closed = False

    def build(self, request: BuildRequest, context: ContextSource | None = None) -> BuildHandle:
        """As ``Builder.build``; the build runs whether or not its events are read."""
        build = Build(
            request,
            context,
            self._shop,
            self._planner,
            self._flights,
            self._runner,
            self._differs,
            self._workers,
        )
        with self._lock:
            if self._closed:
                raise FailedPrecondition("the builder is shutting down")
            self._builds.add(build)
        build.start(self._ended)
        return build

    def prune(self) -> int:
        """As ``Builder.prune``; cache mounts that no step uses go too."""
        return self._shop.prune() + self._cache_mounts.prune()

    def staging(self) -> AbstractContextManager[Path]:
        """As ``SupportsStaging.staging``."""
        return self._shop.scratch()

    def close(self) -> None:
        """Cancel every build, wait until nothing of them is left, close the cache."""
        with self._lock:
            self._closed = True
            builds = list(self._builds)
        for build in builds:
            build.cancel()
        for build in builds:
            build.wait()
        self._flights.close()
        self._differs.shutdown(wait=True, cancel_futures=True)
        self._cache.close()

    def _ended(self, build: Build) -> None:
        with self._lock:
            self._builds.discard(build)
