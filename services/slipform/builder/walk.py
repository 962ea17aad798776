"""The walk over a plan's graph: look everything up first, then run what is missing, in parallel.

Keys chain through identities, which are known before anything runs. So the walk asks the cache
for every step, follows the graph down from the result, and stops at what is there: a stage whose
only reader is cached is never made.
"""

from __future__ import annotations

import queue
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from slipform.builder.cache import Record
from slipform.builder.explain import NO_CACHE, RESULT_GONE, miss_reason
from slipform.builder.faults import StepFailed
from slipform.builder.filesteps import write_copy, write_workdir
from slipform.builder.flights import Outcome
from slipform.builder.keys import step_inputs
from slipform.builder.running import RunStep
from slipform.builder.statcache import StatCache
from slipform.core.errors import Cancelled, DomainError
from slipform.core.folder import Folder
from slipform.core.plan import BaseOp, CopyOp, RunOp, WorkdirOp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from slipform.builder.flights import Flight, Flights, Listener
    from slipform.builder.job import Job
    from slipform.builder.running import Runner
    from slipform.builder.workshop import Recipe, Workshop
    from slipform.core.mounts import Mount
    from slipform.core.plan import Step

_CANCEL: Final = -1


class Reporter(Protocol):
    """Hears what becomes of steps; the build makes events of it. Called from many threads."""

    def listener(self, step: Step) -> Listener:
        """Who hears the output of a step."""
        ...

    def cached(self, step: Step) -> None:
        """The step's result was there."""
        ...

    def done(self, step: Step) -> None:
        """The step has a new result."""
        ...

    def failed(self, step: Step, message: str) -> None:
        """The step failed."""
        ...

    def cancelled(self, step: Step) -> None:
        """The step was stopped because of something else."""
        ...


@dataclass(slots=True)
class _Running:
    step: Step
    flight: Flight
    listener: Listener


