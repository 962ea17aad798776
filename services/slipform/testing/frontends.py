"""What every frontend must do, whether it is called directly or through a channel.

A subclass supplies the fixture ``frontend`` (a ``Frontend``).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.oci.platform import Platform
from slipform.core.plan import (
    BaseOp,
    CopyOp,
    NeedBases,
    Plan,
    PlanRequest,
    ResolvedBase,
    RunOp,
    WorkdirOp,
)
from slipform.core.source import SourceRange

if TYPE_CHECKING:
    from slipform.core.plan import Frontend

AMD64 = Platform("linux", "amd64")


def resolved(reference: str, platform: Platform = AMD64, **config: Any) -> ResolvedBase:
    """A base as a builder would have found it."""
    value = {**platform.to_json(), "config": config, "rootfs": {"type": "layers", "diff_ids": []}}
    return ResolvedBase(reference, platform, f"sha256:{'0' * 64}", json.dumps(value).encode())


def request(dockerfile: str, *bases: ResolvedBase, **fields: Any) -> PlanRequest:
    """A request for a build on linux/amd64."""
    return PlanRequest(dockerfile.encode(), bases=bases, build_platform=AMD64, **fields)


class FrontendContract:
    """The promises of ``core.plan.Frontend``."""

    def test_parse_tells_instructions_and_stages(self, frontend: Frontend) -> None:
        text = (
            b'# syntax=docker/dockerfile:1\nFROM a AS b\nRUN --network=none <<E\nx\nE\nCMD ["c"]\n'
        )
        parsed = frontend.parse(text, "web.Dockerfile")
        assert [i.name for i in parsed.instructions] == ["FROM", "RUN", "CMD"]
        run = parsed.instructions[1]
        assert run.flags == (("network", "none"),)
        assert run.source == SourceRange("web.Dockerfile", 3, 5)
        assert run.heredocs[0].data == b"x\n"
        assert parsed.instructions[2].exec_form
        assert parsed.instructions[2].arguments == ("c",)
        assert (parsed.stages[0].name, parsed.stages[0].base) == ("b", "a")
        assert parsed.syntax == "docker/dockerfile:1"

    def test_faults_have_a_place(self, frontend: Frontend) -> None:
        with pytest.raises(InvalidArgument, match=r"f:2:1: unknown instruction: RUM") as caught:
            frontend.parse(b"FROM a\nRUM x\n", "f")
        assert caught.value.source == SourceRange("f", 2, 2)
        assert caught.value.source_line == "RUM x"
        assert caught.value.expected

    def test_bases_are_asked_for_all_at_once(self, frontend: Frontend) -> None:
        text = (
            "FROM a AS x\nFROM no\nFROM --platform=arm64 b\nCOPY --from=x / /\nCOPY --from=c / /\n"
        )
        found = frontend.plan(request(text))
        assert isinstance(found, NeedBases)
        asked = [(base.reference, str(base.platform)) for base in found.bases]
        assert sorted(asked) == [("a", "linux/amd64"), ("b", "linux/arm64"), ("c", "linux/amd64")]

    def test_a_base_may_need_more(self, frontend: Frontend) -> None:
        first = request("FROM a\n", resolved("a", OnBuild=["COPY --from=tool /t /t"]))
        found = frontend.plan(first)
        assert isinstance(found, NeedBases)
        assert [base.reference for base in found.bases] == ["tool"]
        plan = frontend.plan(replace(first, bases=(*first.bases, resolved("tool"))))
        assert isinstance(plan, Plan)
        assert plan.config.on_build == ()

    def test_plan_has_every_kind_of_step(self, frontend: Frontend) -> None:
        text = (
            "FROM a\nWORKDIR /w\nUSER u\nRUN --mount=type=cache,target=/c x\nADD --chown=1 f /d/\n"
        )
        plan = frontend.plan(request(text, resolved("a", Env=["A=1"], StopTimeout=3)))
        assert isinstance(plan, Plan)
        kinds = [type(step.op) for step in plan.steps]
        assert kinds == [BaseOp, WorkdirOp, RunOp, CopyOp]
        assert plan.chain == (1, 2, 3)
        assert plan.base == 0
        assert plan.result == 3
        run = plan.steps[2].op
        assert isinstance(run, RunOp)
        assert run.args == ("/bin/sh", "-c", "x")
        assert run.env[0] == "A=1"
        assert (run.cwd, run.user, run.mounts[0].target) == ("/w", "u", "/c")
        assert plan.config.extra == {"StopTimeout": 3}

    def test_plan_is_a_pure_function(self, frontend: Frontend) -> None:
        asked = request(
            "FROM scratch\nARG a=1\nRUN $a\nCMD []\nLABEL x=$y\n", build_args=(("z", "1"),)
        )
        assert frontend.plan(asked) == frontend.plan(asked)

    def test_scratch_alone_has_no_steps(self, frontend: Frontend) -> None:
        plan = frontend.plan(request("FROM scratch\nENTRYPOINT []\n"))
        assert isinstance(plan, Plan)
        assert (plan.steps, plan.result, plan.base, plan.chain) == ((), None, None, ())
        assert plan.config.entrypoint == ()
        assert plan.config.cmd is None

    def test_warnings_do_not_fail(self, frontend: Frontend) -> None:
        plan = frontend.plan(request("FROM scratch\nMAINTAINER me\n", build_args=(("no", "1"),)))
        assert isinstance(plan, Plan)
        assert [w.rule for w in plan.warnings] == ["MaintainerDeprecated", "UnusedBuildArg"]
        assert plan.author == "me"

    def test_unknown_target_suggests(self, frontend: Frontend) -> None:
        with pytest.raises(InvalidArgument, match="did you mean build"):
            frontend.plan(request("FROM scratch AS build\n", target="biuld"))
