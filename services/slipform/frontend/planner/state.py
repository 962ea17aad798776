"""A stage while it is walked: variables, configuration, history, and the root file system."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from slipform.core.oci.config import DEFAULT_PATH, RunConfig
from slipform.frontend.planner import history
from slipform.frontend.planner.scope import NOT_IN_ENVIRONMENT, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipform.core.oci.config import Healthcheck
    from slipform.core.oci.platform import Platform
    from slipform.core.plan import PlannedHistory


@dataclass(slots=True)
class State:
    """What a stage has become so far.

    Attributes:
        rootfs: the step whose result is its root; None is an empty one.
        base: the BaseOp its chain starts from; None is scratch.
        cmd_set: CMD was given in this stage, so that ENTRYPOINT does not clear it.
        own_workdir: WORKDIR was given in this stage.
    """

    platform: Platform
    scope: Scope = field(default_factory=Scope)
    rootfs: int | None = None
    base: int | None = None
    history: list[PlannedHistory] = field(default_factory=list)
    chain: list[int] = field(default_factory=list)
    author: str = ""
    user: str = ""
    ports: set[str] = field(default_factory=set)
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: set[str] = field(default_factory=set)
    working_dir: str = "/"
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: list[str] = field(default_factory=list)
    shell: tuple[str, ...] | None = None
    args_escaped: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    cmd_set: bool = False
    own_workdir: bool = False
    _environment: tuple[str, ...] | None = None
    _prefix: str | None = None

    def child(self) -> State:
        """The start of a stage that is built ``FROM`` this one; its triggers are not inherited."""
        return replace(
            self,
            scope=self.scope.copy(),
            history=list(self.history),
            chain=list(self.chain),
            ports=set(self.ports),
            volumes=set(self.volumes),
            labels=dict(self.labels),
            on_build=[],
            cmd_set=False,
            own_workdir=False,
        )

    def set_env(self, name: str, value: str) -> None:
        """Define a variable of the image; a redefinition keeps its place."""
        self.scope.env[name] = value
        self._environment = self._prefix = None

    def declare(self, name: str, value: str | None) -> None:
        """Declare a build argument."""
        self.scope.args[name] = value
        self._environment = self._prefix = None

    def environment(self) -> tuple[str, ...]:
        """What a RUN sees: ENV, then the declared ARGs with a value that ENV does not override."""
        if self._environment is None:
            env = self.scope.env
            own = [f"{name}={value}" for name, value in env.items()]
            own += (
                f"{name}={value}"
                for name, value in self.scope.args.items()
                if value is not None and name not in env and name not in NOT_IN_ENVIRONMENT
            )
            self._environment = tuple(own)
        return self._environment

    def history_prefix(self) -> str:
        """What stands before the command in the history of a RUN."""
        if self._prefix is None:
            declared = self.scope.args
            self._prefix = history.build_arg_prefix(
                (name, self.scope.get(name) or "") for name in declared
            )
        return self._prefix

    def config(self) -> RunConfig:
        """The run configuration as it is now."""
        return RunConfig(
            user=self.user,
            exposed_ports=tuple(sorted(self.ports)),
            env=tuple(f"{name}={value}" for name, value in self.scope.env.items()),
            entrypoint=self.entrypoint,
            cmd=self.cmd,
            volumes=tuple(sorted(self.volumes)),
            working_dir=self.working_dir,
            labels=dict(self.labels),
            stop_signal=self.stop_signal,
            healthcheck=self.healthcheck,
            on_build=tuple(self.on_build),
            shell=self.shell,
            args_escaped=self.args_escaped,
            extra=self.extra,
        )


def scratch_state(platform: Platform) -> State:
    """``FROM scratch``: nothing but the default PATH and the root as working directory."""
    state = State(platform)
    state.set_env("PATH", DEFAULT_PATH)
    return state


def base_state(config: RunConfig, platform: Platform, author: str) -> State:
    """``FROM image``: everything but the triggers, which run now and are then gone."""
    state = State(
        platform,
        author=author,
        user=config.user,
        ports=set(config.exposed_ports),
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        volumes=set(config.volumes),
        working_dir=config.working_dir,
        labels=dict(config.labels),
        stop_signal=config.stop_signal,
        healthcheck=config.healthcheck,
        shell=config.shell,
        args_escaped=config.args_escaped,
        extra=config.extra,
    )
    for entry in config.env:
        name, _, value = entry.partition("=")
        state.set_env(name, value)
    if "PATH" not in state.scope.env:
        state.set_env("PATH", DEFAULT_PATH)
    return state
