"""Putting services together: each core is either here or a proxy, and no core can tell.

The executor's driver comes first: its zygote must exist before gRPC is imported (DESIGN.md,
decision 1), so nothing in this module imports gRPC at its top.
"""

from __future__ import annotations

import contextlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import InvalidArgument
from slipform.daemon.drivers import choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.core.build import Builder
    from slipform.core.containers import Containers
    from slipform.core.content import ContentStore
    from slipform.core.execution import Executor
    from slipform.core.images import ImageStore
    from slipform.core.plan import Frontend
    from slipform.core.snapshots import Snapshotter
    from slipform.daemon.config import Config


class Assembly:
    """All cores that one process needs, made when first asked for, closed in reverse order."""

    def __init__(self, config: Config) -> None:
        """Start the executor's driver if this process serves the executor; nothing else yet."""
        self.config = config
        self.drivers: dict[str, str] = {}
        self._resources = contextlib.ExitStack()
        self._executor_driver: Any = None
        config.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if "executor" in config.serves:
            state = self._directory(config.locations.executor)
            name, factory = choose("executor", config.service("executor").driver, state)
            self.drivers["executor"] = name
            self._executor_driver = factory(state)
            self._resources.callback(self._executor_driver.close)

    def close(self) -> None:
        """Close every core and driver that was made; idempotent."""
        self._resources.close()

    @cached_property
    def content_core(self) -> Any:
        """The content core with all its tenants; only where content is served."""
        from slipform.content.store import Content

        directory = self._directory(self.config.locations.content)
        name, factory = choose("content", self.config.service("content").driver, directory)
        self.drivers["content"] = name
        driver = factory(directory)
        database = None if name == "memory" else directory / "metadata.db"
        core = Content(driver, database)
        self._resources.callback(core.close)
        return core

    @cached_property
    def snapshots_core(self) -> Any:
        """The snapshotter core with all its tenants; only where snapshotter is served."""
        from slipform.snapshotter.store import Snapshots

        directory = self._directory(self.config.locations.snapshots)
        name, factory = choose("snapshot", self.config.service("snapshotter").driver, directory)
        self.drivers["snapshot"] = name
        core = Snapshots(directory, factory(directory), self._contents())
        self._resources.callback(core.close)
        return core

    @cached_property
    def content(self) -> ContentStore:
        """The default tenant's blobs."""
        return self._contents()(DEFAULT_TENANT)

    def _contents(self) -> Callable[[str], ContentStore]:
        """The blobs of any tenant."""
        if self._here("content"):
            tenant: Callable[[str], ContentStore] = self.content_core.tenant
            return tenant
        from slipform.rpc.proxy.content import RemoteContentStore

        channel = self._channel("content")
        return lambda tenant: RemoteContentStore(channel, tenant)

    @cached_property
    def snapshotter(self) -> Snapshotter:
        """The default tenant's snapshots."""
        if self._here("snapshotter"):
            store: Snapshotter = self.snapshots_core.tenant(DEFAULT_TENANT)
            return store
        from slipform.rpc.proxy.snapshot import RemoteSnapshotter

        return RemoteSnapshotter(self._channel("snapshotter"))

    @cached_property
    def executor(self) -> Executor:
        """What runs processes."""
        if self._here("executor"):
            from slipform.executor.execution import Execution

            return Execution(self._executor_driver, self.config.locations.executor)
        from slipform.rpc.proxy.executor import RemoteExecutor

        return RemoteExecutor(self._channel("executor"))

    @cached_property
    def containers(self) -> Containers:
        """What runs images."""
        from slipform.executor.containers import ContainerRunner

        return ContainerRunner(self.images, self.snapshotter, self.executor)

    @cached_property
    def frontend(self) -> Frontend:
        """What plans Dockerfiles."""
        if self._here("frontend"):
            from slipform.frontend.frontend import DockerfileFrontend

            return DockerfileFrontend()
        from slipform.rpc.proxy.frontend import RemoteFrontend

        return RemoteFrontend(self._channel("frontend"))

    @cached_property
    def images(self) -> ImageStore:
        """What knows names."""
        if self._here("images"):
            from slipform.images.store import Images

            directory = self._directory(self.config.locations.images)
            core = Images(directory / "images.db", self.content, self.snapshotter)
            self._resources.callback(core.close)
            return core
        from slipform.rpc.proxy.images import RemoteImages

        return RemoteImages(self._channel("images"))

    @cached_property
    def builder(self) -> Builder:
        """What builds."""
        from slipform.builder.builder import ImageBuilder

        workers = self.config.service("builder").workers or max(4, os.cpu_count() or 1)
        core = ImageBuilder(
            self._directory(self.config.locations.builder),
            self.frontend,
            self.content,
            self.snapshotter,
            self.executor,
            self.images,
            workers=workers,
            shared_mounts=self._here("executor"),
        )
        self._resources.callback(core.close)
        return core

    def _here(self, name: str) -> bool:
        return name in self.config.serves

    def _directory(self, path: Any) -> Any:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def _channel(self, name: str) -> Any:
        from slipform.rpc.channel import open_channel

        address = self.config.service(name).address
        if not address:
            raise InvalidArgument(
                f"service {name} is not served here and the configuration has no "
                f"[{name}] address to find it"
            )
        channel = open_channel(address, self.config.tls)
        self._resources.callback(channel.close)
        return channel
