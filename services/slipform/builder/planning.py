"""From a request to a plan: the Dockerfile is found, bases are resolved, the frontend asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from slipform.core.execution import Security
from slipform.core.oci.platform import host_platform
from slipform.core.plan import NeedBases, Plan, PlanRequest, ResolvedBase, RunOp

if TYPE_CHECKING:
    from slipform.core.build import BuildRequest
    from slipform.core.images import ImageDetails, ImageStore
    from slipform.core.plan import BaseImage, Frontend
    from slipform.core.source import SourceRange

INSECURE: Final = "security.insecure"
_MAX_ROUNDS: Final = 64
"""Each round resolves at least one base; more would be a frontend that asks in circles."""


class BaseMissing(FailedPrecondition):
    """A base image cannot be had: a result of the build, with the place of its FROM."""

    def __init__(self, message: str, source: SourceRange | None) -> None:
        super().__init__(message)
        self.source = source


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and the images it starts from, by manifest digest."""

    plan: Plan
    bases: dict[str, ImageDetails]


class Planner:
    """Asks the frontend until it needs nothing more.

    Bases of the Dockerfile that was planned last are offered at once, resolved anew: this spares
    the first of two rounds in the rebuilds that people wait for.
    """

    def __init__(self, frontend: Frontend, images: ImageStore) -> None:
        self._frontend = frontend
        self._images = images
        self._asked: dict[bytes, tuple[BaseImage, ...]] = {}

    def plan(self, request: BuildRequest, dockerfile: bytes, filename: str) -> Planned:
        """Make the plan.

        Raises:
            InvalidArgument: the Dockerfile or the request is wrong, or wants what is not allowed.
            BaseMissing: a base image does not exist here.
        """
        asked: list[BaseImage] = []
        bases: dict[str, ImageDetails] = {}
        resolved: list[ResolvedBase] = []
        for base in self._asked.get(dockerfile, ()):
            try:
                resolved.append(self._resolve(base, bases))
            except BaseMissing:
                continue  # perhaps another target or argument: the frontend will say
            asked.append(base)
        for _ in range(_MAX_ROUNDS):
            answer = self._frontend.plan(_plan_request(request, dockerfile, filename, resolved))
            if not isinstance(answer, NeedBases):
                _check_entitlements(answer, request)
                self._remember(dockerfile, asked)
                return Planned(answer, bases)
            for base in answer.bases:
                resolved.append(self._resolve(base, bases))
                asked.append(base)
        raise InvalidArgument(f"{filename}: more than {_MAX_ROUNDS} rounds of base images")

    def _resolve(self, base: BaseImage, bases: dict[str, ImageDetails]) -> ResolvedBase:
        try:
            details = self._images.get(base.reference, platform=base.platform)
        except NotFound as e:
            raise BaseMissing(
                f'base image "{base.reference}" for {base.platform} is not here: load, import or'
                " build it first",
                base.source,
            ) from e
        except DomainError as e:
            raise BaseMissing(f'base image "{base.reference}": {e}', base.source) from e
        digest = str(details.image.target.digest)
        bases[digest] = details
        return ResolvedBase(base.reference, base.platform, digest, details.config_bytes)

    def _remember(self, dockerfile: bytes, asked: list[BaseImage]) -> None:
        if len(self._asked) >= 64:
            self._asked.clear()
        self._asked[dockerfile] = tuple(asked)


def _check_entitlements(plan: Plan, request: BuildRequest) -> None:
    if INSECURE in request.allow:
        return
    for step in plan.steps:
        if isinstance(step.op, RunOp) and step.op.security is Security.INSECURE:
            raise InvalidArgument(
                f"RUN --security=insecure: the build does not allow {INSECURE}",
                source=step.source,
                source_line=step.source_text.partition("\n")[0],
                expected=f"--allow {INSECURE}, given by whoever builds",
            )


def _plan_request(
    request: BuildRequest, dockerfile: bytes, filename: str, resolved: list[ResolvedBase]
) -> PlanRequest:
    return PlanRequest(
        dockerfile=dockerfile,
        filename=filename,
        target=request.target,
        build_args=request.build_args,
        labels=request.labels,
        platform=request.platform,
        build_platform=host_platform(),
        network=request.network,
        bases=tuple(resolved),
    )