class Walk:
    """One walk; ``run`` may be called once, ``cancel`` any time from any thread."""

    def __init__(
        self,
        job: Job,
        shop: Workshop,
        flights: Flights,
        runner: Runner,
        reporter: Reporter,
        *,
        parallel: int,
        committed: Callable[[Step, Outcome], None],
    ) -> None:
        self._job = job
        self._shop = shop
        self._flights = flights
        self._runner = runner
        self._reporter = reporter
        self._parallel = parallel
        self._committed = committed
        self._steps = {step.id: step for step in job.plan.steps}
        self._identities: dict[int, str] = {}
        self._recipes: dict[int, Recipe] = {}
        self._inbox: queue.SimpleQueue[tuple[int, Future[Outcome] | None]] = queue.SimpleQueue()
        self._running: dict[int, _Running] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.detached: list[Future[Outcome]] = []
        """Steps that go on for other builds after this one was stopped: they use our job."""

    def cancel(self) -> None:
        """Stop what runs; ``run`` raises ``Cancelled`` when it is gone."""
        self._inbox.put((_CANCEL, None))

    def run(self, keep: ExitStack) -> dict[int, Outcome]:
        """Make the plan's result.

        Args:
            keep: cached results in use are kept from pruning until this is closed.

        Returns:
            Outcomes by step id: of everything that was found or made.

        Raises:
            StepFailed: a step failed; others were stopped.
            Cancelled: ``cancel`` was called.
        """
        self._look_up(keep)
        needed = self._needed()
        for step in self._job.plan.steps:
            if step.id not in needed:
                self._reporter.cached(step)
        self._make(needed, keep)
        return self.outcomes

    def _look_up(self, keep: ExitStack) -> None:
        for step in self._job.plan.steps:
            if isinstance(step.op, BaseOp):
                self._identities[step.id] = self._job.identity_of_base(step.op)
                continue
            try:
                recipe = self._job.recipe(step, self._identities)
            except Cancelled:
                raise
            except DomainError as e:
                self._reporter.failed(step, str(e))
                raise StepFailed(step, e) from e
            self._recipes[step.id] = recipe
            found = None
            if not self._job.ignores_cache(step):
                found = self._shop.find_and_keep(recipe.key, keep)
            if found is None:
                self._identities[step.id] = recipe.key
                continue
            self._identities[step.id] = found.identity
            self.outcomes[step.id] = Outcome(
                found.snapshot, found.identity, found.created_ns, cached=True
            )

    def _needed(self) -> set[int]:
        """Steps that have to be made: those without a result that a needed step reads."""
        needed: set[int] = set()
        todo = [] if self._job.plan.result is None else [self._job.plan.result]
        while todo:
            number = todo.pop()
            if number in needed or number in self.outcomes:
                continue
            needed.add(number)
            todo += step_inputs(self._steps[number])
        return needed

    def _make(self, needed: set[int], keep: ExitStack) -> None:
        waiting = {
            number: {one for one in step_inputs(self._steps[number]) if one in needed}
            for number in sorted(needed)
        }
        try:
            while waiting or self._running:
                self._start_ready(waiting)
                number, future = self._inbox.get()
                if future is None:
                    raise Cancelled("the build was cancelled")
                if number not in self._running:
                    continue
                self._finish(number, future, keep)
                for inputs in waiting.values():
                    inputs.discard(number)
        except BaseException:
            self._stop_running()
            raise

    def _start_ready(self, waiting: dict[int, set[int]]) -> None:
        for number in [n for n, inputs in waiting.items() if not inputs]:
            if len(self._running) >= self._parallel:
                return
            del waiting[number]
            self._start(self._steps[number])

    def _start(self, step: Step) -> None:
        listener = self._reporter.listener(step)
        if isinstance(step.op, BaseOp):
            op = step.op
            flight = self._flights.join(
                f"base/{op.digest}", listener, lambda flight: self._unpack(op, flight)
            )
        else:
            recipe = self._current_recipe(step)
            name = recipe.key
            if recipe.unique:
                name = f"{recipe.key}/{id(self)}"
            flight = self._flights.join(
                name, listener, lambda flight: self._work(step, recipe, flight)
            )
        self._running[step.id] = _Running(step, flight, listener)
        flight.future.add_done_callback(lambda future: self._inbox.put((step.id, future)))

    def _current_recipe(self, step: Step) -> Recipe:
        """The recipe with the identities its inputs have now that they are there."""
        recipe = self._recipes[step.id]
        changed = any(
            self.outcomes[number].identity != self._identities[number]
            for number in step_inputs(step)
            if number in self.outcomes
        )
        if not changed:
            return recipe
        for number in step_inputs(step):
            if number in self.outcomes:
                self._identities[number] = self.outcomes[number].identity
        recipe = self._recipes[step.id] = self._job.recipe(step, self._identities)
        return recipe

    def _finish(self, number: int, future: Future[Outcome], keep: ExitStack) -> None:
        running = self._running.pop(number)
        step = running.step
        if future.cancelled():
            raise Cancelled("the build was cancelled")
        error = future.exception()
        if error is not None:
            if isinstance(error, Cancelled):
                self._reporter.cancelled(step)
                raise error
            self._reporter.failed(step, str(error))
            raise StepFailed(step, error, running.flight.tail())
        outcome = future.result()
        keep.enter_context(self._shop.using([outcome.snapshot]))
        self.outcomes[number] = outcome
        if outcome.cached:
            self._reporter.cached(step)
        else:
            self._reporter.done(step)
        self._committed(step, outcome)

    def _stop_running(self) -> None:
        """Leave every flight; wait for those that nobody else wants, so that nothing is left."""
        ending = []
        for running in self._running.values():
            if running.flight.leave(running.listener):
                ending.append(running.flight)
            else:
                self.detached.append(running.flight.future)
            self._reporter.cancelled(running.step)
        self._running.clear()
        for flight in ending:
            if not flight.future.cancel():
                flight.future.exception()

    def _unpack(self, op: BaseOp, flight: Flight) -> Outcome:
        flight.start("")
        unpacked = self._shop.images.unpack(op.digest, platform=op.platform)
        identity = self._job.identity_of_base(op)
        return Outcome(unpacked.snapshot, identity, self._shop.clock_ns())

    def _work(self, step: Step, recipe: Recipe, flight: Flight) -> Outcome:
        """Make one step's result; runs in the flight's thread."""
        if not recipe.unique:
            # Another build may have made it since this one looked.
            found = self._shop.find(recipe.key)
            if found is not None:
                return Outcome(found.snapshot, found.identity, found.created_ns, cached=True)
        with ExitStack() as stack:
            parent, identity = self._root(step)
            if isinstance(step.op, CopyOp) and step.op.from_step is not None:
                content = self._content_recipe(step, identity, stack)
                found = None if recipe.unique else self._shop.find(content.key)
                if found is not None:
                    return self._shop.alias(recipe, found)
                flight.start(self._reason(recipe))
                outcome = self._shop.make(recipe, parent, self._filler(step, flight))
                if not recipe.unique:
                    self._shop.alias(replace(content, place=""), _record(recipe, outcome))
                return outcome
            flight.start(self._reason(recipe))
            return self._shop.make(recipe, parent, self._filler(step, flight))

    def _root(self, step: Step) -> tuple[str, str]:
        """Snapshot and identity of what the step changes."""
        if step.rootfs is None:
            return "", "scratch"
        below = self.outcomes[step.rootfs]
        return below.snapshot, below.identity

    def _content_recipe(self, step: Step, rootfs: str, stack: ExitStack) -> Recipe:
        """Mount the stage that is copied from, and list what is copied."""
        op = step.op
        assert isinstance(op, CopyOp)  # noqa: S101 - for the type checker
        assert op.from_step is not None  # noqa: S101 - for the type checker
        mounts = stack.enter_context(self._shop.view(self.outcomes[op.from_step].snapshot))
        root = stack.enter_context(self._shop.mounted(mounts))
        folder = Folder(root, keep_owner=True)
        stack.callback(folder.close)
        known = StatCache(None).root("")
        return self._job.content_recipe(step, rootfs, folder, known)

    def _reason(self, recipe: Recipe) -> str:
        if recipe.unique:
            return NO_CACHE
        neighbours = self._shop.cache.neighbours(recipe.place)
        return miss_reason(recipe.document, recipe.listing, neighbours) or RESULT_GONE

    def _filler(self, step: Step, flight: Flight) -> Callable[[tuple[Mount, ...]], None]:
        def fill(mounts: tuple[Mount, ...]) -> None:
            match step.op:
                case RunOp() as op:
                    inputs = self._snapshots(step)
                    request = self._job.request
                    self._runner.run(RunStep(op, request, self._job.tree, inputs), mounts, flight)
                case CopyOp() as op:
                    self._copy(step, op, mounts, flight)
                case WorkdirOp() as op:
                    with self._shop.mounted(mounts) as root:
                        write_workdir(op, root)

        return fill

    def _copy(self, step: Step, op: CopyOp, mounts: tuple[Mount, ...], flight: Flight) -> None:
        sources = self._job.sources[step.id]
        fetched = tuple(self._job.downloader.fetch(remote) for remote in sources.remotes)
        with self._shop.mounted(mounts) as root:
            write_copy(
                op,
                replace(sources, remotes=fetched),
                root,
                flight,
                self._shop.clock_ns(),
                self._job.epoch,
            )

    def _snapshots(self, step: Step) -> Mapping[int, str]:
        return {number: self.outcomes[number].snapshot for number in step_inputs(step)}


def _record(recipe: Recipe, outcome: Outcome) -> Record:
    return Record(recipe.key, outcome.identity, outcome.snapshot, outcome.created_ns)
