"""One build: its thread, its events, its end."""

from __future__ import annotations

import logging
import threading
import uuid
from concurrent.futures import wait
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from slipform.builder.contexts import open_inputs
from slipform.builder.downloading import Downloader
from slipform.builder.events import EventQueue
from slipform.builder.faults import ProcessFailed, StepFailed
from slipform.builder.image import Assembler, Differ
from slipform.builder.job import Job
from slipform.builder.keys import step_digests
from slipform.builder.planning import BaseMissing
from slipform.builder.walk import Walk
from slipform.core.build import (
    BuildFailed,
    LogEvent,
    ProgressEvent,
    StepEvent,
    StepState,
    WarningEvent,
)
from slipform.core.errors import Cancelled, DomainError
from slipform.core.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from slipform.builder.flights import Flights, Outcome
    from slipform.builder.planning import Planner
    from slipform.builder.running import Runner
    from slipform.builder.workshop import Workshop
    from slipform.core.build import BuildEvent, BuildRequest, BuildSucceeded
    from slipform.core.context import ContextSource
    from slipform.core.execution import Stream
    from slipform.core.oci.digest import Digest
    from slipform.core.plan import Plan, Step

_log = logging.getLogger(__name__)
_CANCELLED: Final = "the build was cancelled"


class Build:
    """A running build; satisfies ``BuildHandle``. Iterate it once."""

    def __init__(
        self,
        request: BuildRequest,
        context: ContextSource | None,
        shop: Workshop,
        planner: Planner,
        flights: Flights,
        runner: Runner,
        differs: ThreadPoolExecutor,
        workers: int,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._request = request
        self._context = context
        self._shop = shop
        self._planner = planner
        self._flights = flights
        self._runner = runner
        self._differs = differs
        self._parallel = request.max_parallelism or workers
        self._events = EventQueue()
        self._lock = threading.Lock()
        self._cancelled = False
        self._walk: Walk | None = None
        self._thread: threading.Thread | None = None

    def start(self, ended: Callable[[Build], None]) -> None:
        """Run in a thread of its own; ``ended`` is called from it when all is released."""
        self._thread = threading.Thread(
            target=self._main, args=(ended,), name=f"build-{self.id[:8]}", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when everything the build used is released."""
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Iterator[BuildEvent]:
        return iter(self._events)

    def cancel(self) -> None:
        """As ``BuildHandle.cancel``."""
        with self._lock:
            self._cancelled = True
            walk = self._walk
        if walk is not None:
            walk.cancel()

    def _main(self, ended: Callable[[Build], None]) -> None:
        try:
            with ExitStack() as keep:
                self._guarded(keep)
        finally:
            ended(self)

    def _guarded(self, keep: ExitStack) -> None:
        finished = False
        try:
            self._run(keep)
            finished = True
        except (Cancelled, StepFailed, BaseMissing) as e:
            self._events.put(_failure(e))
            finished = True
        except DomainError as e:
            if self._walk is None:
                self._events.fail(e)
            else:
                self._events.put(BuildFailed(str(e)))
            finished = True
        finally:
            # Whatever happens, whoever reads must hear that the build has ended.
            if not finished:
                self._events.put(BuildFailed("internal error: see the builder's log"))
            if self._walk is not None and self._walk.detached:
                # Others still wait for steps that read this build's context.
                wait(self._walk.detached)

    def _run(self, keep: ExitStack) -> None:
        for text in self._request.references:
            Reference.parse(text)
        inputs = open_inputs(self._request, self._context)
        keep.callback(inputs.close)
        planned = self._planner.plan(self._request, inputs.dockerfile, inputs.filename)
        plan = planned.plan
        scratch = keep.enter_context(self._shop.scratch()) if _downloads(plan) else self._shop.state
        downloader = Downloader(self._shop.cache, scratch, _proxies(self._request), self._check)
        known = self._shop.stats.root(inputs.root)
        job = Job(plan, self._request, planned.bases, inputs.tree, known, downloader, self._check)
        reporter = _Reporter(self._events, plan)
        reporter.queued()
        differ = Differ(self._shop, self._differs, job.epoch)
        walk = Walk(
            job,
            self._shop,
            self._flights,
            self._runner,
            reporter,
            parallel=self._parallel,
            committed=_diff_of_chain(plan, differ),
        )
        with self._lock:
            self._walk = walk
        self._check()
        outcomes = walk.run(keep)
        self._check()
        self._events.put(self._assembled(job, differ, outcomes))

    def _assembled(self, job: Job, differ: Differ, outcomes: dict[int, Outcome]) -> BuildSucceeded:
        return Assembler(job, self._shop, differ, self.id).assemble(outcomes)

    def _check(self) -> None:
        if self._cancelled:
            raise Cancelled(_CANCELLED)


class _Reporter:
    """Makes events of what the walk reports."""

    def __init__(self, events: EventQueue, plan: Plan) -> None:
        self._events = events
        self._plan = plan
        self._digests = step_digests(plan)
        self._ended: set[int] = set()

    def queued(self) -> None:
        """Announce all steps, and what the frontend found odd."""
        for warning in self._plan.warnings:
            self._events.put(WarningEvent(warning))
        for step in self._plan.steps:
            self._step(step, StepState.QUEUED)

    def listener(self, step: Step) -> _Listener:
        """Who hears the output of a step."""
        return _Listener(self._events, step, self._digests[step.id])

    def cached(self, step: Step) -> None:
        """The step's result was there."""
        self._step(step, StepState.CACHED)

    def done(self, step: Step) -> None:
        """The step has a new result."""
        self._step(step, StepState.DONE)

    def failed(self, step: Step, message: str) -> None:
        """The step failed."""
        self._step(step, StepState.FAILED, message)

    def cancelled(self, step: Step) -> None:
        """The step was stopped because of something else."""
        self._step(step, StepState.CANCELLED)

    def _step(self, step: Step, state: StepState, error: str = "") -> None:
        at = datetime.now(UTC)
        self._events.put(
            StepEvent(step.id, self._digests[step.id], step.name, state, at, error=error)
        )


class _Listener:
    """One step's output as events."""

    def __init__(self, events: EventQueue, step: Step, digest: Digest) -> None:
        self._events = events
        self._step = step
        self._digest = digest

    def started(self, miss_reason: str) -> None:
        """The step has really begun."""
        step = self._step
        at = datetime.now(UTC)
        self._events.put(
            StepEvent(
                step.id, self._digest, step.name, StepState.STARTED, at, miss_reason=miss_reason
            )
        )

    def output(self, stream: Stream, data: bytes, at: datetime) -> None:
        """The step's process wrote."""
        self._events.put(LogEvent(self._step.id, stream, data, at))

    def progress(self, what: str, current: int, total: int, unit: str) -> None:
        """How far a long piece of work has come."""
        at = datetime.now(UTC)
        self._events.put(ProgressEvent(self._step.id, what, current, total, unit, at))


def _failure(error: Cancelled | StepFailed | BaseMissing) -> BuildFailed:
    if isinstance(error, Cancelled):
        return BuildFailed(_CANCELLED, cancelled=True)
    if isinstance(error, BaseMissing):
        return BuildFailed(str(error), source=error.source)
    step, cause = error.step, error.error
    internal = not isinstance(cause, DomainError)
    if internal:
        _log.error("internal error in step %s", step.name, exc_info=cause)
    return BuildFailed(
        "internal error: see the builder's log" if internal else str(cause),
        step=step.id,
        step_name=step.name,
        source=step.source,
        source_text=step.source_text,
        exit_code=cause.exit_code if isinstance(cause, ProcessFailed) else None,
        tail=error.tail,
    )


def _diff_of_chain(plan: Plan, differ: Differ) -> Callable[[Step, Outcome], None]:
    chain = set(plan.chain)

    def committed(step: Step, outcome: Outcome) -> None:
        if step.id in chain and outcome.snapshot:
            differ.start(outcome.snapshot)

    return committed


def _downloads(plan: Plan) -> bool:
    return any(getattr(step.op, "urls", ()) for step in plan.steps)


def _proxies(request: BuildRequest) -> dict[str, str]:
    given = dict(request.build_args)
    proxies = {}
    for scheme in ("http", "https"):
        value = given.get(f"{scheme.upper()}_PROXY") or given.get(f"{scheme}_proxy")
        if value:
            proxies[scheme] = value
    return proxies
