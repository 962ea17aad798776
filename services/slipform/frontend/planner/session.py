"""One planning run: the steps made so far, and what every part of it needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from slipform.core.plan import BaseOp, Step, WorkdirOp
from slipform.frontend.dockerfile.expand import Budget, Expander
from slipform.frontend.dockerfile.text import TextError, did_you_mean
from slipform.frontend.planner.graph import SCRATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.core.errors import InvalidArgument
    from slipform.core.plan import Operation, PlannedHistory, PlanRequest
    from slipform.frontend.dockerfile import instructions as ins
    from slipform.frontend.dockerfile.lexer import Statement
    from slipform.frontend.planner.advice import Advice
    from slipform.frontend.planner.graph import Graph, Image, Source
    from slipform.frontend.planner.state import State

T = TypeVar("T")


@dataclass(slots=True)
class Session:
    """Shared by all stages of one plan."""

    request: PlanRequest
    graph: Graph
    advice: Advice
    build_args: dict[str, str]
    globals: dict[str, str | None]
    escape: str
    proxy_env: tuple[str, ...]
    budget: Budget
    steps: list[Step] = field(default_factory=list)
    done: dict[int, State] = field(default_factory=dict)
    """States of the stages that are planned, by index."""
    lineage: frozenset[int] = frozenset()
    """The target and the stages its FROM chain goes through: their steps make the image."""
    _bases: dict[Image, int] = field(default_factory=dict)
    _empty: int | None = None

    def base(self, image: Image, name: str, stage: str, statement: Statement) -> int:
        """The step of an image's root file system; one for all who use it."""
        found = self._bases.get(image)
        if found is None:
            digest = self.graph.bases[image].digest
            op = BaseOp(image.reference, digest, image.platform)
            found = self._bases[image] = self.add(op, None, name, stage, statement)
        return found

    def root(self, source: Source, stage: str, statement: Statement) -> int:
        """The step whose root ``--from`` reads."""
        if isinstance(source, int):
            found = self.done[source].rootfs
            return self._empty_root(stage, statement) if found is None else found
        if source.reference == SCRATCH:
            return self._empty_root(stage, statement)
        return self.base(source, f"FROM {source.reference}", stage, statement)

    def _empty_root(self, stage: str, statement: Statement) -> int:
        """A root with nothing in it, for those who copy from a stage without steps."""
        if self._empty is None:
            self._empty = self.add(WorkdirOp("/"), None, "FROM scratch", stage, statement)
        return self._empty

    def add(
        self,
        op: Operation,
        rootfs: int | None,
        name: str,
        stage: str,
        statement: Statement,
        history: int | None = None,
    ) -> int:
        """Append a step; its id is its place in the plan."""
        step = Step(
            len(self.steps), op, rootfs, name, stage, statement.range, statement.text, history
        )
        self.steps.append(step)
        return step.id

    def charge(self, size: int, statement: Statement) -> None:
        """Count text that a plan repeats, such as the arguments in every RUN's history.

        Raises:
            InvalidArgument: the plan would become absurdly large.
        """
        try:
            self.budget.charge(size)
        except TextError as e:
            raise statement.fault(str(e)) from e


@dataclass(slots=True)
class StageContext:
    """One stage while it is planned: expansion, advice, steps with their names."""

    session: Session
    stage: ins.Stage
    state: State
    total: int
    """Steps of the stage, for their names."""
    number: int = 0
    _expander: Expander = field(init=False)

    def __post_init__(self) -> None:
        session = self.session
        self._expander = Expander(self._get, session.escape, budget=session.budget)

    def _get(self, name: str) -> str | None:
        return self.state.scope.get(name)

    def expand(self, text: str, statement: Statement) -> str:
        """One word with the variables of this point.

        Raises:
            InvalidArgument: the expansion is malformed, or says no itself.
        """
        return self._checked(self._expander.word, text, statement) if text else ""

    def expand_words(self, text: str, statement: Statement) -> list[str]:
        """The words that a text becomes."""
        return self._checked(self._expander.words, text, statement)

    def expand_body(self, text: str, statement: Statement) -> str:
        """The body of a heredoc: quotes are text, and the escape is always a backslash."""
        expander = Expander(self._get, "\\", keep_quotes=True, budget=self.session.budget)
        value = self._checked(expander.word, text, statement)
        self._expander.missing |= expander.missing
        return value

    def _checked(self, run: Callable[[str], T], text: str, statement: Statement) -> T:
        try:
            return run(text)
        except TextError as e:
            raise place(e, text, statement) from e

    def report_missing(self, statement: Statement) -> None:
        """Advise about variables that the instruction used and nobody defined."""
        missing = self._expander.missing
        if not missing:
            return
        for name in sorted(filter(str.isidentifier, missing)):
            hint = did_you_mean(name, self.state.scope.names()).replace("mean ", "mean $")
            message = f"Usage of undefined variable '${name}'{hint}"
            self.session.advice.add("UndefinedVar", message, statement)
        missing.clear()

    def step_name(self, text: str) -> str:
        """``[build 2/5] RUN make``."""
        self.number += 1
        name = self.stage.origin.name
        if not name and len(self.session.graph.dockerfile.stages) > 1:
            name = f"stage-{self.stage.index}"
        width = len(str(self.total))
        return f"[{name}{' ' if name else ''}{self.number:>{width}}/{self.total}] {text}"

    def layer(self, op: Operation, statement: Statement, entry: PlannedHistory) -> None:
        """Append a step that changes the root, and the history entry of its layer."""
        state = self.state
        text = statement.text[len(statement.keyword) :].lstrip()
        name = self.step_name(f"{statement.name} {text}" if text else statement.name)
        session = self.session
        entries = len(state.history) if self.stage.index in session.lineage else None
        session.charge(len(entry.created_by), statement)
        state.rootfs = session.add(op, state.rootfs, name, self.stage.label, statement, entries)
        state.history.append(entry)
        state.chain.append(state.rootfs)


def place(error: TextError, text: str, statement: Statement) -> InvalidArgument:
    """Point at an offset of a text that came from somewhere in a statement."""
    begin = statement.text.find(text, len(statement.keyword)) if text else -1
    offset = begin + error.offset if begin >= 0 else 0
    return statement.fault(str(error), offset, error.expected)
