"""Every folder below ``dockerfile/`` is a case: a Dockerfile, and the plan it must give.

``request.json`` holds what else the request says. Bases have an empty configuration, unless
``bases.json`` of the case has one for their reference. Below ``negative/``, ``error.txt`` is the
message, the source line and what was expected.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.core.errors import InvalidArgument
from slipform.core.execution import Network
from slipform.core.oci.config import RunConfig
from slipform.core.oci.platform import Platform
from slipform.core.plan import NeedBases, Plan, PlanRequest, ResolvedBase
from slipform.core.source import SourceRange
from slipform.frontend.frontend import DockerfileFrontend
from slipform.rpc.convert.frontend import (
    request_from_pb,
    request_to_pb,
    result_from_pb,
    result_to_pb,
)

HERE = Path(__file__).parent / "dockerfile"
POSITIVE = sorted(path for path in HERE.iterdir() if (path / "Dockerfile").exists())
NEGATIVE = sorted(path for path in (HERE / "negative").iterdir() if path.is_dir())
AMD64 = Platform("linux", "amd64")

Golden = Callable[[Path, str], None]


def _request(case: Path) -> PlanRequest:
    path = case / "request.json"
    extra: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return PlanRequest(
        dockerfile=(case / "Dockerfile").read_bytes(),
        target=extra.get("target", ""),
        build_args=tuple((name, value) for name, value in extra.get("build_args", [])),
        labels=tuple((name, value) for name, value in extra.get("labels", [])),
        platform=Platform.parse(extra["platform"]) if "platform" in extra else None,
        build_platform=AMD64,
        network=Network(extra.get("network", "host")),
    )


def _plan(case: Path) -> tuple[PlanRequest, Plan, list[str]]:
    """The plan, after as many rounds as its bases need; and the bases of each round."""
    frontend = DockerfileFrontend()
    path = case / "bases.json"
    configs: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    request = _request(case)
    rounds: list[str] = []
    for _ in range(5):
        result = frontend.plan(request)
        if isinstance(result, Plan):
            return request, result, rounds
        assert isinstance(result, NeedBases)
        rounds.append(" ".join(f"{b.reference}@{b.platform}" for b in result.bases))
        new = [
            ResolvedBase(
                base.reference,
                base.platform,
                _digest(base.reference),
                _config(base.platform, configs.get(base.reference, {})),
            )
            for base in result.bases
        ]
        request = dataclasses.replace(request, bases=(*request.bases, *new))
    raise AssertionError("planning wants ever more bases")


def _digest(reference: str) -> str:
    return f"sha256:{reference.encode().hex()[:64]:0<64}"


def _config(platform: Platform, config: dict[str, Any]) -> bytes:
    value = {**platform.to_json(), "config": config, "rootfs": {"type": "layers", "diff_ids": []}}
    return json.dumps(value).encode()


def _plain(value: Any) -> Any:
    """What a plan says, without fields that have their default value."""
    if isinstance(value, (Platform, SourceRange)):
        return str(value)
    if isinstance(value, RunConfig):
        return value.to_json()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode()
    if dataclasses.is_dataclass(value):
        pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        shown = {f.name: _plain(v) for f, v in pairs if v != f.default}
        return (
            {"op": type(value).__name__, **shown} if type(value).__name__.endswith("Op") else shown
        )
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


@pytest.mark.parametrize("case", POSITIVE, ids=lambda path: path.name)
def test_plan(case: Path, golden: Golden) -> None:
    request, plan, rounds = _plan(case)
    shown = {"needs": rounds, **_plain(plan)}
    golden(case / "plan.json", json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    _check_graph(plan)
    assert request_from_pb(request_to_pb(request)) == request
    assert result_from_pb(result_to_pb(plan)) == plan


def _check_graph(plan: Plan) -> None:
    """What every plan promises (``core.plan``)."""
    for i, step in enumerate(plan.steps):
        assert step.id == i
        used = [step.rootfs, getattr(step.op, "from_step", None)]
        used += [mount.from_step for mount in getattr(step.op, "mounts", ())]
        assert all(other is None or other < i for other in used)
    layers = [i for i, entry in enumerate(plan.history) if not entry.empty_layer]
    assert [plan.steps[i].history for i in plan.chain] == layers
    assert plan.result == (plan.chain[-1] if plan.chain else plan.base)
    below = plan.base
    for i in plan.chain:
        assert plan.steps[i].rootfs == below
        below = i


@pytest.mark.parametrize("case", NEGATIVE, ids=lambda path: path.name)
def test_error(case: Path, golden: Golden) -> None:
    with pytest.raises(InvalidArgument) as caught:
        _plan(case)
    error = caught.value
    text = f"{error}\n"
    if error.source_line:
        text += f"  {error.source_line}\n"
        if error.source is not None:
            text += "  " + " " * (error.source.start_column - 1) + "^\n"
    if error.expected:
        text += f"expected: {error.expected}\n"
    golden(case / "error.txt", text)
